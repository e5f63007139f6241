//! Signal masks: each coroutine has its own, as each thread would. A coroutine that has changed its thread's mask and then
//! waits (CPython blocks all signals while it starts a process, and gives up the GIL meanwhile) must not leave it to others,
//! nor take theirs.

use std::ffi::{c_int, c_void};

use libc::sigset_t;

use super::{Real, Symbol};
use crate::coro::scheduler;

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_sigmask(
    how: c_int,
    set: *const sigset_t,
    old: *mut sigset_t,
) -> c_int {
    static REAL: Real = Real::new(c"pthread_sigmask", None);
    type Sigmask = unsafe extern "C" fn(c_int, *const sigset_t, *mut sigset_t) -> c_int;
    let real = std::mem::transmute::<*mut c_void, Sigmask>(REAL.get());
    let result = real(how, set, old);
    changed(set);
    result
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn sigprocmask(how: c_int, set: *const sigset_t, old: *mut sigset_t) -> c_int {
    static REAL: Real = Real::new(c"sigprocmask", None);
    type Sigmask = unsafe extern "C" fn(c_int, *const sigset_t, *mut sigset_t) -> c_int;
    let real = std::mem::transmute::<*mut c_void, Sigmask>(REAL.get());
    let result = real(how, set, old);
    changed(set);
    result
}

fn changed(set: *const sigset_t) {
    if !set.is_null()
        && let Some(coroutine) = scheduler::current()
    {
        coroutine.has_changed_mask();
    }
}

/// Both of them, in any coroutine and with any lock held.
pub(super) const MASKS: &[Symbol] = &[
    ("pthread_sigmask", || pthread_sigmask as *const () as usize),
    ("sigprocmask", || sigprocmask as *const () as usize),
];
