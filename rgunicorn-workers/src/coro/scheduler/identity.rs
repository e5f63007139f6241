//! Coroutines as threads: which identities are theirs, and which thread they all run on.
//!
//! An identity is an address in a stretch of memory that is set aside for them and used for nothing: so that anybody can
//! tell one from a thread's, at any time and without a lock.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::coro::interposed::real;

/// How many coroutines may have one at a time: more than there is memory for.
const MOST: usize = 1 << 20;
/// How far two of them are apart.
const STRIDE: usize = 16;

/// Where they begin; 0 where there are none.
static FIRST: AtomicUsize = AtomicUsize::new(0);
/// The thread that all coroutines run on.
static THREAD: AtomicUsize = AtomicUsize::new(0);

/// Who an identity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// A thread.
    Thread(libc::pthread_t),
    /// A coroutine, which runs on this thread.
    Coroutine(libc::pthread_t),
    /// A coroutine of the process that this one was forked from.
    Gone,
}

/// This thread is the one.
pub(super) fn begin() -> io::Result<()> {
    if FIRST.load(Ordering::Relaxed) == 0 {
        let (size, flags) = (MOST * STRIDE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: a new mapping, anywhere.
        let first = unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
        if first == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        FIRST.store(first as usize, Ordering::Release);
    }
    THREAD.store(real::thread() as usize, Ordering::Release);
    Ok(())
}

/// That of the coroutine with this number, if it can have one.
pub(super) fn of(number: usize) -> Option<usize> {
    (number < MOST).then(|| FIRST.load(Ordering::Relaxed) + number * STRIDE)
}

/// Who that is.
pub(crate) fn who_is(identity: libc::pthread_t) -> Who {
    let first = FIRST.load(Ordering::Acquire);
    if first == 0 || !(first..first + MOST * STRIDE).contains(&(identity as usize)) {
        return Who::Thread(identity);
    }
    if super::is_forked() {
        // There is no coroutine but the one that forked, if one has.
        let mine = super::current().is_some_and(|coroutine| coroutine.identity() == identity as usize);
        return if mine { Who::Coroutine(real::thread()) } else { Who::Gone };
    }
    Who::Coroutine(THREAD.load(Ordering::Acquire) as libc::pthread_t)
}
