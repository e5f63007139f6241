//! Sleeping.

use std::ffi::{c_int, c_uint};
use std::time::{Duration, Instant};

use libc::{clockid_t, timespec};

use super::allocators::{is_allocator, told_its_caller};
use super::{Real, Symbol, after, duration, instant, interpose, real};
use crate::coro::scheduler::{Coroutine, Wake, lock_waiter, waiter};

/// Sleeps; the error that a signal's handler would cause if the request has had its time.
fn sleep_until(me: &Coroutine, by: Option<Instant>) -> c_int {
    if by.is_some_and(|by| by <= Instant::now()) {
        me.yield_now();
        return 0;
    }
    match me.sleep(by) {
        Wake::Interrupted => me.interrupted(),
        _ => 0,
    }
}

/// What is left of a sleep.
unsafe fn tell_rest(by: Option<Instant>, rest: *mut timespec) {
    if let (Some(rest), Some(by)) = (rest.as_mut(), by) {
        let left = by.saturating_duration_since(Instant::now());
        rest.tv_sec = libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX);
        rest.tv_nsec = left.subsec_nanos().into();
    }
}

interpose! {
    fn clock_nanosleep(clock: clockid_t, flags: c_int, time: *const timespec, rest: *mut timespec) -> c_int as (me, real) {
        let valid = time.as_ref().filter(|time| (0..1_000_000_000).contains(&time.tv_nsec));
        let known = matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC | libc::CLOCK_BOOTTIME);
        let Some(wanted) = valid.filter(|_| known) else { return real(clock, flags, time, rest) };
        if flags & libc::TIMER_ABSTIME != 0 {
            return sleep_until(me, instant(clock, wanted));
        }
        let by = after(Some(duration(wanted)));
        let result = sleep_until(me, by);
        if result != 0 {
            tell_rest(by, rest);
        }
        result
    }

    fn usleep(microseconds: c_uint) -> c_int as (me, _real) {
        match sleep_until(me, after(Some(Duration::from_micros(microseconds.into())))) {
            0 => 0,
            error => super::fail(error),
        }
    }

    fn sleep(seconds: c_uint) -> c_uint as (me, _real) {
        let by = after(Some(Duration::from_secs(seconds.into())));
        match sleep_until(me, by) {
            0 => 0,
            _ => by.map_or(0, |by| by.saturating_duration_since(Instant::now()).as_secs() as c_uint),
        }
    }
}

told_its_caller! {
    fn nanosleep(time: *const timespec, rest: *mut timespec) -> c_int = sleep_nanoseconds, "rdx", "x2";
    /// Whoever yields in a loop waits for somebody, with the language's lock or without.
    fn sched_yield() -> c_int = make_way, "rdi", "x0";
}

unsafe extern "C" fn sleep_nanoseconds(time: *const timespec, rest: *mut timespec, caller: usize) -> c_int {
    static REAL: Real = Real::new(c"nanosleep", None);
    let real: unsafe extern "C" fn(*const timespec, *mut timespec) -> c_int = std::mem::transmute(REAL.get());
    let valid = time.as_ref().filter(|time| time.tv_sec >= 0 && (0..1_000_000_000).contains(&time.tv_nsec));
    let (Some(wanted), Some(me)) = (valid, waiter().filter(|_| !is_allocator(caller))) else {
        return real(time, rest);
    };
    let by = after(Some(duration(wanted)));
    match sleep_until(me, by) {
        0 => 0,
        error => {
            tell_rest(by, rest);
            super::fail(error)
        }
    }
}

unsafe extern "C" fn make_way(caller: usize) -> c_int {
    match lock_waiter().filter(|_| !is_allocator(caller)) {
        Some(me) => me.make_way(),
        None => real::yield_processor(),
    }
    0
}

/// The two that allocators call as well.
pub(super) const SLEEPING: &[Symbol] = &[
    ("nanosleep", || nanosleep as *const () as usize),
    ("sched_yield", || sched_yield as *const () as usize),
];
