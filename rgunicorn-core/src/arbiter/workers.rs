//! The table of children, and what is due for each.

use std::time::Duration;

use super::generation::Generation;
use crate::config::Config;
use crate::critical;
use crate::scoreboard::{Scoreboard, SlotId};
use crate::sys::fork::Pid;
use crate::sys::signals::{self, Signal};
use crate::worker::Stop;

/// How long a worker may take to leave on SIGQUIT, or on SIGABRT, in milliseconds.
const QUICK: u64 = 2000;
/// What a worker gets beyond `graceful_timeout`, which it keeps itself, before it is killed, in milliseconds.
const MARGIN: u64 = 500;

/// A child of the arbiter's.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) pid: Pid,
    pub(super) slot: SlotId,
    /// The generation that it belongs to.
    pub(super) generation: u64,
    pub(super) booted: bool,
    pub(super) fate: Fate,
    /// `timeout`, in milliseconds; 0 for none.
    timeout: u64,
    /// `graceful_timeout`, in milliseconds.
    graceful: u64,
}

/// What the arbiter has in mind for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It serves, or boots in order to.
    Serves,
    /// It was told to stop.
    Leaves {
        /// When it is killed, if it hasn't.
        kill_at: u64,
    },
    /// It gave no sign of life, and got SIGABRT.
    Hangs {
        /// When it is killed, if it is still there.
        kill_at: u64,
    },
    /// It got SIGKILL.
    Killed {
        /// When.
        at: u64,
    },
}

impl Worker {
    pub(super) fn new(pid: Pid, slot: SlotId, generation: u64, config: &Config) -> Worker {
        let (timeout, graceful) = (milliseconds(config.timeout), milliseconds(config.graceful_timeout));
        Worker { pid, slot, generation, booted: false, fate: Fate::Serves, timeout, graceful }
    }

    fn send(&self, signal: Signal) {
        if let Err(error) = signals::send(self.pid, signal) {
            tracing::error!("Can't send {} to worker (pid:{}): {error}", signal.as_str(), self.pid);
        }
    }

    /// Tells it to stop, and when it will be killed if it doesn't.
    fn stop(&mut self, stop: Stop, now: u64) {
        let (signal, patience) = match stop {
            Stop::Graceful => (Signal::SIGTERM, self.graceful + MARGIN),
            Stop::Quick => (Signal::SIGQUIT, QUICK),
        };
        self.fate = match self.fate {
            Fate::Serves => Fate::Leaves { kill_at: now + patience },
            Fate::Leaves { kill_at } => Fate::Leaves { kill_at: kill_at.min(now + patience) },
            fate @ (Fate::Hangs { .. } | Fate::Killed { .. }) => fate,
        };
        self.send(signal);
    }

    /// When it is to be killed, or found to hang, or given up; in milliseconds.
    fn due(&self, now: u64, scoreboard: &Scoreboard) -> Option<u64> {
        match self.fate {
            Fate::Serves if self.timeout == 0 => None,
            Fate::Serves => Some(scoreboard.view(self.slot).heartbeat + self.timeout + 1),
            Fate::Leaves { kill_at } | Fate::Hangs { kill_at } => Some(kill_at),
            Fate::Killed { at } => Some(at + QUICK).filter(|due| *due > now),
        }
    }
}

/// The children, oldest first.
#[derive(Debug, Default)]
pub(super) struct Workers {
    table: Vec<Worker>,
}

impl Workers {
    pub(super) fn add(&mut self, worker: Worker) {
        self.table.push(worker);
    }

    /// Takes out the worker with this process; none if it is no worker.
    pub(super) fn remove(&mut self, pid: Pid) -> Option<Worker> {
        let index = self.table.iter().position(|worker| worker.pid == pid)?;
        Some(self.table.remove(index))
    }

    /// How many of a generation serve, or boot in order to.
    pub(super) fn serving(&self, generation: u64) -> usize {
        self.table
            .iter()
            .filter(|worker| worker.generation == generation && worker.fate == Fate::Serves)
            .count()
    }

    /// Whether all that are left were killed some time before `now`, and won't go even so.
    pub(super) fn hopeless(&self, now: u64) -> bool {
        self.table.iter().all(|worker| matches!(worker.fate, Fate::Killed { at } if now >= at + QUICK))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Sends a signal that changes nothing for us to all of them.
    pub(super) fn send(&self, signal: Signal) {
        self.table.iter().for_each(|worker| worker.send(signal));
    }

    /// Tells those that `which` picks to stop.
    pub(super) fn stop(&mut self, stop: Stop, now: u64, which: impl Fn(&Worker) -> bool) {
        self.table.iter_mut().filter(|worker| which(worker)).for_each(|worker| worker.stop(stop, now));
    }

    /// Tells the oldest of a generation to stop, as far as there are too many.
    pub(super) fn trim(&mut self, generation: &Generation, now: u64) {
        let surplus = self.serving(generation.number).saturating_sub(generation.target);
        self.table
            .iter_mut()
            .filter(|worker| worker.generation == generation.number && worker.fate == Fate::Serves)
            .take(surplus)
            .for_each(|worker| worker.stop(Stop::Graceful, now));
    }

    /// The generations of those that have booted since this was last asked.
    pub(super) fn note_booted(&mut self, scoreboard: &Scoreboard) -> Vec<u64> {
        let booted = |worker: &&mut Worker| !worker.booted && scoreboard.view(worker.slot).booted;
        self.table
            .iter_mut()
            .filter(booted)
            .map(|worker| {
                worker.booted = true;
                tracing::debug!("Worker (pid:{}) is ready", worker.pid);
                worker.generation
            })
            .collect()
    }

    /// Aborts those that should have given a sign of life.
    pub(super) fn abort_hung(&mut self, now: u64, scoreboard: &Scoreboard) {
        for worker in self.table.iter_mut().filter(|worker| worker.fate == Fate::Serves) {
            if worker.due(now, scoreboard).is_some_and(|due| now >= due) {
                critical!("WORKER TIMEOUT (pid:{})", worker.pid);
                worker.fate = Fate::Hangs { kill_at: now + QUICK };
                worker.send(Signal::SIGABRT);
            }
        }
    }

    /// Kills those that have had their time to leave.
    pub(super) fn kill_overdue(&mut self, now: u64) {
        for worker in &mut self.table {
            match worker.fate {
                Fate::Leaves { kill_at } | Fate::Hangs { kill_at } if now >= kill_at => {
                    worker.fate = Fate::Killed { at: now };
                    worker.send(Signal::SIGKILL);
                }
                _ => {}
            }
        }
    }

    /// When the first of these things is due, in milliseconds.
    pub(super) fn due(&self, now: u64, scoreboard: &Scoreboard) -> Option<u64> {
        self.table.iter().filter_map(|worker| worker.due(now, scoreboard)).min()
    }
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process number that can't be: above the kernel's limit, so that signals to it go nowhere.
    const NOBODY: i32 = 0x7fff_0000;

    fn table(config: &Config) -> (Workers, Scoreboard) {
        let (mut workers, scoreboard) = (Workers::default(), Scoreboard::new().unwrap());
        for age in 0..3 {
            let slot = scoreboard.claim(1).unwrap();
            workers.add(Worker::new(Pid::from_raw(NOBODY + age), slot, 1, config));
        }
        (workers, scoreboard)
    }

    #[test]
    fn nothing_is_due_without_a_timeout() {
        let config = Config { timeout: Duration::ZERO, ..Config::default() };
        let (workers, scoreboard) = table(&config);
        assert_eq!(workers.due(0, &scoreboard), None);
    }

    #[test]
    fn a_silent_worker_is_aborted_and_then_killed() {
        let config = Config { timeout: Duration::from_secs(5), ..Config::default() };
        let (mut workers, scoreboard) = table(&config);
        let due = workers.due(0, &scoreboard).unwrap();
        workers.abort_hung(due - 1, &scoreboard);
        assert_eq!(workers.serving(1), 3, "not a millisecond early");
        workers.abort_hung(due + 100, &scoreboard);
        assert_eq!(workers.serving(1), 0);
        let kill = workers.due(0, &scoreboard).unwrap();
        workers.kill_overdue(kill);
        assert!(!workers.hopeless(kill));
        assert!(workers.hopeless(kill + QUICK));
    }

    #[test]
    fn a_quick_stop_shortens_a_graceful_one_only() {
        let config = Config { graceful_timeout: Duration::from_secs(30), ..Config::default() };
        let (mut workers, scoreboard) = table(&config);
        workers.stop(Stop::Graceful, 1000, |_| true);
        assert_eq!(workers.due(0, &scoreboard), Some(1000 + 30_000 + MARGIN));
        workers.stop(Stop::Quick, 2000, |_| true);
        assert_eq!(workers.due(0, &scoreboard), Some(2000 + QUICK));
        workers.stop(Stop::Graceful, 3000, |_| true);
        assert_eq!(workers.due(0, &scoreboard), Some(2000 + QUICK));
    }
}
