//! A lock that is held for a moment, and that may be taken wherever an interposed function may be called: in the midst of an
//! allocator, say. It neither allocates nor calls anything that is interposed, and nor must those who hold it.

use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::coro::interposed::real;

/// How often it is tried before the thread lets others have the processor.
const SPINS: u32 = 200;
/// And after how many tries it sleeps: whoever holds it may have no processor.
const ENOUGH: u32 = SPINS + 50;

/// What the lock is for.
#[derive(Debug, Default)]
pub(super) struct Brief<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: only one thread at a time gets at the value.
unsafe impl<T: Send> Sync for Brief<T> {}

impl<T> Brief<T> {
    pub(super) const fn new(value: T) -> Self {
        Brief { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Calls `work`, which must not panic, with the lock.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let mut tries = 0;
        while self.taken.swap(true, Ordering::Acquire) {
            tries += 1;
            match tries {
                0..SPINS => spin_loop(),
                SPINS..ENOUGH => real::yield_processor(),
                _ => real::nap(),
            }
        }
        // SAFETY: nobody else has it.
        let result = work(unsafe { &mut *self.value.get() });
        self.taken.store(false, Ordering::Release);
        result
    }
}
