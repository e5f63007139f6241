//! Who one is. Each coroutine passes for a thread: `pthread_self` answers the coroutine's own identity, in it, so that
//! `threading.get_ident()` differs and an `RLock` has one owner; and whatever is then asked about that identity is answered
//! for the coroutine, or for the thread that it runs on.

use std::ffi::{c_char, c_int, c_void};

use libc::{cpu_set_t, pthread_attr_t, pthread_t, sched_param, size_t};

use super::{Carried, Real, Symbol};
use crate::coro::scheduler::{self, helpers, thread_keys};

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
    let joined = helpers::run_lasting(me, move || real(thread, carried.get()));
    joined.map_or_else(|| real(thread, result), |(error, _)| error)
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

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_key_create(
    key: *mut libc::pthread_key_t,
    destroy: Option<unsafe extern "C" fn(*mut c_void)>,
) -> c_int {
    type Create =
        unsafe extern "C" fn(*mut libc::pthread_key_t, Option<unsafe extern "C" fn(*mut c_void)>) -> c_int;
    let error = real!(c"pthread_key_create", Create)(key, destroy);
    if error == 0 {
        thread_keys::made(*key);
    }
    error
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_key_delete(key: libc::pthread_key_t) -> c_int {
    thread_keys::deleting(key);
    real!(c"pthread_key_delete", unsafe extern "C" fn(libc::pthread_key_t) -> c_int)(key)
}

/// The others.
pub(super) const ONES: &[Symbol] = &[
    ("pthread_self", || pthread_self as *const () as usize),
    ("pthread_getattr_np", || pthread_getattr_np as *const () as usize),
    ("__cxa_thread_atexit_impl", || __cxa_thread_atexit_impl as *const () as usize),
    ("pthread_key_create", || pthread_key_create as *const () as usize),
    ("pthread_key_delete", || pthread_key_delete as *const () as usize),
    ("pthread_join", || pthread_join as *const () as usize),
];
