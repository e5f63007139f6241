//! Room for another connection, where `worker_connections` are open: what is idle makes way for who waits.
//!
//! Of connections that have been idle for a while the oldest is closed, and one that comes has its place. Where there is none
//! such, responses end their connections for as long as somebody waits, so that busy ones make room as well.

use std::time::Duration;

use super::accept::Acceptor;
use super::connection::{Connection, Phase};
use super::{Engine, LAST_REQUEST};

/// How soon a full worker that somebody waits for looks again whether a connection is idle.
const LOOK: Duration = Duration::from_millis(250);
/// How many are looked for at a time.
const BATCH: usize = 32;

/// What there is of connections beyond those that are open, and whether there are too few places.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Somebody waits, and nothing was idle.
    crowded: bool,
    /// How many connections were closed for another one, and wait for their clients to see it. Those aren't counted.
    parting: usize,
    /// Connections that were idle when they were looked for, the oldest last, with their serial number and the requests that
    /// they had had.
    idle: Vec<(usize, u64, u64)>,
}

impl Engine {
    /// Whether there is no place for another connection.
    pub(super) fn is_full(&self) -> bool {
        self.places.len().saturating_sub(self.room.parting) >= self.config.worker_connections
    }

    /// Whether responses are to end their connections: others wait for a place, or the worker is about to leave.
    pub(super) fn ends_connections(&self) -> bool {
        self.room.crowded || (self.draining && !self.is_handing_over())
    }

    /// Whether there is a place for another connection, be it that of an idle one.
    pub(super) fn make_way(&mut self) -> bool {
        while self.is_full() {
            self.room.crowded = false;
            if self.others_have_room() {
                self.acceptor.rest(&self.poll, Acceptor::DOUBT);
                return false;
            }
            if !self.somebody_waits() {
                // Whoever comes is an event.
                self.watch_listeners();
                return false;
            }
            if !self.part_with_oldest() {
                self.room.crowded = true;
                self.acceptor.rest(&self.poll, LOOK);
                return false;
            }
        }
        true
    }

    /// A connection is gone: another may come.
    pub(super) fn make_room(&mut self) {
        self.room.crowded = false;
        if self.stood_in {
            // Others take what comes until the next turn.
            return;
        }
        if !self.acceptor.is_watched() && self.acceptor.paused_until().is_none() {
            if self.is_full() {
                self.acceptor.rest(&self.poll, LOOK);
            } else {
                self.watch_listeners();
            }
        }
    }

    fn somebody_waits(&self) -> bool {
        self.acceptor.somebody_waits() || self.has_parcel()
    }

    /// Closes the connection that has been idle for the longest time. None is closed in which a request may well be on its
    /// way; that one's answer will say so.
    fn part_with_oldest(&mut self) -> bool {
        let most = self.config.worker_connections.div_ceil(16);
        for looked in [false, true] {
            if looked {
                self.look_for_idle();
            }
            while self.room.parting < most {
                let Some((key, serial, served)) = self.room.idle.pop() else { break };
                let same = |connection: &mut Connection| {
                    (connection.serial, connection.served) == (serial, served) && connection.rests()
                };
                if self.connection(key).is_some_and(same) && self.part_for_another(key) {
                    return true;
                }
            }
        }
        false
    }

    /// Whether its place is free.
    fn part_for_another(&mut self, key: usize) -> bool {
        let before = self.places.len();
        self.part(key);
        if let Some(connection) = self.connection(key).filter(|it| it.phase == Phase::Lingering) {
            tracing::debug!("Closing an idle connection, for another to have its place");
            connection.parting = true;
            self.room.parting += 1;
            return true;
        }
        self.places.len() < before
    }

    /// A connection that is about to be forgotten may be one that was no longer counted.
    pub(super) fn forget_parting(&mut self, connection: &Connection) {
        self.room.parting -= usize::from(connection.parting).min(self.room.parting);
    }

    fn look_for_idle(&mut self) {
        let (keepalive, header) = (self.config.keepalive, self.config.client_header_timeout);
        let now = self.now;
        let mut idle: Vec<_> = self
            .places
            .iter_mut()
            .filter_map(|(key, place)| {
                let connection = place.connection.as_deref_mut()?;
                if !connection.rests() {
                    return None;
                }
                let allowed = if connection.served > 0 { keepalive } else { header };
                let since = connection.deadline.and_then(|deadline| deadline.checked_sub(allowed));
                let since = since.unwrap_or(connection.started);
                (since + LAST_REQUEST <= now).then_some((since, key, connection.serial, connection.served))
            })
            .collect();
        if idle.len() > BATCH {
            idle.select_nth_unstable(BATCH);
            idle.truncate(BATCH);
        }
        idle.sort_unstable_by(|one, other| other.cmp(one));
        self.room.idle.clear();
        self.room.idle.extend(idle.into_iter().map(|(_, key, serial, served)| (key, serial, served)));
    }
}
