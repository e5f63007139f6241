//! The end of a process whose parent has died, whatever it is doing.
//!
//! While it boots it dies with its parent. Later it has some time to finish what it holds: the kernel tells it of its
//! parent's death by a signal, whose handler does no more than to start a timer, and when that has run down the kernel kills
//! it. No thread is needed for that, nor any code of the process but the handler: one that hangs, spins, or ignores every
//! signal that it knows ends as well.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};

/// The process that has prepared itself; others have inherited what follows, and not the timer.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// Its parent.
static PARENT: AtomicI32 = AtomicI32::new(0);
/// The timer that kills it; null for none.
static TIMER: AtomicPtr<libc::c_void> = AtomicPtr::new(ptr::null_mut());
/// The number of a timer may well be null.
static HAS_TIMER: AtomicBool = AtomicBool::new(false);
/// How long it may go on, in milliseconds.
static GRACE: AtomicU64 = AtomicU64::new(0);
/// Whether its time runs.
static ENDING: AtomicBool = AtomicBool::new(false);
/// A signal that it sends itself then; 0 for none.
static ALSO: AtomicI32 = AtomicI32::new(0);

/// What the kernel tells of the parent's death with: one of the real-time signals that hardly anybody uses.
fn news() -> libc::c_int {
    libc::SIGRTMAX() - 3
}

/// Has this process die at once with `parent`, which has forked it. A change of user undoes it.
pub fn die_with(parent: Pid) {
    tell_of_death_by(libc::SIGKILL);
    if getppid() != parent {
        // It died before that.
        super::fork::exit_now(1);
    }
}

/// Makes this process, which `parent` has forked, ready to [outlive](outlive) it for `grace`.
///
/// # Errors
/// When the system has no timer left.
pub fn prepare(parent: Pid, grace: Duration) -> io::Result<()> {
    // SAFETY: all-zero is a valid `sigevent`; the timer's number is written to a place of its type. The handler is
    // async-signal-safe, and its action is complete.
    unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = libc::SIGKILL;
        let mut timer: libc::timer_t = ptr::null_mut();
        Errno::result(libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer))?;
        TIMER.store(timer, SeqCst);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = parent_has_died as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigfillset(&raw mut action.sa_mask);
        Errno::result(libc::sigaction(news(), &raw const action, ptr::null_mut()))?;
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, news());
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
    }
    GRACE.store(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX), SeqCst);
    PARENT.store(parent.as_raw(), SeqCst);
    ENDING.store(false, SeqCst);
    HAS_TIMER.store(true, SeqCst);
    OWNER.store(getpid().as_raw(), SeqCst);
    Ok(())
}

/// Has this process go on for no longer than it was [prepared](prepare) for once its parent has died; `also` is a signal
/// that it then sends itself. A change of user undoes it. Without a timer there is only that signal.
pub fn outlive(also: Option<Signal>) {
    let also = also.map_or(0, |signal| signal as i32);
    if !is_prepared() {
        return tell_of_death_by(also);
    }
    ALSO.store(also, SeqCst);
    tell_of_death_by(news());
    if getppid().as_raw() != PARENT.load(SeqCst) {
        // It died before that.
        parent_has_died(news());
    }
}

/// Has this process's time run, as if the kernel had told of its parent's death. Nothing happens unless it was
/// [prepared](prepare).
pub fn begin_to_end() {
    if is_prepared() && !ENDING.swap(true, SeqCst) {
        start_timer();
    }
}

fn is_prepared() -> bool {
    HAS_TIMER.load(SeqCst) && OWNER.load(SeqCst) == getpid().as_raw()
}

/// The handler. Async-signal-safe: `getpid`, `timer_settime`, `kill` and atomics; errno is left as it was.
extern "C" fn parent_has_died(_: libc::c_int) {
    let errno = Errno::last();
    begin_to_end();
    let also = ALSO.load(SeqCst);
    if also != 0 && is_prepared() {
        // SAFETY: sends a signal, which no memory is needed for.
        unsafe { libc::kill(libc::getpid(), also) };
    }
    errno.set();
}

fn start_timer() {
    let grace = GRACE.load(SeqCst);
    // None at all would be no time at all, but the timer's way to say "never".
    let (seconds, rest) = (grace / 1000, (grace % 1000).max(1));
    let time = libc::timespec {
        tv_sec: libc::time_t::try_from(seconds).unwrap_or(libc::time_t::MAX / 4),
        tv_nsec: (rest * 1_000_000) as libc::c_long,
    };
    let once = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: time };
    // SAFETY: the timer is this process's, as `is_prepared` has said, and both are valid for reading.
    unsafe { libc::timer_settime(TIMER.load(SeqCst), 0, &raw const once, ptr::null_mut()) };
}

fn tell_of_death_by(signal: libc::c_int) {
    // SAFETY: touches no memory. It can't fail with a valid signal.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong) };
}
