//! Who one is. Each coroutine passes for a thread: `pthread_self` answers the coroutine's own identity, in it, so that
//! `threading.get_ident()` differs and an `RLock` has one owner; and whatever is then asked about that identity is answered
//! for the coroutine, or for the thread that it runs on.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{cpu_set_t, pthread_attr_t, pthread_t, sched_param, size_t, timespec};

use super::allocators::told_its_caller;
use super::{Carried, Real, Symbol};
use crate::coro::scheduler::{self, Who, helpers, thread_keys, who_is};

macro_rules! real {
    ($name:literal, $type:ty) => {{
        static REAL: Real = Real::new($name, None);
        // The caller names the function's type.
        std::mem::transmute::<*mut c_void, $type>(REAL.get())
    }};
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
    let Some(coroutine) = mine else {
        return match who_is(thread) {
            Who::Thread(thread) | Who::Coroutine(thread) => real(thread, attributes),
            Who::Gone => libc::ESRCH,
        };
    };
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

/// Those that ask of a coroutine what may be asked of its thread.
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
                match who_is(thread) {
                    Who::Thread(thread) | Who::Coroutine(thread) => real(thread, $($arg),*),
                    Who::Gone => libc::ESRCH,
                }
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
    fn pthread_setschedprio(priority: c_int);
    fn pthread_getaffinity_np(size: size_t, set: *mut cpu_set_t);
    fn pthread_setaffinity_np(size: size_t, set: *const cpu_set_t);
}

/// Those that wait for a thread's end or give up waiting for it. A coroutine is like a thread that nobody waits for: one that
/// was detached.
macro_rules! ends {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $($waits:ident)?;)*) => {
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
                if !matches!(who_is(thread), Who::Thread(_)) {
                    return libc::EINVAL;
                }
                ends!(@call real(thread, $($arg),*) $($waits)?)
            }
        )*
        /// Those that ask for the end of a thread.
        pub(super) const ENDS: &[Symbol] = &[
            $((stringify!($name), || $name as *const () as usize),)*
            ("pthread_cancel", || pthread_cancel as *const () as usize),
        ];
    };
    (@call $real:ident($thread:ident, $($arg:ident),*)) => { $real($thread, $($arg),*) };
    (@call $real:ident($thread:ident, $($arg:ident),*) waits) => {{
        let Some(me) = scheduler::waiter() else { return $real($thread, $($arg),*) };
        let carried = Carried(($($arg,)*));
        let joined = helpers::run_lasting(me, move || {
            let ($($arg,)*) = carried.get();
            $real($thread, $($arg),*)
        });
        joined.map_or_else(|| $real($thread, $($arg),*), |(error, _)| error)
    }};
}

ends! {
    fn pthread_detach();
    fn pthread_tryjoin_np(result: *mut *mut c_void);
    fn pthread_join(result: *mut *mut c_void) waits;
    fn pthread_timedjoin_np(result: *mut *mut c_void, by: *const timespec) waits;
    fn pthread_clockjoin_np(result: *mut *mut c_void, clock: libc::clockid_t, by: *const timespec) waits;
}

/// A coroutine can't be cancelled: that would be the end of all.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_cancel(thread: pthread_t) -> c_int {
    match who_is(thread) {
        Who::Thread(thread) => real!(c"pthread_cancel", unsafe extern "C" fn(pthread_t) -> c_int)(thread),
        Who::Coroutine(_) | Who::Gone => libc::ESRCH,
    }
}

/// Asks for a variable of a library's to be destroyed at the end of the thread. Coroutines end with the process, which
/// needs it no more; and the thread's own variable is another, in the same place.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn __cxa_thread_atexit_impl(
    destroy: *mut c_void,
    variable: *mut c_void,
    library: *mut c_void,
) -> c_int {
    if scheduler::is_a_coroutines(variable) {
        return 0;
    }
    real!(c"__cxa_thread_atexit_impl", unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void) -> c_int)(
        destroy, variable, library,
    )
}

told_its_caller! {
    fn pthread_key_create(key: *mut libc::pthread_key_t, destroy: Destroy) -> c_int = create_key, "rdx", "x2";
}

type Destroy = Option<unsafe extern "C" fn(*mut c_void)>;

unsafe extern "C" fn create_key(key: *mut libc::pthread_key_t, destroy: Destroy, caller: usize) -> c_int {
    type Create = unsafe extern "C" fn(*mut libc::pthread_key_t, Destroy) -> c_int;
    let error = real!(c"pthread_key_create", Create)(key, destroy);
    if error == 0 {
        thread_keys::made(*key, caller);
    }
    error
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_key_delete(key: libc::pthread_key_t) -> c_int {
    thread_keys::deleting(key);
    real!(c"pthread_key_delete", unsafe extern "C" fn(libc::pthread_key_t) -> c_int)(key)
}

/// Whether threads that would end stay where they are.
static STAY: AtomicBool = AtomicBool::new(false);

/// From now on, as the process ends, threads that would end stay where they are. CPython up to 3.13 ends those that ask for
/// its lock when it is about to go, from within whatever they are in.
#[cfg(feature = "python")]
pub(crate) fn keep_threads() {
    STAY.store(true, Ordering::SeqCst);
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn pthread_exit(result: *mut c_void) -> ! {
    while STAY.load(Ordering::SeqCst) {
        libc::pause();
    }
    real!(c"pthread_exit", unsafe extern "C-unwind" fn(*mut c_void) -> !)(result)
}

/// The others.
pub(super) const ONES: &[Symbol] = &[
    ("pthread_exit", || pthread_exit as *const () as usize),
    ("pthread_self", || pthread_self as *const () as usize),
    ("pthread_getattr_np", || pthread_getattr_np as *const () as usize),
    ("__cxa_thread_atexit_impl", || __cxa_thread_atexit_impl as *const () as usize),
    ("pthread_key_create", || pthread_key_create as *const () as usize),
    ("pthread_key_delete", || pthread_key_delete as *const () as usize),
];
