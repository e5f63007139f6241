//! Handlers that others set for the signals that are ours: an application, its libraries, a host language.
//!
//! They may, but ours stay: a worker that no longer heard SIGTERM would have to be killed, with the requests that it has,
//! and an arbiter that no longer heard it could not be stopped. So whoever lets such code run [takes back](take_back) what
//! it took; what it set is called after our own handler. A process that an application forks goes on with it.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::{
    OURS, SaFlags, SigHandler, SigSet, SigmaskHow, Signal, abort, bit, forward, install_abort, is_owner, set,
    sigprocmask,
};

/// The numbers of signals of ours are below it.
const NUMBERS: usize = 32;

/// Bits of the signals whose handlers are kept.
static KEPT: AtomicU64 = AtomicU64::new(0);
/// What others have set, by number: `SIG_DFL` where they have set nothing, `SIG_IGN`, or a function.
static NEXT: [AtomicUsize; NUMBERS] = [const { AtomicUsize::new(libc::SIG_DFL) }; NUMBERS];
/// Bits of those whose function takes three arguments.
static DETAILED: AtomicU64 = AtomicU64::new(0);
/// Whether one was called since somebody asked.
static CALLED: AtomicBool = AtomicBool::new(false);

/// What others have set for a signal.
pub(super) enum Next {
    Nothing,
    Ignored,
    Brief(extern "C" fn(libc::c_int)),
    Detailed(extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void)),
}

impl Next {
    /// From within the handler of that signal.
    pub(super) fn call(self, number: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        CALLED.store(true, Ordering::Relaxed);
        match self {
            Next::Nothing | Next::Ignored => {}
            Next::Brief(handler) => handler(number),
            Next::Detailed(handler) => handler(number, info, context),
        }
    }
}

/// Async-signal-safe.
pub(super) fn next(number: libc::c_int) -> Next {
    let set = usize::try_from(number).ok().and_then(|number| NEXT.get(number));
    match set.map_or(libc::SIG_DFL, |set| set.load(Ordering::SeqCst)) {
        libc::SIG_DFL => Next::Nothing,
        libc::SIG_IGN => Next::Ignored,
        // SAFETY: only `take_back` stores here, and only what the kernel had as a handler of this signal with SA_SIGINFO.
        handler if DETAILED.load(Ordering::SeqCst) & bit(number) != 0 => Next::Detailed(unsafe {
            std::mem::transmute::<usize, extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void)>(
                handler,
            )
        }),
        // SAFETY: as above, without SA_SIGINFO.
        handler => Next::Brief(unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(handler) }),
    }
}

/// Has this signal be one of those that are taken back.
pub(super) fn keep(signal: Signal) {
    KEPT.fetch_or(bit(signal as libc::c_int), Ordering::SeqCst);
}

/// A process that begins anew: others have set nothing yet.
pub(super) fn forget() {
    KEPT.store(0, Ordering::SeqCst);
    for next in &NEXT {
        next.store(libc::SIG_DFL, Ordering::SeqCst);
    }
}

/// From now on handlers of others replace ours.
pub fn let_go() {
    KEPT.store(0, Ordering::SeqCst);
}

/// Whether there are any that are kept, and this is the process that keeps them.
pub fn are_kept() -> bool {
    is_owner() && KEPT.load(Ordering::SeqCst) != 0
}

/// Puts our handler for signal `number` back in its place, if it is a signal of ours and this is the process that it is
/// meant for. What is there instead is called after it, or nothing is, if that is not `heard`.
///
/// # Errors
/// None that can happen on Linux.
pub fn take_back(number: i32, heard: bool) -> io::Result<()> {
    let Some(signal) = OURS.into_iter().find(|signal| *signal as i32 == number) else { return Ok(()) };
    if KEPT.load(Ordering::SeqCst) & bit(number) == 0 || !is_owner() {
        return Ok(());
    }
    let there = current(signal)?;
    let is_ours = there.sa_sigaction == forward as *const () as usize
        || there.sa_sigaction == abort as *const () as usize;
    let Some(next) = NEXT.get(number as usize) else { return Ok(()) };
    if !is_ours && heard {
        match there.sa_flags & libc::SA_SIGINFO {
            0 => DETAILED.fetch_and(!bit(number), Ordering::SeqCst),
            _ => DETAILED.fetch_or(bit(number), Ordering::SeqCst),
        };
        next.store(there.sa_sigaction, Ordering::SeqCst);
    } else if !heard {
        next.store(libc::SIG_DFL, Ordering::SeqCst);
    } else {
        return Ok(());
    }
    if signal == Signal::SIGABRT {
        return install_abort();
    }
    // Whether it interrupts what the process waits for is up to whoever handles it.
    let is_handled = !matches!(next.load(Ordering::SeqCst), libc::SIG_DFL | libc::SIG_IGN);
    let restarts = !is_handled || there.sa_flags & libc::SA_RESTART != 0;
    set(signal, SigHandler::SigAction(forward), if restarts { SaFlags::SA_RESTART } else { SaFlags::empty() })
}

/// Puts back all handlers of ours, and none of these signals is blocked. For after code that may have set handlers in a way
/// that nobody could see.
///
/// # Errors
/// None that can happen on Linux.
pub fn take_back_all(heard: bool) -> io::Result<()> {
    if are_kept() {
        sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&SigSet::from_iter(OURS)), None)?;
    }
    OURS.into_iter().try_for_each(|signal| take_back(signal as i32, heard))
}

/// Whether a handler of others was called since this was last asked.
pub fn were_called() -> bool {
    CALLED.load(Ordering::Relaxed) && CALLED.swap(false, Ordering::Relaxed)
}

fn current(signal: Signal) -> io::Result<libc::sigaction> {
    let mut there = MaybeUninit::uninit();
    // SAFETY: nothing is set; the kernel fills in what is there.
    match unsafe { libc::sigaction(signal as libc::c_int, ptr::null(), there.as_mut_ptr()) } {
        // SAFETY: filled in.
        0 => Ok(unsafe { there.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}
