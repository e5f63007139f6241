//! The table of children, and what is due for each.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::generation::Generation;
use super::reports::Reports;
use crate::config::Config;
use crate::critical;
use crate::scoreboard::{Scoreboard, SlotId, WorkerState};
use crate::sys::fork::Pid;
use crate::sys::processes;
use crate::sys::signals::{self, Signal};
use crate::worker::Stop;

/// How long a worker may take to leave on SIGQUIT, or on SIGABRT, in milliseconds.
const QUICK: u64 = 2000;
/// What a worker gets beyond `graceful_timeout`, which it keeps itself, before it is killed, in milliseconds.
const MARGIN: u64 = 500;

/// What a worker that has given up its requests gets beyond that, if it says that it cleans up, in milliseconds.
const CLEAN_UP: u64 = 5000;

/// A child of the arbiter's.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) pid: Pid,
    pub(super) slot: SlotId,
    /// The generation that it belongs to.
    pub(super) generation: u64,
    /// Which of the workers of its generation it is.
    pub(super) seat: usize,
    /// With `reuse_port`: which of the sockets it accepts from.
    pub(super) sockets: Vec<usize>,
    pub(super) booted: bool,
    pub(super) fate: Fate,
    /// Why another is to take its place, if that is so.
    pub(super) worn: Option<Leaving>,
    /// Its tracebacks.
    pub(super) reports: Reports,
    /// `slow_request`, in milliseconds; 0 for none.
    pub(super) slow: u64,
    /// The numbers of its requests that are known to be slow.
    pub(super) slow_ones: Vec<u64>,
    /// `timeout`, in milliseconds; 0 for none.
    timeout: u64,
    /// `graceful_timeout`, in milliseconds.
    graceful: u64,
    /// Whether it may have more time to clean up: once, and not where it is to leave at once.
    may_clean_up: bool,
}

/// What the arbiter has in mind for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It serves, or boots in order to.
    Serves,
    /// It serves until another does in its place.
    Retires(Leaving),
    /// It was told to stop.
    Leaves {
        /// When it is killed, if it hasn't.
        kill_at: u64,
    },
    /// It leaves of its own accord, or somebody else's: another takes its place at once.
    Departs {
        /// When it is killed, if it hasn't.
        kill_at: u64,
    },
    /// It gave no sign of life, and gets SIGABRT once it has said what it was doing.
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

/// Why a worker leaves that does what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It has had its `max_requests`.
    Requests,
    /// It has grown over `worker_max_rss`.
    Memory { resident: u64, limit: u64 },
    /// A reload.
    Reload,
    /// Fewer were asked for.
    Surplus,
    /// With `reuse_port`: it is to accept from other sockets.
    Sockets,
}

impl fmt::Display for Leaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        match self {
            Leaving::Requests => f.write_str("it has answered its max_requests"),
            Leaving::Memory { resident, limit } => write!(
                f,
                "it has {} MiB of resident memory, and worker_max_rss allows {} MiB",
                resident.div_ceil(MIB),
                limit / MIB
            ),
            Leaving::Reload => f.write_str("a new generation serves"),
            Leaving::Surplus => f.write_str("there are more workers than asked for"),
            Leaving::Sockets => f.write_str("the listening sockets are shared out anew"),
        }
    }
}

impl Worker {
    pub(super) fn new(pid: Pid, slot: SlotId, generation: u64, config: &Config, reports: Reports) -> Worker {
        let (timeout, graceful) = (milliseconds(config.timeout), milliseconds(config.graceful_timeout));
        Worker {
            pid,
            slot,
            generation,
            booted: false,
            fate: Fate::Serves,
            worn: None,
            reports,
            slow: milliseconds(config.slow_request),
            slow_ones: Vec::new(),
            timeout,
            graceful,
            may_clean_up: true,
            seat: 0,
            sockets: Vec::new(),
        }
    }

    /// With a place among its siblings, and the sockets that are its own.
    pub(super) fn seated(self, seat: usize, sockets: Vec<usize>) -> Worker {
        Worker { seat, sockets, ..self }
    }

    pub(super) fn send(&self, signal: Signal) {
        if let Err(error) = signals::send(self.pid, signal) {
            tracing::error!("Can't send {} to worker (pid:{}): {error}", signal.as_str(), self.pid);
        }
    }

    /// It gives no sign of life: it will be killed.
    pub(super) fn hangs(&mut self, now: u64) {
        self.fate = Fate::Hangs { kill_at: now + QUICK };
    }

    /// Tells it to stop, and when it will be killed if it doesn't.
    fn stop(&mut self, stop: Stop, now: u64) {
        let (signal, patience) = match stop {
            Stop::Graceful => (Signal::SIGTERM, self.graceful + MARGIN),
            Stop::Quick => (Signal::SIGQUIT, QUICK),
        };
        self.may_clean_up &= stop == Stop::Graceful;
        self.fate = match self.fate {
            Fate::Serves | Fate::Retires(_) => Fate::Leaves { kill_at: now + patience },
            Fate::Leaves { kill_at } | Fate::Departs { kill_at } => {
                Fate::Leaves { kill_at: kill_at.min(now + patience) }
            }
            fate @ (Fate::Hangs { .. } | Fate::Killed { .. }) => fate,
        };
        self.send(signal);
    }

    /// When it is to be killed, or found to hang, or given up; in milliseconds.
    /// What happened before `awake`, when the whole machine may have slept, counts as having happened then.
    fn due(&self, now: u64, scoreboard: &Scoreboard, awake: u64) -> Option<u64> {
        match self.fate {
            Fate::Serves | Fate::Retires(_) if self.timeout == 0 => None,
            Fate::Serves | Fate::Retires(_) => {
                let seen = scoreboard.view(self.slot).heartbeat.max(awake);
                Some(seen.saturating_add(self.timeout + 1))
            }
            Fate::Leaves { kill_at } | Fate::Departs { kill_at } | Fate::Hangs { kill_at } => Some(kill_at),
            Fate::Killed { at } => Some(at + QUICK).filter(|due| *due > now),
        }
    }
}

/// The children, oldest first.
#[derive(Debug, Default)]
pub(super) struct Workers {
    table: Vec<Worker>,
    /// Since when this process has been awake, as far as it was noticed that it wasn't; in milliseconds.
    awake: u64,
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

    /// Tells a generation that will not be to leave. One that boots isn't waited for; but it may boot this very moment,
    /// and then has its time for the requests that it has taken.
    pub(super) fn dismiss(&mut self, generation: u64, now: u64) {
        for worker in self.table.iter_mut().filter(|worker| worker.generation == generation) {
            worker.stop(Stop::Graceful, now);
            if let Fate::Leaves { kill_at } = &mut worker.fate
                && !worker.booted
            {
                *kill_at = now + QUICK;
            }
        }
    }

    /// Those of a generation that serve.
    pub(super) fn current_mut(&mut self, generation: u64) -> impl Iterator<Item = &mut Worker> {
        let current =
            move |worker: &&mut Worker| worker.generation == generation && worker.fate == Fate::Serves;
        self.table.iter_mut().filter(current)
    }

    /// Has those retire that `which` picks.
    pub(super) fn retire(&mut self, why: Leaving, which: impl Fn(&Worker) -> bool) {
        let serves = |worker: &&mut Worker| worker.fate == Fate::Serves && which(worker);
        self.table.iter_mut().filter(serves).for_each(|worker| worker.fate = Fate::Retires(why));
    }

    /// The first seat of a generation that nobody has.
    pub(super) fn free_seat(&mut self, generation: u64) -> usize {
        let taken: BTreeSet<usize> = self.current_mut(generation).map(|worker| worker.seat).collect();
        (0..).find(|seat| !taken.contains(seat)).unwrap_or_default()
    }

    /// Has those of a generation retire whose sockets have become others': where workers have sockets of their own, each
    /// socket must have its worker, however many workers there are.
    pub(super) fn retire_displaced(&mut self, generation: &Generation) {
        for worker in self.current_mut(generation.number).filter(|worker| !worker.sockets.is_empty()) {
            if worker.seat >= generation.target {
                worker.fate = Fate::Retires(Leaving::Surplus);
            } else if worker.sockets != generation.share(worker.seat) {
                worker.fate = Fate::Retires(Leaving::Sockets);
            }
        }
    }

    /// Has the oldest of a generation retire, as far as there are too many.
    pub(super) fn retire_surplus(&mut self, generation: &Generation) {
        let surplus = self.serving(generation.number).saturating_sub(generation.target);
        self.current_mut(generation.number)
            .take(surplus)
            .for_each(|worker| worker.fate = Fate::Retires(Leaving::Surplus));
    }

    /// Notes who has begun to leave without having been told to: as long as it takes over what it holds, it isn't there for
    /// what is new.
    pub(super) fn note_departures(&mut self, now: u64, scoreboard: &Scoreboard) {
        for worker in self.table.iter_mut().filter(|worker| worker.booted) {
            let serves = matches!(worker.fate, Fate::Serves | Fate::Retires(_));
            if serves && scoreboard.view(worker.slot).state == WorkerState::Stopping {
                tracing::debug!("Worker (pid:{}) leaves; another takes its place", worker.pid);
                worker.fate = Fate::Departs { kill_at: now + worker.graceful + MARGIN };
            }
        }
    }

    /// Has the next one retire that is worn, unless others do: one at a time.
    pub(super) fn retire_worn(&mut self, generation: u64, scoreboard: &Scoreboard) {
        if self.table.iter().any(|worker| matches!(worker.fate, Fate::Retires(_))) {
            return;
        }
        let worn = self.current_mut(generation).filter(|worker| worker.booted).find_map(|worker| {
            let asks = scoreboard.view(worker.slot).wants_relief.then_some(Leaving::Requests);
            worker.worn.or(asks).map(|why| (worker, why))
        });
        if let Some((worker, why)) = worn {
            tracing::debug!("Another is to take the place of worker (pid:{}): {why}", worker.pid);
            worker.worn = Some(why);
            worker.fate = Fate::Retires(why);
        }
    }

    /// Tells those that retire to stop, the oldest first, as far as `target` serve without them. Those that haven't booted
    /// serve nobody.
    pub(super) fn let_go(&mut self, generation: u64, target: usize, now: u64) {
        let ready = self.current_mut(generation).filter(|worker| worker.booted).count();
        let retires = |worker: &Worker| matches!(worker.fate, Fate::Retires(_));
        let retiring = self.table.iter().filter(|worker| worker.booted && retires(worker)).count();
        let mut surplus = (ready + retiring).saturating_sub(target);
        for worker in &mut self.table {
            let Fate::Retires(why) = worker.fate else { continue };
            if worker.booted && surplus == 0 {
                continue;
            }
            surplus -= usize::from(worker.booted);
            tracing::info!("Worker (pid:{}) makes room: {why}", worker.pid);
            worker.stop(Stop::Graceful, now);
        }
    }

    /// Notes that this process, and perhaps all others, did not run for some time before `now`.
    pub(super) fn woke_up(&mut self, now: u64) {
        self.awake = now;
    }

    /// The generations of those that have booted since this was last asked.
    pub(super) fn note_booted(&mut self, now: u64, scoreboard: &Scoreboard) -> Vec<u64> {
        let booted = |worker: &&mut Worker| !worker.booted && scoreboard.view(worker.slot).booted;
        self.table
            .iter_mut()
            .filter(booted)
            .map(|worker| {
                worker.booted = true;
                if let Fate::Leaves { kill_at } = &mut worker.fate {
                    *kill_at = now + worker.graceful + MARGIN;
                }
                let taken = now.saturating_sub(scoreboard.view(worker.slot).started);
                let (seconds, rest) = (taken / 1000, taken % 1000 / 10);
                tracing::info!("Worker (pid:{}) is ready, after {seconds}.{rest:02} s", worker.pid);
                worker.generation
            })
            .collect()
    }

    /// Those that should have given a sign of life.
    pub(super) fn overdue(&mut self, now: u64, scoreboard: &Scoreboard) -> impl Iterator<Item = &mut Worker> {
        let awake = self.awake;
        let serves = |worker: &&mut Worker| matches!(worker.fate, Fate::Serves | Fate::Retires(_));
        let late =
            move |worker: &&mut Worker| worker.due(now, scoreboard, awake).is_some_and(|due| now >= due);
        self.table.iter_mut().filter(serves).filter(late)
    }

    /// Those whose slow requests are to be told.
    pub(super) fn minding_slow(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.table.iter_mut().filter(|worker| worker.slow > 0)
    }

    /// All of them.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.table.iter_mut()
    }

    /// Their processes, oldest first.
    pub(super) fn pids(&self) -> Vec<i32> {
        self.table.iter().map(|worker| worker.pid.as_raw()).collect()
    }

    /// Kills those with more resident memory than this, whatever they do.
    pub(super) fn kill_heavy(&mut self, now: u64, limit: u64) {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        for worker in self.table.iter_mut().filter(|worker| !matches!(worker.fate, Fate::Killed { .. })) {
            let Some(resident) = processes::resident(worker.pid).filter(|resident| *resident > limit) else {
                continue;
            };
            critical!(
                "Worker (pid:{}) has {} MiB of resident memory, and worker_memory_limit allows {} MiB: killed",
                worker.pid,
                mib(resident),
                mib(limit)
            );
            worker.worn = Some(Leaving::Memory { resident, limit });
            worker.fate = Fate::Killed { at: now };
            worker.send(Signal::SIGKILL);
        }
    }

    /// Kills those that have had their time to leave.
    pub(super) fn kill_overdue(&mut self, now: u64, scoreboard: &Scoreboard) {
        for worker in &mut self.table {
            match &mut worker.fate {
                Fate::Leaves { kill_at } | Fate::Departs { kill_at }
                    if now >= *kill_at && worker.may_clean_up && scoreboard.view(worker.slot).cleans_up =>
                {
                    worker.may_clean_up = false;
                    *kill_at = now + CLEAN_UP;
                }
                Fate::Leaves { kill_at } | Fate::Departs { kill_at } | Fate::Hangs { kill_at }
                    if now >= *kill_at =>
                {
                    worker.fate = Fate::Killed { at: now };
                    worker.send(Signal::SIGKILL);
                }
                _ => {}
            }
        }
    }

    /// When the first of these things is due, in milliseconds.
    pub(super) fn due(&self, now: u64, scoreboard: &Scoreboard) -> Option<u64> {
        self.table.iter().filter_map(|worker| worker.due(now, scoreboard, self.awake)).min()
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
            workers.add(Worker::new(Pid::from_raw(NOBODY + age), slot, 1, config, Reports::new()));
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
        workers.kill_overdue(kill, &scoreboard);
        assert!(!workers.hopeless(kill));
        assert!(workers.hopeless(kill + QUICK));
    }

    #[test]
    fn a_worker_that_boots_while_it_is_sent_away_has_time_for_its_requests() {
        let config = Config { graceful_timeout: Duration::from_secs(30), ..Config::default() };
        let (mut workers, scoreboard) = table(&config);
        workers.dismiss(1, 1000);
        assert_eq!(workers.due(0, &scoreboard), Some(1000 + QUICK));
        for worker in &workers.table {
            scoreboard.slot(worker.slot).booted();
        }
        workers.note_booted(1500, &scoreboard);
        assert_eq!(workers.due(0, &scoreboard), Some(1500 + 30_000 + MARGIN));
    }

    #[test]
    fn time_that_nobody_had_does_not_count() {
        let config = Config { timeout: Duration::from_secs(5), ..Config::default() };
        let (mut workers, scoreboard) = table(&config);
        let due = workers.due(0, &scoreboard).unwrap();
        workers.woke_up(due + 60_000);
        workers.abort_hung(due + 60_000, &scoreboard);
        assert_eq!(workers.serving(1), 3);
        workers.abort_hung(due + 65_001, &scoreboard);
        assert_eq!(workers.serving(1), 0);
    }

    #[test]
    fn those_that_retire_serve_until_they_are_not_needed() {
        let (mut workers, scoreboard) = table(&Config::default());
        let boot = |workers: &mut Workers, index: usize| {
            scoreboard.slot(workers.table[index].slot).booted();
            workers.note_booted(0, &scoreboard);
        };
        (0..2).for_each(|index| boot(&mut workers, index));
        for index in 0..2 {
            scoreboard.slot(workers.table[index].slot).ask_for_relief();
        }
        // One at a time, the oldest first.
        workers.retire_worn(1, &scoreboard);
        workers.retire_worn(1, &scoreboard);
        assert_eq!(workers.table[0].fate, Fate::Retires(Leaving::Requests));
        assert_eq!(workers.serving(1), 2, "it serves, but doesn't count");
        workers.let_go(1, 2, 0);
        assert_eq!(workers.table[0].fate, Fate::Retires(Leaving::Requests), "the third hasn't booted");
        boot(&mut workers, 2);
        workers.let_go(1, 2, 0);
        assert!(matches!(workers.table[0].fate, Fate::Leaves { .. }));
        workers.retire_worn(1, &scoreboard);
        assert_eq!(workers.table[1].fate, Fate::Retires(Leaving::Requests));
        // All are to go.
        workers.retire(Leaving::Surplus, |_| true);
        workers.let_go(1, 0, 0);
        assert!(workers.table.iter().all(|worker| matches!(worker.fate, Fate::Leaves { .. })));
    }

    #[test]
    fn one_that_leaves_by_itself_is_replaced_at_once() {
        let config = Config { graceful_timeout: Duration::from_secs(30), ..Config::default() };
        let (mut workers, scoreboard) = table(&config);
        let leave = |workers: &mut Workers, index: usize| {
            scoreboard.slot(workers.table[index].slot).stops();
            workers.note_departures(1000, &scoreboard);
        };
        leave(&mut workers, 0);
        assert_eq!(workers.serving(1), 3, "it has not booted");
        scoreboard.slot(workers.table[1].slot).booted();
        workers.note_booted(0, &scoreboard);
        leave(&mut workers, 1);
        assert_eq!(workers.serving(1), 2);
        assert_eq!(workers.table[1].fate, Fate::Departs { kill_at: 1000 + 30_000 + MARGIN });
        workers.stop(Stop::Quick, 2000, |_| true);
        assert_eq!(workers.table[1].fate, Fate::Leaves { kill_at: 2000 + QUICK });
    }

    #[test]
    fn one_that_cleans_up_has_more_time_once() {
        let config = Config { graceful_timeout: Duration::from_secs(30), ..Config::default() };
        let (mut workers, scoreboard) = table(&config);
        scoreboard.slot(workers.table[0].slot).cleans_up();
        workers.stop(Stop::Graceful, 0, |_| true);
        let killed = |workers: &Workers| {
            workers.table.iter().map(|worker| matches!(worker.fate, Fate::Killed { .. })).collect::<Vec<_>>()
        };
        workers.kill_overdue(30_000 + MARGIN, &scoreboard);
        assert_eq!(killed(&workers), [false, true, true]);
        workers.kill_overdue(30_000 + MARGIN + CLEAN_UP - 1, &scoreboard);
        assert!(!killed(&workers)[0]);
        workers.kill_overdue(30_000 + MARGIN + CLEAN_UP, &scoreboard);
        assert!(killed(&workers)[0]);
        // One that is to leave at once has none.
        let (mut workers, scoreboard) = table(&config);
        scoreboard.slot(workers.table[0].slot).cleans_up();
        workers.stop(Stop::Quick, 0, |_| true);
        workers.kill_overdue(QUICK, &scoreboard);
        assert!(killed(&workers)[0]);
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
