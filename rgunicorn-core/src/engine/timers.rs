//! Deadlines of connections, cheap to move: almost every deadline is moved before it comes.
//!
//! A connection keeps its own deadline; here it has an entry that is looked at when it is due. An entry that comes due
//! before its connection's deadline is put back for that time. So a deadline that moves later, as it does with every
//! request of a kept-alive connection, costs nothing here. An entry whose connection is gone stays until it is due, or
//! until there are too many of them: a flood of short connections is not to cost memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// An entry: when to look at which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) due: Instant,
    pub(crate) key: usize,
    /// Tells a connection from an earlier one with the same key.
    pub(crate) serial: u64,
}

/// How many entries beyond those of the connections there may be.
const SPARE: usize = 1024;

/// All entries, the next one first.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    entries: BinaryHeap<Reverse<Entry>>,
}

impl Timers {
    /// Adds an entry. There are `connections`, each of which wants one entry at most, as `wanted` says.
    pub(crate) fn add(&mut self, entry: Entry, connections: usize, wanted: impl Fn(&Entry) -> bool) {
        self.entries.push(Reverse(entry));
        // Rare enough to cost next to nothing: at least as many were added since the last time as are looked at now.
        if self.entries.len() > 2 * connections + SPARE {
            self.entries.retain(|Reverse(entry)| wanted(entry));
        }
    }

    /// When the next entry is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.entries.peek().map(|Reverse(entry)| entry.due)
    }

    /// Takes an entry that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Entry> {
        if self.next()? > now {
            return None;
        }
        self.entries.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn entries_come_out_in_order_and_only_when_due() {
        let start = Instant::now();
        let mut timers = Timers::default();
        for (key, seconds) in [(1, 5), (2, 1), (3, 3)] {
            timers.add(Entry { due: start + Duration::from_secs(seconds), key, serial: 0 }, 3, |_| true);
        }
        assert_eq!(timers.pop_due(start), None);
        let now = start + Duration::from_secs(4);
        assert_eq!(timers.pop_due(now).map(|entry| entry.key), Some(2));
        assert_eq!(timers.pop_due(now).map(|entry| entry.key), Some(3));
        assert_eq!(timers.pop_due(now), None);
        assert_eq!(timers.next(), Some(start + Duration::from_secs(5)));
    }

    #[test]
    fn entries_that_nobody_wants_do_not_pile_up() {
        let start = Instant::now();
        let mut timers = Timers::default();
        let kept = Entry { due: start, key: 0, serial: 0 };
        timers.add(kept, 1, |_| true);
        for serial in 1..100_000 {
            let entry = Entry { due: start + Duration::from_secs(30), key: 1, serial };
            timers.add(entry, 2, |entry| entry.key == 0 || entry.serial == serial);
            assert!(timers.entries.len() <= 2 * 2 + SPARE);
        }
        assert_eq!(timers.pop_due(start), Some(kept));
        assert!(timers.next().is_some());
    }
}
