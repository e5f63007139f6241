//! What the scoreboard is told of an engine's requests.
//!
//! All of it are plain stores into the worker's own slot, with the engine's own idea of the time: no clock is read and no
//! lock taken for it.

use std::time::Instant;

use super::Engine;
use super::connection::Connection;
use crate::scoreboard::{Ended, Slot};

/// The slot, and which places of it are free.
#[derive(Debug)]
pub(super) struct Tally {
    slot: Slot,
    /// Places for requests that nobody has, the next one last.
    free: Vec<u8>,
    numbers: u64,
    busy: u64,
    in_flight: u64,
}

/// What the scoreboard knows of a connection's request.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// It was handed to the application and hasn't ended.
    in_flight: bool,
    /// The application has it.
    busy: bool,
    /// Where it is named; none if there was no place left.
    place: Option<u8>,
    /// What was counted of the bytes that the client has taken.
    sent: u64,
}

impl Tally {
    pub(super) fn new(slot: Slot) -> Self {
        Tally { slot, free: (0..Slot::NAMED as u8).rev().collect(), numbers: 0, busy: 0, in_flight: 0 }
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// A request, or a turn for one that began earlier, goes to the application.
    #[inline]
    pub(super) fn lend(&mut self, connection: &mut Connection, now: Instant) {
        if !connection.entry.in_flight && connection.is_ready() {
            self.numbers += 1;
            self.in_flight += 1;
            self.slot.set_in_flight(self.in_flight);
            self.slot.count_queued(now.saturating_duration_since(connection.started));
            let place = self.free.pop();
            if let Some(place) = place {
                let client = connection.peer().address().as_bytes();
                let line = connection.line();
                self.slot.begin_request(usize::from(place), self.numbers, connection.started, line, client);
            }
            connection.entry.place = place;
            connection.entry.in_flight = true;
            connection.entry.busy = true;
            self.set_busy(self.busy + 1);
        } else if !connection.entry.busy {
            self.enter(connection, true);
        }
    }

    /// The application has said what it had to say for now.
    #[inline]
    pub(super) fn take_back(&mut self, connection: &mut Connection) {
        if connection.entry.busy {
            self.enter(connection, false);
        }
    }

    fn enter(&mut self, connection: &mut Connection, inside: bool) {
        connection.entry.busy = inside;
        self.set_busy(if inside { self.busy + 1 } else { self.busy.saturating_sub(1) });
        if let Some(place) = connection.entry.place {
            self.slot.set_inside(usize::from(place), inside);
        }
    }

    #[inline]
    fn set_busy(&mut self, busy: u64) {
        self.busy = busy;
        self.slot.set_busy(busy);
    }

    /// A request that was handed to the application has ended, with this status; 0 for none.
    #[inline]
    pub(super) fn end(&mut self, connection: &mut Connection, status: u16, now: Instant) {
        if std::mem::take(&mut connection.entry.in_flight) {
            self.in_flight = self.in_flight.saturating_sub(1);
            self.slot.set_in_flight(self.in_flight);
            self.slot
                .count_request(Ended { status, took: now.saturating_duration_since(connection.started) });
            self.count_bytes(connection);
        }
        if let Some(place) = connection.entry.place.take() {
            self.slot.end_request(usize::from(place));
            self.free.push(place);
        }
    }

    /// A connection is no more.
    pub(super) fn forget(&mut self, connection: &mut Connection, now: Instant) {
        self.end(connection, 0, now);
        self.take_back(connection);
        self.count_bytes(connection);
    }

    #[inline]
    fn count_bytes(&mut self, connection: &mut Connection) {
        let taken = connection.response.output().taken();
        let sent = taken - std::mem::replace(&mut connection.entry.sent, taken);
        self.slot.count_bytes(connection.take_received(), sent);
    }
}

impl Engine {
    /// Has the engine count what it does in this slot of the scoreboard.
    pub fn count_in(&mut self, slot: Slot) {
        self.tally = Tally::new(slot);
    }
}
