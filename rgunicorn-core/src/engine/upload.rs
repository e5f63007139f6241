//! A request body that arrives while the application runs: read from the socket as the application asks for it.
//!
//! The application has one end of it ([`Body`](crate::app::Body)), in whatever thread, for as long as it likes; the
//! connection has the other, until the response is over. Nothing is read ahead of the reader but what one `recv` brings,
//! so that a fast client and a slow application cost no memory. Nothing here waits with the lock held.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::config::EngineConfig;
use super::transport::{Moved, Transport};
use crate::app::{Spool, Streaming};
use crate::http::{BodyDecoder, Policy, Refusal};
use crate::sync::lock;

/// How much one `recv` may bring.
const STEP: usize = 64 * 1024;
/// So much of a body that the application has left unread is worth reading, to keep the connection.
pub(super) const WORTH_SKIPPING: u64 = 1024 * 1024;

/// The body of one request. Shared by its connection, its response and whoever reads it.
#[derive(Debug)]
pub(crate) struct Upload {
    state: Mutex<State>,
    policy: Arc<Policy>,
    limit: u64,
    /// How long the client may pause; none for ever.
    patience: Option<Duration>,
}

#[derive(Debug)]
struct State {
    /// Came before the application was called.
    early: Spool,
    /// As long as the client may keep the reader waiting.
    streaming: Option<Streaming>,
    /// None once the response is over.
    source: Option<Arc<Transport>>,
    decoder: BodyDecoder,
    /// Received and not decoded; behind the end of the body that is the client's next request.
    encoded: Vec<u8>,
    /// Decoded and not read yet, from `read` on.
    content: Vec<u8>,
    read: usize,
    /// How many bytes of content have come.
    received: u64,
    /// How many bytes were received that nobody has counted.
    uncounted: u64,
    /// How many there will be, where the client has said so.
    length: Option<u64>,
    stage: Stage,
    /// How many wait for the client.
    waiting: usize,
    /// What is left of the `100 Continue` that the client waits for.
    greeting: &'static [u8],
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Arriving,
    Ended,
    /// Whatever is read further is this.
    Failed(Failure),
}

/// Why a body did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The client has left.
    Gone,
    /// It broke a rule, a limit or our patience.
    Refused(Refusal),
}

impl Failure {
    fn error(&self) -> io::Error {
        match self {
            Failure::Gone => io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the client disconnected before the request body had arrived",
            ),
            Failure::Refused(refusal) => {
                let timeout = refusal.status == 408;
                let kind = if timeout { io::ErrorKind::TimedOut } else { io::ErrorKind::InvalidData };
                io::Error::new(kind, refusal.message.clone())
            }
        }
    }
}

/// What the connection gets back.
#[derive(Debug)]
pub(super) enum Remains {
    /// All of the body has come, and these bytes behind it.
    Nothing(Vec<u8>),
    /// So much is still to come, if that is known.
    Unread(BodyDecoder, Option<u64>),
    /// The connection can't be made sense of any more.
    Spoilt,
}

/// How a body begins: what its connection knows when it hands the request on.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) decoder: BodyDecoder,
    pub(super) early: Spool,
    pub(super) length: Option<u64>,
    /// The client waits for `100 Continue`.
    pub(super) greet: bool,
}

impl Upload {
    pub(super) fn new(source: &Arc<Transport>, beginning: Beginning, config: &EngineConfig) -> Self {
        let Beginning { decoder, early, length, greet } = beginning;
        Upload {
            state: Mutex::new(State {
                streaming: Some(config.spool.allowance.stream()),
                source: Some(Arc::clone(source)),
                decoder,
                encoded: Vec::new(),
                received: early.len(),
                early,
                uncounted: 0,
                content: Vec::new(),
                read: 0,
                length,
                stage: Stage::Arriving,
                waiting: 0,
                greeting: if greet { b"HTTP/1.1 100 Continue\r\n\r\n" } else { b"" },
            }),
            policy: Arc::clone(&config.policy),
            limit: config.limit_request_body,
            patience: (!config.client_body_timeout.is_zero()).then_some(config.client_body_timeout),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// How many bytes were received since the last call.
    pub(super) fn take_received(&self) -> u64 {
        std::mem::take(&mut self.state().uncounted)
    }

    /// How many bytes are left to be read, where that is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        let state = self.state();
        let here = (state.content.len() - state.read) as u64 + state.early.remaining();
        match (&state.stage, state.length) {
            (Stage::Ended, _) => Some(here),
            (_, Some(length)) => Some(length - state.received + here),
            _ => None,
        }
    }

    /// Reads what is there; 0 at the end of the body.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there yet; anything else is final.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        if state.early.remaining() > 0 {
            return state.early.read(buffer);
        }
        loop {
            let rest = state.content.get(state.read..).unwrap_or(&[]);
            if !rest.is_empty() || buffer.is_empty() {
                let count = rest.len().min(buffer.len());
                let (into, from) = (buffer.get_mut(..count), rest.get(..count));
                if let (Some(into), Some(from)) = (into, from) {
                    into.copy_from_slice(from);
                }
                state.read += count;
                return Ok(count);
            }
            match &state.stage {
                Stage::Ended => return Ok(0),
                Stage::Failed(failure) => return Err(failure.error()),
                Stage::Arriving => {}
            }
            let Some(source) = state.source.clone() else {
                let message = "the response is over; what the client had not sent by then can't be read";
                return Err(io::Error::other(message));
            };
            state.receive(&source, &self.policy, self.limit)?;
        }
    }

    /// Waits, for as long as the client may pause, until there may be something to read. The caller must hold no lock that
    /// others need.
    pub(crate) fn wait(&self) {
        let (source, flags) = {
            let mut state = self.state();
            let Some(source) = state.source.clone() else { return };
            // Nobody waits for what is there already.
            let is_here = state.read < state.content.len() || state.early.remaining() > 0;
            if state.stage != Stage::Arriving || is_here {
                return;
            }
            let room = if state.greeting.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
            state.waiting += 1;
            (source, PollFlags::POLLIN | room)
        };
        let timeout = self.patience.map_or(PollTimeout::NONE, |patience| {
            PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)
        });
        let polled = poll(&mut [PollFd::new(source.as_fd(), flags)], timeout);
        self.state().waiting -= 1;
        if polled == Ok(0) {
            self.time_out();
        }
    }

    /// The client has paused for too long.
    pub(crate) fn time_out(&self) {
        let mut state = self.state();
        if state.stage == Stage::Arriving && state.source.is_some() {
            let refusal = Refusal::timeout("the client paused too long while sending the request body");
            state.fail(Failure::Refused(refusal));
        }
    }

    /// Why the body has not arrived, if it can't any more.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match &self.state().stage {
            Stage::Failed(failure) => Some(failure.clone()),
            _ => None,
        }
    }

    /// A response is about to begin: no `100 Continue` may follow. Whether the connection can be of use after it, as far as
    /// can be known: not if a body is yet to come that isn't worth reading, or that may never come.
    pub(crate) fn response_begins(&self) -> bool {
        let mut state = self.state();
        let waits_for_us = !std::mem::take(&mut state.greeting).is_empty();
        let left = state.length.map(|length| length - state.received);
        match state.stage {
            Stage::Ended => true,
            Stage::Arriving => !waits_for_us && left.is_none_or(|left| left <= WORTH_SKIPPING),
            Stage::Failed(_) => false,
        }
    }

    /// The response is over: from now on the connection is the engine's. What has come can still be read.
    pub(super) fn end(&self) -> Remains {
        let mut state = self.state();
        let source = state.source.take();
        state.streaming = None;
        match state.stage {
            // Two can't read from one descriptor, and those who wait in poll(2) can only be told by the descriptor.
            Stage::Arriving if state.waiting > 0 => {
                if let Some(source) = source {
                    source.end_reading();
                }
                Remains::Spoilt
            }
            Stage::Ended => Remains::Nothing(std::mem::take(&mut state.encoded)),
            Stage::Arriving => {
                let left = state.length.map(|length| length - state.received);
                Remains::Unread(state.decoder.clone(), left)
            }
            Stage::Failed(_) => Remains::Spoilt,
        }
    }
}

impl State {
    /// Receives and decodes what one `recv` brings.
    fn receive(&mut self, source: &Transport, policy: &Policy, limit: u64) -> io::Result<()> {
        while !self.greeting.is_empty() {
            match source.write(self.greeting) {
                Ok(Moved::Some(count)) => self.greeting = self.greeting.get(count..).unwrap_or(b""),
                Ok(Moved::Blocked | Moved::Closed) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(_) => return Err(self.fail(Failure::Gone)),
            }
        }
        self.content.clear();
        self.read = 0;
        self.encoded.reserve(STEP);
        match source.read(&mut self.encoded) {
            Ok(Moved::Some(count)) => self.uncounted += count as u64,
            Ok(Moved::Blocked) => return Err(io::ErrorKind::WouldBlock.into()),
            Ok(Moved::Closed) | Err(_) => return Err(self.fail(Failure::Gone)),
        }
        let (content, encoded) = (&mut self.content, &mut self.encoded);
        match self.decoder.decode(encoded, policy, &mut |piece| content.extend_from_slice(piece)) {
            Ok(decoded) => {
                encoded.drain(..decoded.consumed);
                if decoded.done {
                    self.stage = Stage::Ended;
                    self.streaming = None;
                }
            }
            Err(refusal) => return Err(self.fail(Failure::Refused(refusal))),
        }
        self.received += self.content.len() as u64;
        if limit > 0 && self.received > limit {
            self.content.clear();
            return Err(self.fail(Failure::Refused(Refusal::body_over_limit(limit))));
        }
        Ok(())
    }

    fn fail(&mut self, failure: Failure) -> io::Error {
        let error = failure.error();
        self.streaming = None;
        self.stage = Stage::Failed(failure);
        error
    }
}
