//! Request bodies that wait for others: until an application may read them while they arrive, or, where `tmp_upload_limit` is
//! used up as well, until more of them may be read at all.
//!
//! Of a body that is stalled nothing is read, so that its client has to wait as well, for up to `client_body_timeout`.

use std::io;
use std::time::{Duration, Instant};

use super::buffers::READ_SIZE;
use super::config::EngineConfig;
use super::connection::{Connection, Phase};
use super::{Engine, deadline};
use crate::app::{Admission, SpoolLimits};
use crate::http::Refusal;

/// How long it takes at most until it is noticed that there is room. What others have read is dropped in any thread.
const LOOK: Duration = Duration::from_millis(50);

/// How many entries beyond those of the connections there may be.
const SPARE: usize = 64;

/// How a connection's body waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wait {
    /// Its connection is listed.
    listed: bool,
    /// Nothing more of it is read.
    pub(super) stalled: bool,
}

/// Connections whose bodies wait.
#[derive(Debug, Default)]
pub(super) struct Stalled {
    /// Their keys and serial numbers.
    connections: Vec<(usize, u64)>,
    /// What the allowance was at when they were looked at.
    seen: u64,
}

impl Connection {
    /// Whether more of the current request's body may be read.
    pub(super) fn admits_body(&self, config: &EngineConfig) -> Admission {
        if self.phase != Phase::Body || self.stays_in_memory(config) || self.body_streams(config) {
            return Admission::Yes;
        }
        match self.spooled().admission(&config.spool) {
            // For this one, a thread may still come.
            Admission::TooLarge if config.bodies.may_stream() => Admission::Wait,
            admission => admission,
        }
    }

    fn stays_in_memory(&self, config: &EngineConfig) -> bool {
        let most = config.spool.memory as u64;
        self.body_length().is_some_and(|length| length <= most)
            || self.spooled().len() + READ_SIZE as u64 <= most
    }

    /// Whether it waits for others, in one way or the other.
    fn waits_for_others(&self, config: &EngineConfig) -> bool {
        self.phase == Phase::Body
            && !self.body_streams(config)
            && match self.wait.stalled {
                true => self.admits_body(config) == Admission::Wait,
                false => self.body_could_stream(config),
            }
    }
}

impl Engine {
    /// There is no room for more of a connection's body.
    pub(super) fn stall(&mut self, key: usize) {
        let by = deadline(self.now, self.config.client_body_timeout);
        let Some(connection) = self.connection(key) else { return };
        if !std::mem::replace(&mut connection.wait.stalled, true) {
            connection.deadline = by;
            self.list(key);
            self.arm(key);
        }
        self.register(key);
    }

    /// A connection waits for more of a body, which the application would read if fewer others were read so.
    pub(super) fn await_stream(&mut self, key: usize) {
        let place = self.places.get(key).and_then(|place| place.connection.as_deref());
        if place.is_some_and(|it| it.phase == Phase::Body && it.body_could_stream(&self.config)) {
            self.list(key);
        }
    }

    fn list(&mut self, key: usize) {
        let Some(connection) = self.connection(key) else { return };
        if std::mem::replace(&mut connection.wait.listed, true) {
            return;
        }
        let serial = connection.serial;
        // Those that have left by themselves are not to pile up.
        if self.stalled.connections.len() >= 2 * self.places.len() + SPARE {
            let places = &self.places;
            self.stalled.connections.retain(|(key, serial)| {
                let place = places.get(*key);
                place.is_some_and(|it| it.connection.as_ref().is_none_or(|it| it.serial == *serial))
            });
        }
        self.stalled.connections.push((key, serial));
    }

    /// Whether [`unstall`](Self::unstall) may have something to do.
    pub(super) fn may_unstall(&self) -> bool {
        !self.stalled.connections.is_empty() && self.stalled.seen != self.config.spool.allowance.released()
    }

    /// When to look for room, though nothing has happened here.
    pub(super) fn look_for_room_at(&self) -> Option<Instant> {
        (!self.stalled.connections.is_empty()).then(|| self.now + LOOK)
    }

    /// Goes on with the bodies that there is room for.
    pub(super) fn unstall(&mut self) {
        if !self.may_unstall() {
            return;
        }
        self.stalled.seen = self.config.spool.allowance.released();
        for (key, serial) in std::mem::take(&mut self.stalled.connections) {
            let config = &self.config;
            let Some(place) = self.places.get_mut(key) else { continue };
            let connection = match place.connection.as_deref_mut() {
                Some(connection) if connection.serial != serial => continue,
                Some(connection) if !connection.waits_for_others(config) => connection,
                // One that is lent out knows that it is listed.
                _ => {
                    self.stalled.connections.push((key, serial));
                    continue;
                }
            };
            let waited = std::mem::take(&mut connection.wait);
            if connection.phase == Phase::Body {
                if waited.stalled {
                    connection.deadline = None;
                }
                self.progress(key);
            }
        }
    }
}

/// A body that has waited for too long.
pub(super) fn no_room() -> Refusal {
    Refusal::unavailable("there is no room for the request body: others have used tmp_upload_limit up")
}

/// A body for which there is no place, or no room there.
#[cold]
pub(super) fn cannot_keep(error: &io::Error, limits: &SpoolLimits) -> Refusal {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    let place = limits.scratch.meant();
    tracing::error!(
        "Cannot keep a request body in a temporary file: {error}. See tmp_upload_dir, which is {place}, and tmp_upload_limit"
    );
    match error.kind() {
        StorageFull | QuotaExceeded => Refusal::insufficient_storage("no space is left for the request body"),
        _ => Refusal::internal_error("the request body could not be kept"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_directory_is_507() {
        let status = |code| {
            let refusal = cannot_keep(&io::Error::from_raw_os_error(code), &SpoolLimits::default());
            assert!(refusal.is_the_servers());
            refusal.status
        };
        assert_eq!([libc::ENOSPC, libc::EDQUOT, libc::EIO].map(status), [507, 507, 500]);
    }
}
