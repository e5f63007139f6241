//! What an engine is told: the settings that matter to it, and how its worker class wants connections.

use std::time::Duration;

use crate::app::SpoolLimits;
use crate::config::Config;
use crate::http::Policy;
use crate::worker::Control;

/// How an engine behaves.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// What a request head is checked against.
    pub policy: Policy,
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
    /// How connections are accepted.
    pub accept: Accept,
}

/// How a worker class wants its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// As they come, several at a time.
    Eagerly,
    /// One at a time and only while no request waits, so that connections go to whichever worker is free.
    WhileIdle,
}

impl EngineConfig {
    /// The settings that matter to an engine, for connections accepted as they come.
    pub fn new(config: &Config) -> Self {
        EngineConfig {
            policy: config.http_policy(),
            spool: config.spool_limits(),
            limit_request_body: config.limit_request_body,
            worker_connections: config.worker_connections.max(1),
            keepalive: config.keepalive,
            client_header_timeout: config.client_header_timeout,
            client_body_timeout: config.client_body_timeout,
            send_timeout: config.send_timeout,
            leaving: Control::stop_has_come,
            accept: Accept::Eagerly,
        }
    }
}
