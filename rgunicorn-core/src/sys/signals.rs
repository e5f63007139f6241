//! Signals as bytes in a pipe, and the handlers that put them there.
//!
//! A handler may do next to nothing, so ours writes the signal's number to a pipe that the process waits on; what the
//! signal means is decided there, in ordinary code. One process has one pipe. [`fork`](super::fork::fork) blocks all
//! signals until the new process has a pipe of its own, so that no signal is lost and none crosses over. A process
//! that an application forks (`multiprocessing`) inherits the handlers but not the pipe's ownership: there a signal has
//! its default effect, as that process would expect. Handlers that an application sets don't replace ours, but are called
//! after them: see [`take_back`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, sigaction, sigprocmask};

mod others;

pub use nix::sys::signal::Signal;
pub use others::{are_kept, let_go, take_back, take_back_all, were_called};

use others::Next;

/// Where the handler writes; -1 for nowhere.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// The process that the pipe belongs to.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// Bits of signals that are caught and dropped.
static IGNORED: AtomicU64 = AtomicU64::new(0);
/// Bits of signals that did not fit into the pipe.
static OVERFLOW: AtomicU64 = AtomicU64::new(0);
/// Bits of signals that have come since the pipe was made, whether or not it was read.
static SEEN: AtomicU64 = AtomicU64::new(0);
/// What to do on SIGABRT before the process ends: a `fn()`, or null.
static ABORT: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
/// Who else is told of signals: a `fn(c_int)`, or null.
static RELAY: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
/// Bits of the signals that are told; SIGABRT among them doesn't end the process by itself.
static RELAYED: AtomicU64 = AtomicU64::new(0);

/// Every signal that arbiter or worker care for.
pub const OURS: [Signal; 11] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCHLD,
    Signal::SIGABRT,
];

/// The name of a signal as gunicorn's log has it: `hup`.
pub fn name(signal: Signal) -> String {
    signal.as_str().trim_start_matches("SIG").to_ascii_lowercase()
}

/// The name of a signal by number, such as `SIGKILL`, as `waitpid` reports it.
pub fn name_of(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

/// The signals that this process has been sent.
#[derive(Debug)]
pub struct SignalPipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl SignalPipe {
    /// Directs `handled` into a new pipe, drops `ignored` (without making programs that are started from here ignore
    /// them), gives every other signal of ours its default effect, and unblocks all of them.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn install(handled: &[Signal], ignored: &[Signal]) -> io::Result<SignalPipe> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        IGNORED.store(ignored.iter().fold(0, |bits, signal| bits | bit(*signal as i32)), Ordering::Relaxed);
        OVERFLOW.store(0, Ordering::Relaxed);
        SEEN.store(0, Ordering::Relaxed);
        OWNER.store(nix::unistd::getpid().as_raw(), Ordering::Relaxed);
        PIPE.store(write.as_raw_fd(), Ordering::SeqCst);
        others::forget();
        for signal in OURS {
            if handled.contains(&signal) || ignored.contains(&signal) {
                set(signal, SigHandler::SigAction(forward), SaFlags::SA_RESTART)?;
                others::keep(signal);
            } else {
                set(signal, SigHandler::SigDfl, SaFlags::SA_RESTART)?;
            }
        }
        sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&SigSet::from_iter(OURS)), None)?;
        Ok(SignalPipe { read, write })
    }

    /// Waits until a signal comes, or `limit` milliseconds have passed (forever if none).
    ///
    /// # Errors
    /// As `poll(2)`; an interruption is none.
    pub fn wait(&self, limit: Option<u64>) -> io::Result<()> {
        let limit = match limit {
            None => PollTimeout::NONE,
            Some(limit) => PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut [PollFd::new(self.read.as_fd(), PollFlags::POLLIN)], limit) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the signals that have come since, in their order. Never waits.
    pub fn drain(&self) -> Vec<Signal> {
        let mut signals = Vec::new();
        let mut bytes = [0; 64];
        loop {
            match nix::unistd::read(&self.read, &mut bytes) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(count) => signals.extend(
                    bytes.iter().take(count).filter_map(|byte| Signal::try_from(i32::from(*byte)).ok()),
                ),
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        let missed = OVERFLOW.swap(0, Ordering::Relaxed);
        signals.extend(OURS.into_iter().filter(|signal| missed & bit(*signal as i32) != 0));
        signals
    }
}

impl AsFd for SignalPipe {
    /// The descriptor that is readable when signals have come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

impl Drop for SignalPipe {
    fn drop(&mut self) {
        let _ = PIPE.compare_exchange(self.write.as_raw_fd(), -1, Ordering::SeqCst, Ordering::SeqCst);
    }
}

/// Has SIGABRT end this process with status 1 where another process sent it (the arbiter does, to a worker that hangs);
/// an `abort()` of this process itself dumps core as ever.
///
/// # Errors
/// None that can happen on Linux.
pub fn catch_abort() -> io::Result<()> {
    install_abort()?;
    others::keep(Signal::SIGABRT);
    Ok(())
}

/// As [`catch_abort`], for a process that has a handler of its own for SIGABRT by now: that is called afterwards.
///
/// # Errors
/// None that can happen on Linux.
pub fn chain_abort() -> io::Result<()> {
    others::keep(Signal::SIGABRT);
    take_back(Signal::SIGABRT as i32, true)
}

/// Has a signal that would end this process do nothing, unless the process has a handler of its own for it.
///
/// # Errors
/// None that can happen on Linux.
pub fn spare(signal: Signal) -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let flags = SaFlags::SA_RESTART | SaFlags::SA_ONSTACK;
    let spared = SigAction::new(SigHandler::Handler(nothing), flags, SigSet::empty());
    // SAFETY: the handler does nothing.
    let before = unsafe { sigaction(signal, &spared) }?;
    if !matches!(before.handler(), SigHandler::SigDfl) {
        // SAFETY: the handler was in place before.
        unsafe { sigaction(signal, &before) }?;
    }
    Ok(())
}

fn install_abort() -> io::Result<()> {
    // Without SA_ONSTACK: the action raises a signal of its own, whose handler then has the alternative stack to itself.
    // Both frames may not fit into one: the standard library's is 8 KiB, and a frame takes 3.4 KiB with AVX-512.
    let action = SigAction::new(SigHandler::SigAction(abort), SaFlags::SA_SIGINFO, SigSet::all());
    // SAFETY: `abort` calls what `set_abort_action` was promised to be async-signal-safe, and `_exit`.
    unsafe { sigaction(Signal::SIGABRT, &action) }?;
    Ok(())
}

/// Has `action` called before SIGABRT, sent by another process, ends this one: the place to say where it hangs.
///
/// # Safety
/// `action` runs in a signal handler, whatever the process was doing: it may call async-signal-safe functions alone.
pub unsafe fn set_abort_action(action: fn()) {
    ABORT.store(action as *mut (), Ordering::SeqCst);
}

/// Has `action` called with the number of each of `signals` that comes, besides what else is done about it. Among them,
/// SIGABRT doesn't end the process any more: that is left to the action, or to whoever sent it.
///
/// # Safety
/// As for [`set_abort_action`].
pub unsafe fn set_relay(signals: &[i32], action: fn(libc::c_int)) {
    RELAY.store(action as *mut (), Ordering::SeqCst);
    RELAYED.store(signals.iter().fold(0, |bits, number| bits | bit(*number)), Ordering::SeqCst);
}

/// Has this process heed a signal as if it had come: for handlers of a host language that stand for ours. In a process that
/// an application forked the signal has its default effect.
pub fn deliver(signal: Signal) {
    if is_owner() {
        note(signal as libc::c_int);
    } else {
        take_effect(signal as libc::c_int);
    }
}

/// Async-signal-safe. Whether anybody was told.
fn relay(number: libc::c_int) -> bool {
    let action = RELAY.load(Ordering::SeqCst);
    if action.is_null() || RELAYED.load(Ordering::SeqCst) & bit(number) == 0 {
        return false;
    }
    // SAFETY: only `set_relay` stores here, and only a `fn(c_int)`; its caller promised that it may run here.
    unsafe { std::mem::transmute::<*mut (), fn(libc::c_int)>(action)(number) };
    true
}

/// Whether one of `signals` has come to this process, read from its [`SignalPipe`] or not. Costs a load.
pub fn has_come(signals: &[Signal]) -> bool {
    let bits = signals.iter().fold(0, |bits, signal| bits | bit(*signal as i32));
    SEEN.load(Ordering::Relaxed) & bits != 0
}

/// Sends `signal` to a process. That it is gone already is no error.
///
/// # Errors
/// When it isn't ours to signal.
pub fn send(process: super::fork::Pid, signal: Signal) -> io::Result<()> {
    match nix::sys::signal::kill(process, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// This process, for [`send`].
pub fn this_process() -> super::fork::Pid {
    nix::unistd::getpid()
}

/// How a worker is asked for its tracebacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// By a signal that its language handles when it can.
    Polite,
    /// By one that is handled at once, whatever the process is doing.
    Forced,
}

impl Report {
    /// The signal: one of two real-time signals that hardly anybody uses.
    pub fn signal(self) -> libc::c_int {
        match self {
            Report::Polite => libc::SIGRTMAX() - 2,
            Report::Forced => libc::SIGRTMAX() - 1,
        }
    }
}

/// Asks a worker for its tracebacks. One that can't be asked has none.
pub fn ask_for_report(process: super::fork::Pid, how: Report) {
    // SAFETY: sends a signal, which no memory is needed for.
    unsafe { libc::kill(process.as_raw(), how.signal()) };
}

/// Has this process ignore that it is asked for its tracebacks, until somebody handles the signals.
pub fn ignore_reports() {
    for how in [Report::Polite, Report::Forced] {
        // SAFETY: no handler is installed, the signal is ignored.
        unsafe { libc::signal(how.signal(), libc::SIG_IGN) };
    }
}

/// Keeps all signals waiting, until it is dropped.
#[derive(Debug)]
pub struct Blocked {
    before: SigSet,
}

impl Blocked {
    /// Blocks all signals of this thread.
    ///
    /// # Errors
    /// None that can happen on Linux.
    pub fn all() -> io::Result<Blocked> {
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
        Ok(Blocked { before })
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

fn bit(number: i32) -> u64 {
    1_u64.checked_shl(number as u32).unwrap_or(0)
}

fn set(signal: Signal, handler: SigHandler, flags: SaFlags) -> io::Result<()> {
    // SA_ONSTACK: the interrupted stack may be a coroutine's, and small.
    let action = SigAction::new(handler, flags | SaFlags::SA_ONSTACK, SigSet::all());
    // SAFETY: the only handler that is passed here is `forward`, which is async-signal-safe.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

/// Whether the pipe is this process's own. Async-signal-safe.
fn is_owner() -> bool {
    nix::unistd::getpid().as_raw() == OWNER.load(Ordering::Relaxed)
}

/// Writes a signal to the pipe. Async-signal-safe.
fn note(number: libc::c_int) {
    SEEN.fetch_or(bit(number), Ordering::Relaxed);
    let byte = number as u8;
    // SAFETY: one readable byte; a descriptor that is not open yields EBADF.
    let written = unsafe { libc::write(PIPE.load(Ordering::SeqCst), (&raw const byte).cast(), 1) };
    if written < 1 {
        // The pipe is full, so the process wakes up anyway.
        OVERFLOW.fetch_or(bit(number), Ordering::Relaxed);
    }
}

/// Has a signal its default effect; at the return from a handler, in which all are blocked. Async-signal-safe.
fn take_effect(number: libc::c_int) {
    // SAFETY: both are async-signal-safe, and take any number that a handler is called with.
    unsafe {
        libc::signal(number, libc::SIG_DFL);
        libc::raise(number);
    }
}

/// The handler. Async-signal-safe: `getpid`, `write`, `signal`, `raise` and atomics; errno is left as it was. So are the
/// handlers of others that it calls, or else it is their affair.
extern "C" fn forward(number: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let errno = Errno::last();
    let next = others::next(number);
    if !is_owner() {
        // A process that an application forked.
        match next {
            Next::Nothing => take_effect(number),
            next => next.call(number, info, context),
        }
    } else {
        if IGNORED.load(Ordering::Relaxed) & bit(number) == 0 {
            note(number);
        }
        match next {
            Next::Nothing => drop(relay(number)),
            next => next.call(number, info, context),
        }
    }
    errno.set();
}

/// The handler for SIGABRT, under the same rule.
extern "C" fn abort(number: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `siginfo_t` to handlers with SA_SIGINFO.
    let sent_by_another = unsafe { info.as_ref() }.is_some_and(|info| info.si_code == libc::SI_USER);
    if !sent_by_another || !is_owner() {
        return take_effect(number);
    }
    let action = ABORT.load(Ordering::SeqCst);
    if !action.is_null() {
        // SAFETY: only `set_abort_action` stores here, and only a `fn()`; its caller promised that it may run here.
        unsafe { std::mem::transmute::<*mut (), fn()>(action)() };
    }
    match others::next(number) {
        Next::Nothing if relay(number) => {}
        // SAFETY: async-signal-safe.
        Next::Nothing => unsafe { libc::_exit(1) },
        next => next.call(number, info, context),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_log() {
        assert_eq!(name(Signal::SIGHUP), "hup");
        assert_eq!(name_of(9), "SIGKILL");
        assert_eq!(name_of(40), "signal 40");
    }
}
