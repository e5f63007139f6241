//! Forks that nobody here makes: the application's, or a library's.
//!
//! A process that an application forks has all that its worker has: the sockets of clients among them, so that what the worker
//! closes stays open; and the worker's code, to which it must never come back. What forks without the C library's `fork` isn't
//! noticed; programs that are executed get none of the sockets.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How often this process has forked, and one more: 0 is before all times.
static FORKS: AtomicU64 = AtomicU64::new(1);
/// This process is one that somebody else has forked.
static STRAY: AtomicBool = AtomicBool::new(false);

/// Notices forks from here on, also in the processes that come of them.
pub fn watch() {
    extern "C" fn in_parent() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    extern "C" fn in_child() {
        STRAY.store(true, Ordering::Relaxed);
    }
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        // SAFETY: both touch nothing but an atomic variable of this process's own memory. Without room for them forks go
        // unnoticed, as by others who fork in their own way.
        unsafe { libc::pthread_atfork(None, Some(in_parent), Some(in_child)) };
    });
}

/// A number that is another one after each fork of this process; never 0.
#[inline]
pub fn count() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Whether this process was forked by an application from one of ours: it is nobody to go on with our work.
#[inline]
pub fn is_stray() -> bool {
    STRAY.load(Ordering::Relaxed)
}

/// This process was forked by us.
pub(super) fn is_ours() {
    STRAY.store(false, Ordering::Relaxed);
}
