//! Locks for many readers or one writer, such as C++'s `std::shared_mutex` and OpenSSL's. As with mutexes, what can be had at
//! once is, and a coroutine never blocks the thread of the one that has it.
//!
//! glibc takes the thread that writes for the owner, and refuses to lock it again (`EDEADLK`); all coroutines are that thread.
//! So they only ever try.

use std::ffi::{c_int, c_void};
use std::time::Instant;

use libc::{clockid_t, pthread_rwlock_t, timespec};

use super::{Real, Symbol, instant, interpose};
use crate::coro::scheduler::{Coroutine, Wake, lot};

/// How often it is tried before the coroutine waits: most are held for a moment.
const SPINS: usize = 200;

type Try = unsafe extern "C" fn(*mut pthread_rwlock_t) -> c_int;

unsafe fn take(me: &Coroutine, lock: *mut pthread_rwlock_t, by: Option<Instant>, attempt: Try) -> c_int {
    for _ in 0..SPINS {
        match attempt(lock) {
            libc::EBUSY => std::hint::spin_loop(),
            result => return result,
        }
    }
    loop {
        let mut result = libc::EBUSY;
        let must_wait = || {
            result = attempt(lock);
            result == libc::EBUSY
        };
        let woken = lot::wait(me, lock as usize, by, must_wait, || ());
        if result == libc::EBUSY {
            result = attempt(lock);
        }
        if result != libc::EBUSY {
            return result;
        }
        if woken == Wake::TimedOut {
            return libc::ETIMEDOUT;
        }
    }
}

interpose! {
    fn pthread_rwlock_rdlock(lock: *mut pthread_rwlock_t) -> c_int as lock (me, _real) {
        take(me, lock, None, libc::pthread_rwlock_tryrdlock)
    }

    fn pthread_rwlock_wrlock(lock: *mut pthread_rwlock_t) -> c_int as lock (me, _real) {
        take(me, lock, None, libc::pthread_rwlock_trywrlock)
    }

    fn pthread_rwlock_timedrdlock(lock: *mut pthread_rwlock_t, by: *const timespec) -> c_int as lock (me, real) {
        match by.as_ref() {
            Some(time) => take(me, lock, instant(libc::CLOCK_REALTIME, time), libc::pthread_rwlock_tryrdlock),
            None => real(lock, by),
        }
    }

    fn pthread_rwlock_timedwrlock(lock: *mut pthread_rwlock_t, by: *const timespec) -> c_int as lock (me, real) {
        match by.as_ref() {
            Some(time) => take(me, lock, instant(libc::CLOCK_REALTIME, time), libc::pthread_rwlock_trywrlock),
            None => real(lock, by),
        }
    }

    fn pthread_rwlock_clockrdlock(lock: *mut pthread_rwlock_t, clock: clockid_t, by: *const timespec) -> c_int as lock (me, real) {
        match by.as_ref() {
            Some(time) => take(me, lock, instant(clock, time), libc::pthread_rwlock_tryrdlock),
            None => real(lock, clock, by),
        }
    }

    fn pthread_rwlock_clockwrlock(lock: *mut pthread_rwlock_t, clock: clockid_t, by: *const timespec) -> c_int as lock (me, real) {
        match by.as_ref() {
            Some(time) => take(me, lock, instant(clock, time), libc::pthread_rwlock_trywrlock),
            None => real(lock, clock, by),
        }
    }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_rwlock_unlock(lock: *mut pthread_rwlock_t) -> c_int {
    static REAL: Real = Real::new(c"pthread_rwlock_unlock", None);
    let real: Try = std::mem::transmute::<*mut c_void, Try>(REAL.get());
    let result = real(lock);
    // Several readers may have it now.
    lot::wake(lock as usize, usize::MAX);
    result
}

/// The one that gives back, in any thread and with any lock held.
pub(super) const SIGNALS: &[Symbol] =
    &[("pthread_rwlock_unlock", || pthread_rwlock_unlock as *const () as usize)];
