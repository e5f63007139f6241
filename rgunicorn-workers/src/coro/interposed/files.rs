//! Closing, locking and syncing files.

use std::ffi::{c_int, c_long, c_uint};
use std::os::fd::RawFd;

use libc::off_t;

use super::{Real, Symbol, errno, fail, interpose};
use crate::coro::scheduler::{closing_elsewhere, helpers, here};

/// Has a helper thread make a call that blocks, by `helpers::run` or `run_lasting`; the call itself if there is none.
macro_rules! elsewhere {
    ($run:ident, $me:ident, $call:expr) => {
        match helpers::$run($me, move || $call) {
            Some((result, errno)) => {
                fail(errno);
                result
            }
            None => $call,
        }
    };
}

interpose! {
    fn flock(descriptor: c_int, operation: c_int) -> c_int as (me, real) {
        let result = real(descriptor, operation | libc::LOCK_NB);
        if result == 0 || errno() != libc::EWOULDBLOCK || operation & libc::LOCK_NB != 0 {
            return result;
        }
        elsewhere!(run_lasting, me, real(descriptor, operation))
    }

    fn fcntl(descriptor: c_int, command: c_int, argument: c_long) -> c_int as (me, real) {
        match without_waiting(command) {
            None => real(descriptor, command, argument),
            Some(now) => {
                let result = real(descriptor, now, argument);
                if result == 0 || !matches!(errno(), libc::EAGAIN | libc::EACCES) {
                    return result;
                }
                elsewhere!(run_lasting, me, real(descriptor, command, argument))
            }
        }
    }

    fn fcntl64(descriptor: c_int, command: c_int, argument: c_long) -> c_int as (me, real) {
        match without_waiting(command) {
            None => real(descriptor, command, argument),
            Some(now) => {
                let result = real(descriptor, now, argument);
                if result == 0 || !matches!(errno(), libc::EAGAIN | libc::EACCES) {
                    return result;
                }
                elsewhere!(run_lasting, me, real(descriptor, command, argument))
            }
        }
    }

    fn lockf(descriptor: c_int, command: c_int, length: off_t) -> c_int as (me, real) {
        if command != libc::F_LOCK {
            return real(descriptor, command, length);
        }
        let result = real(descriptor, libc::F_TLOCK, length);
        if result == 0 || !matches!(errno(), libc::EAGAIN | libc::EACCES) {
            return result;
        }
        elsewhere!(run_lasting, me, real(descriptor, command, length))
    }

    fn lockf64(descriptor: c_int, command: c_int, length: off_t) -> c_int as (me, real) {
        if command != libc::F_LOCK {
            return real(descriptor, command, length);
        }
        let result = real(descriptor, libc::F_TLOCK, length);
        if result == 0 || !matches!(errno(), libc::EAGAIN | libc::EACCES) {
            return result;
        }
        elsewhere!(run_lasting, me, real(descriptor, command, length))
    }

    fn fsync(descriptor: c_int) -> c_int as (me, real) {
        elsewhere!(run, me, real(descriptor))
    }

    fn fdatasync(descriptor: c_int) -> c_int as (me, real) {
        elsewhere!(run, me, real(descriptor))
    }
}

/// The command that asks for the same lock and doesn't wait for it.
fn without_waiting(command: c_int) -> Option<c_int> {
    match command {
        libc::F_SETLKW => Some(libc::F_SETLK),
        libc::F_OFD_SETLKW => Some(libc::F_OFD_SETLK),
        _ => None,
    }
}

/// A descriptor is about to become another file's, or nobody's: those who wait for it must not wait for ever, nor for
/// another's bytes.
fn closing(descriptor: RawFd) {
    match here() {
        Some(scheduler) => scheduler.closing(descriptor),
        None => closing_elsewhere(descriptor),
    }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn close(descriptor: c_int) -> c_int {
    static REAL: Real = Real::new(c"close", None);
    let real: unsafe extern "C" fn(c_int) -> c_int = std::mem::transmute(REAL.get());
    closing(descriptor);
    real(descriptor)
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn dup2(from: c_int, to: c_int) -> c_int {
    static REAL: Real = Real::new(c"dup2", None);
    let real: unsafe extern "C" fn(c_int, c_int) -> c_int = std::mem::transmute(REAL.get());
    if from != to {
        closing(to);
    }
    real(from, to)
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int {
    static REAL: Real = Real::new(c"dup3", None);
    let real: unsafe extern "C" fn(c_int, c_int, c_int) -> c_int = std::mem::transmute(REAL.get());
    closing(to);
    real(from, to, flags)
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    static REAL: Real = Real::new(c"close_range", None);
    let real: unsafe extern "C" fn(c_uint, c_uint, c_int) -> c_int = std::mem::transmute(REAL.get());
    if let Some(scheduler) = here() {
        scheduler.closing_range(first as usize..=last as usize);
    }
    real(first, last, flags)
}

/// Those that close, in any thread and with any lock held.
pub(super) const CLOSING: &[Symbol] = &[
    ("close", || close as *const () as usize),
    ("dup2", || dup2 as *const () as usize),
    ("dup3", || dup3 as *const () as usize),
    ("close_range", || close_range as *const () as usize),
];
