//! Who leaves when: no worker that serves is told to leave before another serves in its place.
//!
//! A worker that is to be replaced *retires* first: it goes on serving, but doesn't count any more, so that another is
//! started. Once there are more workers that serve than were asked for, those that retire are let go, the oldest first. It
//! is one rule for a reload (the whole old generation retires), for `max_requests` and `worker_max_rss` (one at a time),
//! and for SIGTTOU and SIGWINCH.
//!
//! A worker that leaves by itself (`--reload`, `sys.exit()` in a request, a signal that somebody has sent it) can't be kept; but
//! another is started as soon as it says so, and not only when it has finished what it holds.

use super::Master;
use super::workers::Leaving;
use crate::sys::processes;

/// How often workers are weighed, in milliseconds.
const WEIGHED_EVERY: u64 = 1000;

impl Master {
    /// Has those retire that are too many or worn out, and lets those go that aren't needed any more.
    pub(super) fn succeed(&mut self, now: u64) {
        self.weigh(now);
        self.workers.note_departures(now, &self.scoreboard);
        self.workers.retire_displaced(&self.current);
        self.workers.retire_surplus(&self.current);
        self.workers.retire_worn(self.current.number, &self.scoreboard);
        self.workers.let_go(self.current.number, self.current.target, now);
    }

    /// When workers are weighed next, in milliseconds; none if nobody asked for it.
    pub(super) fn next_weighing(&self) -> Option<u64> {
        let config = &self.current.config;
        (config.worker_max_rss > 0 || config.worker_memory_limit > 0).then_some(self.weighed + WEIGHED_EVERY)
    }

    /// Finds workers that have grown over `worker_max_rss`, and ends those over `worker_memory_limit`.
    fn weigh(&mut self, now: u64) {
        if self.next_weighing().is_none_or(|due| now < due) {
            return;
        }
        self.weighed = now;
        let (soft, hard) = {
            let config = &self.current.config;
            let limit = |bytes| if bytes > 0 { bytes } else { u64::MAX };
            (limit(config.worker_max_rss), limit(config.worker_memory_limit))
        };
        for worker in self.workers.current_mut(self.current.number) {
            let Some(resident) = processes::resident(worker.pid) else { continue };
            if resident > soft {
                worker.worn = Some(Leaving::Memory { resident, limit: soft });
            }
        }
        self.workers.kill_heavy(now, hard);
    }
}
