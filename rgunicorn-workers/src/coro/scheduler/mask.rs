//! A coroutine's signal mask, where it differs from that of the thread. Costs nothing where it doesn't.

use std::cell::Cell;

use nix::sys::signal::SigSet;

/// What a coroutine's mask is, as far as it matters.
#[derive(Debug, Default)]
pub(super) struct Mask {
    /// It was changed: it has to be looked at when the coroutine waits.
    changed: Cell<bool>,
    /// What it is, while the coroutine waits, if it isn't the thread's.
    own: Cell<Option<SigSet>>,
}

impl Mask {
    pub(super) fn note_change(&self) {
        self.changed.set(true);
    }

    /// The coroutine waits: gives the thread its own mask back.
    #[inline]
    pub(super) fn leave(&self, of_thread: SigSet) {
        if self.changed.get() {
            self.put_aside(of_thread);
        }
    }

    #[cold]
    fn put_aside(&self, of_thread: SigSet) {
        match SigSet::thread_get_mask() {
            Ok(mask) if mask != of_thread => {
                self.own.set(Some(mask));
                let _ = of_thread.thread_set_mask();
            }
            _ => self.changed.set(false),
        }
    }

    /// The coroutine goes on.
    #[inline]
    pub(super) fn enter(&self) {
        if self.changed.get()
            && let Some(mask) = self.own.take()
        {
            let _ = mask.thread_set_mask();
        }
    }
}
