//! Who one is. Each coroutine passes for a thread: `pthread_self` answers the coroutine's own identity, in it, so that
//! `threading.get_ident()` differs and an `RLock` has one owner; and whatever is then asked about that identity is answered
//! for the coroutine, or for the thread that it runs on.

use std::ffi::{c_char, c_int, c_void};

use libc::{cpu_set_t, pthread_attr_t, pthread_t, sched_param, size_t};

use super::{Carried, Real, Symbol};
use crate::coro::scheduler::{self, helpers};

macro_rules! real {
    ($name:literal, $type:ty) => {{
        static REAL: Real = Real::new($name, None);
        // The caller names the function's type.
        std::mem::transmute::<*mut c_void, $type>(REAL.get())
    }};
}

/// The thread behind an identity: that of the coroutines, if it is one of theirs.
unsafe fn thread_of(thread: pthread_t) -> pthread_t {
    match scheduler::thread_of(thread as usize) {
        Some(real) => real,
        None => thread,
    }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_self() -> pthread_t {
    match scheduler::current() {
        Some(coroutine) => coroutine.thread(),
        None => real!(c"pthread_self", unsafe extern "C" fn() -> pthread_t)(),
    }
}

/// What CPython bounds its recursion by (3.14 and later).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_getattr_np(
    thread: pthread_t,
    attributes: *mut pthread_attr_t,
) -> c_int {
    let mine = scheduler::current().filter(|coroutine| coroutine.identity() == thread as usize);
    let real = real!(c"pthread_getattr_np", unsafe extern "C" fn(pthread_t, *mut pthread_attr_t) -> c_int);
    let Some(coroutine) = mine else { return real(thread_of(thread), attributes) };
    let bounds = coroutine.bounds();
    let mut error = libc::pthread_attr_init(attributes);
    if error == 0 {
        error = libc::pthread_attr_setguardsize(attributes, bounds.guard);
    }
    if error == 0 {
        error = libc::pthread_attr_setstack(attributes, bounds.low as *mut c_void, bounds.high - bounds.low);
    }
    error
}

macro_rules! of_the_thread {
    ($(fn $name:ident($($arg:ident: $type:ty),*);)*) => {
        $(
            #[unsafe(no_mangle)]
            pub(crate) unsafe extern "C" fn $name(thread: pthread_t, $($arg: $type),*) -> c_int {
                static REAL: Real = Real::new(
                    match std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => c"",
                    },
                    None,
                );
                let real: unsafe extern "C" fn(pthread_t, $($type),*) -> c_int = std::mem::transmute(REAL.get());
                real(thread_of(thread), $($arg),*)
            }
        )*
        pub(super) const OF_THE_THREAD: &[Symbol] = &[$((stringify!($name), || $name as *const () as usize)),*];
    };
}

of_the_thread! {
    fn pthread_kill(signal: c_int);
    fn pthread_sigqueue(signal: c_int, value: libc::sigval);
    fn pthread_getcpuclockid(clock: *mut libc::clockid_t);
    fn pthread_setname_np(name: *const c_char);
    fn pthread_getname_np(name: *mut c_char, length: size_t);
    fn pthread_getschedparam(policy: *mut c_int, parameters: *mut sched_param);
    fn pthread_setschedparam(policy: c_int, parameters: *const sched_param);
    fn pthread_getaffinity_np(size: size_t, set: *mut cpu_set_t);
    fn pthread_setaffinity_np(size: size_t, set: *const cpu_set_t);
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_join(thread: pthread_t, result: *mut *mut c_void) -> c_int {
    let real = real!(c"pthread_join", unsafe extern "C" fn(pthread_t, *mut *mut c_void) -> c_int);
    if scheduler::thread_of(thread as usize).is_some() {
        return libc::EINVAL;
    }
    let Some(me) = scheduler::waiter() else { return real(thread, result) };
    let carried = Carried(result);
    let joined = helpers::run(me, move || real(thread, carried.get()));
    joined.map_or_else(|| real(thread, result), |(error, _)| error)
}

/// The others.
pub(super) const ONES: &[Symbol] = &[
    ("pthread_self", || pthread_self as *const () as usize),
    ("pthread_getattr_np", || pthread_getattr_np as *const () as usize),
    ("pthread_join", || pthread_join as *const () as usize),
];
