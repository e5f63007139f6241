//! Waiting with the language's lock. Native code takes locks of its own while it has that one, and whoever has those may be
//! a coroutine that waits. Threads would get along: the one that has the lock is blocked, the other goes on. Here both are
//! the same thread's, so that
//!
//! - a coroutine that waits for a lock with its language's lock **keeps** it and makes way for those that need none;
//! - the loop, where it waits for the language's lock outside of all coroutines, lets coroutines go on meanwhile: the one
//!   that has it, or that it waits for, may be among them.

use std::time::{Duration, Instant};

use super::super::fairness::INTERVAL;
use super::{Coroutine, Scheduler, Token, Wake, current, here};

/// How long coroutines have to get the lock from another thread before the loop takes its turn.
const TURN: Duration = INTERVAL.saturating_mul(4);
/// How many coroutines go on before the loop looks for the lock again.
const BATCH: usize = 64;

/// The coroutine that runs in this thread, if it may wait for a lock now: also where it has its language's.
#[inline]
pub(crate) fn lock_waiter<'a>() -> Option<&'a Coroutine> {
    current().filter(|coroutine| coroutine.may_wait() || coroutine.may_keep())
}

/// The scheduler of this thread, if its loop waits for the language's lock, outside of all coroutines.
#[inline]
pub(crate) fn held_up<'a>() -> Option<&'a Scheduler> {
    here().filter(|scheduler| scheduler.takes_lock.get() && current().is_none())
}

impl Coroutine {
    #[inline]
    fn may_keep(&self) -> bool {
        self.cooperative.get() && self.keeps.get()
    }

    /// Whether it waits for locks also where it has its language's, from now on: where it is in the application.
    pub(crate) fn set_keeps(&self, keeps: bool) {
        self.keeps.set(keeps);
    }

    /// Waits for a lock, with the language's if it has it.
    pub(super) fn wait_for_lock(&self, token: Token, by: Option<Instant>, interruptibly: bool) -> Wake {
        if !self.may_wait() {
            return self.keeping(|| self.wait(token, by));
        }
        if interruptibly { self.wait_interruptibly(token, by) } else { self.wait(token, by) }
    }

    /// Waits until then at most, as for a lock of which nothing tells.
    pub(crate) fn sleep_for_lock(&self, by: Instant) -> Wake {
        let token = self.begin_wait();
        self.wait_for_lock(token, Some(by), true)
    }

    /// Lets all others have a turn; those that need the language's lock only if this one doesn't have it.
    pub(crate) fn make_way(&self) {
        if self.may_wait() { self.yield_now() } else { self.keeping(|| self.yield_now()) }
    }

    fn keeping<T>(&self, wait: impl FnOnce() -> T) -> T {
        let scheduler = self.scheduler();
        scheduler.kept.set(true);
        scheduler.watch.keeps(self.identity());
        scheduler.runtime.set_aside();
        let woken = wait();
        scheduler.runtime.take_up();
        scheduler.watch.keeps(0);
        scheduler.kept.set(false);
        woken
    }
}

impl Scheduler {
    /// Whether a coroutine that waits has the language's lock.
    pub(crate) fn is_lock_kept(&self) -> bool {
        self.kept.get()
    }

    /// Takes the language's lock, outside of all coroutines.
    pub(crate) fn hold(&self) {
        if !self.kept.get() {
            self.watch.settle();
        }
        self.took_it.set(None);
        self.takes_lock.set(true);
        self.runtime.hold();
        self.takes_lock.set(false);
    }

    /// Lets go of it.
    pub(crate) fn release(&self) {
        self.runtime.release();
    }

    /// Whether coroutines wait for the language's lock, and the loop had it just now, after it had waited for another thread
    /// to let go of it: it would have it again each time that it is free, and they never.
    pub(crate) fn is_coroutines_turn(&self) -> bool {
        self.wanting.get() > 0 && self.took_it.get().is_some_and(|then| then.elapsed() < TURN)
    }

    /// The loop has waited for the language's lock for a while.
    pub(crate) fn has_waited_outside(&self) {
        self.took_it.set(Some(Instant::now()));
    }

    /// What a coroutine does in `wait` is to wait for the language's lock.
    pub(crate) fn wanting<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.wanting.set(self.wanting.get() + 1);
        let result = wait();
        self.wanting.set(self.wanting.get() - 1);
        result
    }

    /// Lets those coroutines go on that can.
    pub(crate) fn go_on_meanwhile(&self) {
        if let Err(error) = self.collect(Some(Duration::ZERO)) {
            tracing::error!("Cannot look for what coroutines wait for: {error}");
        }
        self.run_ready(BATCH);
    }
}
