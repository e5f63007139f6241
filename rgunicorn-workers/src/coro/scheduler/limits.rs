//! The time that a request has. When it is over, the request is interrupted wherever it is: a call that waits answers
//! `EINTR`, and the language raises an error; what computes or waits for the language's lock has the error raised as it goes
//! on.
//!
//! A language handles signals in the process's first thread, and a caller that gets `EINTR` and finds that it is not that thread
//! calls again. So the coroutine passes for the first thread until the error was raised.

use std::cell::Cell;
use std::ffi::c_int;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Coroutine, INTERVAL, Scheduler, Token, Wake, timers};
use crate::coro::interposed::real;

/// How often a call answers `EINTR` before it fails for good: libraries that only call again have had their time, too.
const PATIENCE: u8 = 3;

/// A coroutine's limit.
#[derive(Debug, Default)]
pub(super) struct Limit {
    /// Which of its limits it has now; none where it is 0.
    serial: Cell<u64>,
    last: Cell<u64>,
    hit: Cell<bool>,
    /// It is interrupted, and the error was not raised yet.
    pending: Cell<bool>,
    told: Cell<u8>,
    /// It waits where an interruption can be told.
    pub(super) interruptible: Cell<bool>,
}

impl Limit {
    /// Whether the coroutine passes for the process's first thread.
    #[inline]
    pub(super) fn poses(&self) -> bool {
        self.pending.get()
    }
}

impl Scheduler {
    pub(super) fn has_limit(&self, token: Token) -> bool {
        self.limited(token).is_some()
    }

    /// Interrupts those who have had their time.
    pub(super) fn expire_limits(&self) {
        let mut due: Vec<_> = timers::all_due(&self.limits).filter(|limit| self.has_limit(*limit)).collect();
        if due.is_empty() {
            return;
        }
        // Coroutines may go on meanwhile, and come to their requests' end.
        self.hold();
        due.retain(|limit| self.limited(*limit).is_some_and(|coroutine| !self.interrupt(&coroutine)));
        self.release();
        let soon = Instant::now() + INTERVAL;
        for limit in due {
            self.limits.borrow_mut().add(soon, limit, |limit| self.has_limit(limit));
        }
    }

    /// With the language's lock. False if it must not be where it is now.
    fn interrupt(&self, coroutine: &Coroutine) -> bool {
        let waits = coroutine.waiting.get() && coroutine.limit.interruptible.get();
        if !self.runtime.may_interrupt(coroutine.identity(), waits) {
            return false;
        }
        coroutine.limit.hit.set(true);
        if waits {
            coroutine.limit.pending.set(true);
            self.posing.set(self.posing.get() + 1);
            self.wake(Token { key: coroutine.key, serial: coroutine.serial.get() }, Wake::Interrupted);
        } else {
            self.runtime.interrupt(coroutine.identity());
        }
        true
    }

    /// The coroutine whose request this limit is of, if it is under way.
    fn limited(&self, limit: Token) -> Option<Rc<Coroutine>> {
        let coroutine = self.coroutines.borrow().get(limit.key).cloned();
        coroutine.filter(|coroutine| coroutine.limit.serial.get() == limit.serial)
    }

    /// Whether signals are not to be handled now, as a coroutine passes for the first thread.
    pub(crate) fn is_posing(&self) -> bool {
        self.posing.get() > 0
    }
}

impl Coroutine {
    /// What it passes for as a thread.
    pub(crate) fn identity(&self) -> usize {
        self.identity
    }

    /// The thread that it says it is.
    pub(crate) fn thread(&self) -> libc::pthread_t {
        if self.limit.poses() { real::thread() } else { self.identity() as libc::pthread_t }
    }

    /// A request begins, which has this long.
    pub(crate) fn begin_limit(&self, limit: Duration) {
        let Some(due) = Instant::now().checked_add(limit) else { return };
        let serial = self.limit.last.get() + 1;
        self.limit.last.set(serial);
        self.limit.serial.set(serial);
        let scheduler = self.scheduler();
        let token = Token { key: self.key, serial };
        scheduler.limits.borrow_mut().add(due, token, |token| scheduler.has_limit(token));
    }

    /// It has no limit any more.
    pub(crate) fn lift_limit(&self) {
        self.limit.serial.set(0);
    }

    /// Whether the request has had its time, and whether the error was raised.
    pub(crate) fn limit_was_hit(&self) -> (bool, bool) {
        (self.limit.hit.get(), !self.limit.pending.get())
    }

    /// The request is over. With its language's lock.
    pub(crate) fn end_limit(&self) {
        self.lift_limit();
        if self.limit.hit.replace(false) {
            self.take_interruption();
            self.scheduler().runtime.spare(self.identity());
        }
    }

    /// It is interrupted; afterwards it isn't any more. For whoever raises the error.
    pub(crate) fn take_interruption(&self) -> bool {
        self.limit.told.set(0);
        let pending = self.limit.pending.replace(false);
        if pending {
            let scheduler = self.scheduler();
            scheduler.posing.set(scheduler.posing.get().saturating_sub(1));
        }
        pending
    }

    /// A call was interrupted: what it answers.
    pub(crate) fn interrupted(&self) -> c_int {
        let (told, runtime) = (self.limit.told.get(), &self.scheduler().runtime);
        match told {
            0 => runtime.signal(),
            1 => runtime.interrupt_here(self.state.get(), self.identity()),
            PATIENCE.. => return libc::ETIMEDOUT,
            _ => {}
        }
        self.limit.told.set(told + 1);
        libc::EINTR
    }
}
