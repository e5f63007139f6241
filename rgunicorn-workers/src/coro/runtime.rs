//! What a language runtime asks for around the switches of coroutines.

use std::os::fd::RawFd;

use rgunicorn_core::app::AppError;
use rgunicorn_core::worker::BootError;

/// What the runtime of the application's language keeps for each coroutine, as it would for each thread. Opaque here.
pub type State = usize;

/// A word of memory that each coroutine is to have its own of, though all find it in the same place.
#[derive(Debug, Clone, Copy)]
pub struct Word {
    /// Where it is: a variable of the worker's thread.
    pub address: *mut usize,
    /// What it is when a coroutine begins.
    pub first: usize,
}

/// The runtime of the language that the application is written in. All calls but [`check`](Runtime::check) and
/// [`ask`](Runtime::ask) come from the worker's one thread.
///
/// The defaults are those of a language that needs nothing, such as Rust.
pub trait Runtime: Send + Sync {
    /// Whether this runtime works with coroutines; asked before anything is forked.
    ///
    /// # Errors
    /// Why not.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Called in the worker when the application is loaded, with its lock.
    ///
    /// # Errors
    /// What is missing.
    fn start(&self) -> Result<(), BootError> {
        Ok(())
    }

    /// A variable of the executable's own that counts for a thread what is to be counted for each coroutine. It must be
    /// there for as long as the thread.
    fn word(&self) -> Option<Word> {
        None
    }

    /// Lets go of the application's lock, outside of coroutines.
    fn release(&self) {}

    /// Takes it back.
    fn hold(&self) {}

    /// Has a byte written to this descriptor, which doesn't block and stays open for good, with each signal that
    /// [`heed`](Runtime::heed) is for. Called after [`start`](Runtime::start), with the lock.
    ///
    /// # Errors
    /// What is missing.
    fn tell_of_signals(&self, descriptor: RawFd) -> Result<(), BootError> {
        let _ = descriptor;
        Ok(())
    }

    /// Does what only the process's first thread may do, outside of coroutines and with the lock: before each wait
    /// that blocks, and once a signal was told of.
    ///
    /// # Errors
    /// [`AppError::Exit`] if the application wants its worker to end.
    fn heed(&self) -> Result<(), AppError> {
        Ok(())
    }

    /// Makes what a coroutine needs, in it, and takes the lock for it, for which it may have to wait: `becomes` is told its
    /// state before and after.
    ///
    /// # Errors
    /// When there is no memory.
    fn begin(&self, becomes: &dyn Fn(State)) -> Result<(), BootError> {
        let _ = becomes;
        Ok(())
    }

    /// Takes the lock for a coroutine.
    fn enter(&self, state: State) {
        let _ = state;
    }

    /// Lets go of it.
    fn leave(&self, state: State) {
        let _ = state;
    }

    /// The thread goes on with this coroutine.
    fn switched_to(&self, state: State) {
        let _ = state;
    }

    /// Whether the coroutine that runs may wait now: it doesn't hold the lock.
    fn may_wait(&self, state: State) -> bool {
        let _ = state;
        true
    }

    /// The coroutine that runs is about to wait with the lock, and keeps it: in the thread nobody seems to have it.
    fn set_aside(&self) {}

    /// It goes on.
    fn take_up(&self) {}

    /// Whether there is a lock at all: without it the coroutine waits nowhere but in the application.
    fn has_lock(&self) -> bool {
        false
    }

    /// Asks for the lock, calls `hold` with it, and lets go of it: whoever had it, and computes, has to make way. Called in a
    /// thread of its own.
    fn ask(&self, hold: &mut dyn FnMut()) {
        let _ = hold;
    }

    /// Requests will have a [limit](Runtime::interrupt). Called after [`start`](Runtime::start), with the lock.
    ///
    /// # Errors
    /// What is missing.
    fn prepare_limits(&self) -> Result<(), BootError> {
        Ok(())
    }

    /// A request has had its time, and is not where a call of the C library waits: has an error raised in it when it
    /// goes on. Called outside of coroutines, with the lock. `identity` is what its coroutine passes for as a thread.
    fn interrupt(&self, identity: usize) {
        let _ = identity;
    }

    /// Whether an error may be raised in a coroutine where it is now, which is in a call that can be interrupted if it `waits`.
    /// With the lock.
    fn may_interrupt(&self, identity: usize, waits: bool) -> bool {
        let _ = (identity, waits);
        true
    }

    /// The same, in the coroutine, without the lock, where a call that waited is about to answer `EINTR`: the caller will
    /// look for signals, and finds that it is the process's first thread, where they are handled.
    fn signal(&self) {}

    /// The same, where the caller hasn't looked for signals after `EINTR`, but has called again: the error is raised once it is
    /// back in its language. `state` is its coroutine's.
    fn interrupt_here(&self, state: State, identity: usize) {
        let _ = (state, identity);
    }

    /// The request is over, with the lock: whatever was to be raised in it is not, if it has not been yet.
    fn spare(&self, identity: usize) {
        let _ = identity;
    }

    /// Where a coroutine is in its program: the innermost place, and all of it as text. With the lock, in any thread.
    fn place(&self, identity: usize) -> Option<(String, String)> {
        let _ = identity;
        None
    }

    /// A request is over: makes the state as good as new, or another take its place, which `becomes` is told before
    /// and after it does.
    fn renew(&self, state: State, becomes: &dyn Fn(State)) {
        let _ = (state, becomes);
    }
}

/// The runtime of applications in Rust.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bare;

impl Runtime for Bare {}
