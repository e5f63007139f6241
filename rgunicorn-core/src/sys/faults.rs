//! SIGSEGV and SIGBUS.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use nix::sys::signal::{SigHandler, Signal, signal};

/// Gives SIGSEGV and SIGBUS their default effect again, for a program whose work is another language's.
///
/// Rust's library has handlers for them that tell of a stack overflow. On anything else they take themselves away and
/// return, so that the fault comes again: a signal that was sent (`kill -SEGV`) is swallowed by that, and one is all that
/// `faulthandler` passes on. A handler that a preloaded library has put in place stays, and Rust then has none.
///
/// To be called first of all: afterwards, whoever wants a handler can have one.
pub fn take_their_default() {
    for fault in [Signal::SIGSEGV, Signal::SIGBUS] {
        if is_our_own(fault) {
            // SAFETY: no handler is installed. Rust's keeps nothing that would miss it.
            let _ = unsafe { signal(fault, SigHandler::SigDfl) };
        }
    }
}

/// Whether the handler is part of this program, as Rust's library is.
fn is_our_own(fault: Signal) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only; zeroes are a valid `sigaction`.
    let action = unsafe {
        libc::sigaction(fault as libc::c_int, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    let here = object_of(is_our_own as fn(Signal) -> bool as *const c_void);
    here.is_some() && object_of(action.sa_sigaction as *const c_void) == here
}

/// Where the program or library that this address belongs to was loaded.
fn object_of(address: *const c_void) -> Option<*mut c_void> {
    let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: any address may be asked for; zeroes are a valid `Dl_info`.
    unsafe { (libc::dladdr(address, found.as_mut_ptr()) != 0).then(|| found.assume_init().dli_fbase) }
}
