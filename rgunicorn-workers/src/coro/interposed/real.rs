//! The real calls, for ourselves: where an interposed one would ask the scheduler that is at work.

use std::ffi::{CString, c_int, c_void};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Real;

/// Finds the symbol that libraries see.
pub(super) fn symbol(name: &str) -> Option<usize> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name is NUL-terminated.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found as usize)
}

/// `epoll_wait(2)` with a time-out as exact as the kernel has it.
pub(crate) fn epoll_wait_for(
    epoll: RawFd,
    events: *mut libc::epoll_event,
    room: c_int,
    most: Option<Duration>,
) -> c_int {
    static EXACT: AtomicBool = AtomicBool::new(true);
    static SYSCALL: Real = Real::new(c"syscall", None);
    static WAIT: Real = Real::new(c"epoll_wait", None);
    type Syscall = unsafe extern "C" fn(i64, ...) -> i64;
    type Wait = unsafe extern "C" fn(c_int, *mut libc::epoll_event, c_int, c_int) -> c_int;
    let precise = most.filter(|most| !most.is_zero() && EXACT.load(Ordering::Relaxed));
    // SAFETY: the functions have these types, and `events` room for `room`.
    unsafe {
        if let Some(most) = precise {
            let time = libc::timespec {
                tv_sec: libc::time_t::try_from(most.as_secs()).unwrap_or(libc::time_t::MAX),
                tv_nsec: most.subsec_nanos().into(),
            };
            let syscall: Syscall = std::mem::transmute(SYSCALL.get());
            let number = libc::SYS_epoll_pwait2;
            let none = std::ptr::null::<c_void>();
            let count = syscall(number, epoll as i64, events, room as i64, &raw const time, none, 0_i64);
            if count != -1 || super::errno() != libc::ENOSYS {
                return count as c_int;
            }
            EXACT.store(false, Ordering::Relaxed);
        }
        let wait: Wait = std::mem::transmute(WAIT.get());
        let milliseconds = match most {
            None => -1,
            Some(most) => c_int::try_from(most.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX),
        };
        wait(epoll, events, room, milliseconds)
    }
}

/// `read(2)` of a descriptor that doesn't block.
pub(crate) fn read(descriptor: RawFd, into: &mut [u8]) -> isize {
    static READ: Real = Real::new(c"read", None);
    // SAFETY: the function has this type, and the buffer this length.
    unsafe {
        let read: unsafe extern "C" fn(c_int, *mut c_void, usize) -> isize = std::mem::transmute(READ.get());
        read(descriptor, into.as_mut_ptr().cast(), into.len())
    }
}

/// `write(2)` to a descriptor that doesn't block.
pub(crate) fn write(descriptor: RawFd, bytes: &[u8]) -> isize {
    static WRITE: Real = Real::new(c"write", None);
    // SAFETY: the function has this type, and the buffer this length.
    unsafe {
        let write: unsafe extern "C" fn(c_int, *const c_void, usize) -> isize =
            std::mem::transmute(WRITE.get());
        write(descriptor, bytes.as_ptr().cast(), bytes.len())
    }
}

/// `poll(2)` that doesn't wait.
pub(super) unsafe fn poll_now(polled: *mut libc::pollfd, count: libc::nfds_t) -> c_int {
    static POLL: Real = Real::new(c"poll", None);
    let poll: unsafe extern "C" fn(*mut libc::pollfd, libc::nfds_t, c_int) -> c_int =
        std::mem::transmute(POLL.get());
    poll(polled, count, 0)
}

/// Which of these events a descriptor has now.
pub(super) fn ready(descriptor: RawFd, events: i16) -> i16 {
    let mut polled = libc::pollfd { fd: descriptor, events, revents: 0 };
    // SAFETY: one valid entry.
    match unsafe { poll_now(&raw mut polled, 1) } {
        1 => polled.revents,
        _ => 0,
    }
}

/// The thread that this is, whatever coroutine it is in.
pub(crate) fn thread() -> libc::pthread_t {
    static SELF: Real = Real::new(c"pthread_self", None);
    // SAFETY: the function has this type.
    unsafe {
        let own: unsafe extern "C" fn() -> libc::pthread_t = std::mem::transmute(SELF.get());
        own()
    }
}

/// Lets other threads have the processor.
pub(crate) fn yield_processor() {
    static YIELD: Real = Real::new(c"sched_yield", None);
    // SAFETY: the function has this type.
    unsafe {
        let yield_processor: unsafe extern "C" fn() -> c_int = std::mem::transmute(YIELD.get());
        yield_processor();
    }
}

/// Has the thread sleep for a moment.
pub(crate) fn nap() {
    static SLEEP: Real = Real::new(c"nanosleep", None);
    type Sleep = unsafe extern "C" fn(*const libc::timespec, *mut libc::timespec) -> c_int;
    let moment = libc::timespec { tv_sec: 0, tv_nsec: 50_000 };
    // SAFETY: the function has this type, and needs no place for the rest.
    unsafe {
        let sleep: Sleep = std::mem::transmute(SLEEP.get());
        sleep(&raw const moment, std::ptr::null_mut());
    }
}

/// Whether a descriptor is readable now.
pub(crate) fn is_readable(descriptor: RawFd) -> bool {
    ready(descriptor, libc::POLLIN) != 0
}

/// What this thread has under a key of `pthread_key_create(3)`.
#[inline]
pub(crate) fn value_of(key: libc::pthread_key_t) -> *mut c_void {
    // SAFETY: any number may be asked for.
    unsafe { libc::pthread_getspecific(key) }
}

/// Sets it, if the key is still there.
#[inline]
pub(crate) fn set_value(key: libc::pthread_key_t, value: *mut c_void) {
    // SAFETY: any number may be given; the value is one that this key had in some coroutine.
    unsafe { libc::pthread_setspecific(key, value) };
}
