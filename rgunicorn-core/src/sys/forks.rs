//! Forks that nobody here makes: the application's, or a library's.
//!
//! A process that an application forks has all that its worker has. The sockets of clients are among that, so that what the
//! worker closes stays open. And its code is the worker's: where the child isn't ended by the application it comes back to us, by
//! `sys.exit()`, an exception, or a `return` from the request, and would go on as the same worker a second time, with the same
//! sockets and the same epoll instance. So it [ends](end_if_stray) wherever it gets to us. What forks without the C library's
//! `fork` isn't noticed; programs that are executed get none of the sockets.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Once, OnceLock};

use nix::sys::signal::{SigHandler, SigSet, Signal};

use super::fork::exit_now;

/// How often this process has forked, and one more: 0 is before all times.
static FORKS: AtomicU64 = AtomicU64::new(1);
/// This process is one that somebody else has forked.
static STRAY: AtomicBool = AtomicBool::new(false);
/// The descriptors that such a process gets none of.
static KEPT: [AtomicI32; 64] = [const { AtomicI32::new(NONE) }; 64];
const NONE: RawFd = -1;
/// What is to be done before such a process ends.
static LAST: OnceLock<fn()> = OnceLock::new();

/// Notices forks from here on, also in the processes that come of them.
pub fn watch() {
    extern "C" fn in_parent() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    extern "C" fn in_child() {
        STRAY.store(true, Ordering::Relaxed);
        for kept in &KEPT {
            let descriptor = kept.swap(NONE, Ordering::Relaxed);
            if descriptor != NONE {
                give_up(descriptor);
            }
        }
    }
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        // SAFETY: both touch nothing but atomic variables of this process's own memory, and make system calls. Without room for
        // them forks go unnoticed, as by others who fork in their own way.
        unsafe { libc::pthread_atfork(None, Some(in_parent), Some(in_child)) };
        // Whoever interposes it looks for the real one when it is first called: not in a child, please.
        // SAFETY: takes nothing.
        unsafe { libc::syscall(libc::SYS_gettid) };
    });
}

/// Has the descriptor be one of nothing: its number isn't to be another file's, as somebody has it in mind.
fn give_up(descriptor: RawFd) {
    // SAFETY: system calls with constants, a constant path, and descriptors that are ours to give up in this process. Not by libc's
    // functions, which are other than its own in class `coro`.
    unsafe {
        let flags = libc::O_RDWR | libc::O_CLOEXEC;
        let nothing = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, c"/dev/null".as_ptr(), flags);
        if nothing < 0 || libc::syscall(libc::SYS_dup3, nothing, descriptor, libc::O_CLOEXEC) < 0 {
            libc::syscall(libc::SYS_close, descriptor);
        }
        if nothing >= 0 {
            libc::syscall(libc::SYS_close, nothing);
        }
    }
}

/// Keeps a descriptor from the processes that are forked from this one, for as long as it lives.
#[derive(Debug)]
pub struct Kept(Option<&'static AtomicI32>);

impl Kept {
    /// To be dropped before the descriptor is closed. Where there are too many, children have it.
    pub fn new(descriptor: BorrowedFd<'_>) -> Kept {
        let number = descriptor.as_raw_fd();
        let free = |place: &&AtomicI32| {
            place.compare_exchange(NONE, number, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        Kept(KEPT.iter().find(free))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(place) = self.0 {
            place.store(NONE, Ordering::Relaxed);
        }
    }
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

/// Has this be done before a process ends that has come back, such as to write what it has printed.
pub fn before_the_end(last: fn()) {
    // Whoever is first: there is one interpreter in a process.
    let _ = LAST.set(last);
}

/// Ends this process if it was forked by an application.
#[inline]
pub fn end_if_stray() {
    if is_stray() {
        end(None, "");
    }
}

/// Ends this process, which an application has forked and which has come back to us: with the status that it asks for, or as
/// failed, for this reason.
#[cold]
pub fn end(status: Option<i32>, report: &str) -> ! {
    if status.is_none() {
        let newline = if report.is_empty() { "" } else { "\n" };
        tracing::error!(
            "A process that the application has forked came back to its worker; it ends here{newline}{report}"
        );
    }
    end_in_time();
    if let Some(last) = LAST.get() {
        last();
    }
    exit_now(status.unwrap_or(1))
}

/// Should what comes last wait for a lock that another thread had when this process was forked, it ends all the same.
fn end_in_time() {
    const SECONDS: u32 = 5;
    let mut alarm = SigSet::empty();
    alarm.add(Signal::SIGALRM);
    // SAFETY: the default action is no handler.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGALRM, SigHandler::SigDfl) };
    let _ = alarm.thread_unblock();
    nix::unistd::alarm::set(SECONDS);
}
