//! What an engine is told: the settings that matter to it, and how its worker class wants connections.

use super::Pages;
use std::sync::Arc;
use std::time::Duration;

use crate::app::SpoolLimits;
use crate::config::Config;
use crate::http::proxy::ProxyVersions;
use crate::http::{AllowList, BodyFraming, Policy};
use crate::worker::Control;

/// How an engine behaves.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// What a request head is checked against.
    pub policy: Arc<Policy>,
    /// The versions of the PROXY protocol that connections may begin with.
    pub proxy_protocol: ProxyVersions,
    /// Who may begin a connection so.
    pub proxy_allow: AllowList,
    /// Where large bodies go.
    pub spool: SpoolLimits,
    /// The largest request body, in bytes; 0 for no limit (413 beyond).
    pub limit_request_body: u64,
    /// How many connections may be open at once; more wait in the listen queue.
    pub worker_connections: usize,
    /// How long a connection may be idle between two requests; zero closes it after each response.
    pub keepalive: Duration,
    /// How long a request head may take; zero for no limit.
    pub client_header_timeout: Duration,
    /// How long a client may pause while it sends a body; zero for no limit.
    pub client_body_timeout: Duration,
    /// How long a client may pause while it takes a response; zero for no limit.
    pub send_timeout: Duration,
    /// Asked when a response head is finished: whether the worker is about to leave, so that the client had better not
    /// send another request on the connection.
    pub leaving: fn() -> bool,
    /// What is answered without the application.
    pub pages: Option<Pages>,
    /// How connections are accepted.
    pub accept: Accept,
    /// How request bodies reach the application.
    pub bodies: Bodies,
}

/// How a worker class wants its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// As they come, several at a time.
    Eagerly,
    /// One at a time and only while no request waits, so that connections go to whichever worker is free.
    WhileIdle,
}

/// How request bodies reach the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bodies {
    /// Whole: the application is called once all has arrived, in memory or in a temporary file. For classes with a thread
    /// that must never wait for a client.
    Whole,
    /// A small one whole, so that no slow client holds up a thread with it; of others the application reads what has come,
    /// and its thread (or coroutine) waits for the rest.
    Waited {
        /// For so many at a time. Further ones come whole, or at least until one of these has arrived: clients that take their
        /// time are not to have all threads.
        most: usize,
    },
    /// The application is called as soon as there is a request head, reads what has come, and is told by
    /// [`Engine::next_stirred`](super::Engine::next_stirred) when to try again.
    Polled,
}

impl Bodies {
    /// Up to this length a body isn't worth a thread that waits for it.
    const SMALL: u64 = 64 * 1024;

    /// For a class that can be in `capacity` requests at once, each of which may wait for its body: half of them do.
    pub fn waited(capacity: usize) -> Self {
        Bodies::Waited { most: capacity / 2 }
    }

    /// Whether the application is called before a body of this framing has arrived. `waits` says that the client waits to
    /// be told to send it; `streams` is for how many others that is so.
    pub(super) fn stream(self, framing: BodyFraming, waits: bool, streams: usize) -> bool {
        match (self, framing) {
            (Bodies::Whole, _) | (_, BodyFraming::None) => false,
            (Bodies::Polled, _) => true,
            (Bodies::Waited { most }, _) if streams >= most => false,
            (Bodies::Waited { .. }, BodyFraming::Length(length)) => waits || length > Self::SMALL,
            (Bodies::Waited { .. }, BodyFraming::Chunked) => true,
        }
    }

    /// Whether it ever is.
    pub(super) fn may_stream(self) -> bool {
        !matches!(self, Bodies::Whole | Bodies::Waited { most: 0 })
    }
}

impl EngineConfig {
    /// The settings that matter to an engine, for connections accepted as they come.
    pub fn new(config: &Config) -> Self {
        EngineConfig {
            policy: Arc::new(config.http_policy()),
            proxy_protocol: config.proxy_protocol.as_str().into(),
            proxy_allow: config.proxy_allow_ips.clone(),
            spool: config.spool_limits(),
            limit_request_body: config.limit_request_body,
            worker_connections: config.worker_connections.max(1),
            keepalive: config.keepalive,
            client_header_timeout: config.client_header_timeout,
            client_body_timeout: config.client_body_timeout,
            send_timeout: config.send_timeout,
            leaving: Control::stop_has_come,
            pages: Pages::of(config),
            accept: Accept::Eagerly,
            bodies: Bodies::Whole,
        }
    }
}
