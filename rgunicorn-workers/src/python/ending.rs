//! The interpreter's end, as `python3` ends: for workers, and for the arbiter where Python is in it.
//!
//! What is in the buffers of open files is written, temporary files go, databases are closed: all that is done where
//! objects go, and objects go with the interpreter. It may take long, or for ever (a thread that doesn't end, a finaliser
//! that waits for one), so somebody watches who needs no Python.
//!
//! Other threads may still be in Python: daemons, requests that were cut off, coroutines. None of them gets the GIL any
//! more. A thread that asks for it stays where it is: up to CPython 3.13 it would be ended, which unwinds its stack, frames
//! of Rust's included that can't be unwound.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use nix::sys::signal::SigSet;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyList;
use rgunicorn_core::log;
use rgunicorn_core::sync::lock;

use super::interpreter::{hold, is_running};
use super::{failure, interpreter, signals};

/// What is emptied at the end: lists and dictionaries.
static EMPTIED: Mutex<Vec<Py<PyAny>>> = Mutex::new(Vec::new());

/// An object of the application's that we hold, but no longer than the interpreter: whatever it reaches, with the globals
/// of its module, would not go otherwise where requests, coroutines or an event loop still hold what holds it.
#[derive(Debug)]
pub(super) struct Held(Py<PyList>);

impl Held {
    /// # Errors
    /// A Python exception, such as `MemoryError`.
    pub(super) fn new(object: Bound<'_, PyAny>) -> PyResult<Self> {
        let list = PyList::new(object.py(), [object])?;
        empty_at_the_end(list.as_any());
        Ok(Held(list.unbind()))
    }

    /// The object.
    ///
    /// # Errors
    /// Once it is gone.
    #[inline]
    pub(super) fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.bind(py).get_item(0)
    }
}

/// Has this list or dictionary, which we hold as a [`Held`], be emptied at the end.
pub(super) fn empty_at_the_end(container: &Bound<'_, PyAny>) {
    lock(&EMPTIED).push(container.clone().unbind());
}

/// Whether the interpreter is about to go, or gone.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Ends Python in this process, which is to exit next, with `status`: it does so by itself if this takes longer than
/// `limit`. `let_go` drops what others keep of its objects. For Python's main thread.
pub fn end(limit: Duration, status: i32, let_go: impl FnOnce()) {
    if !is_running() {
        return;
    }
    let (done, watch) = mpsc::channel::<()>();
    let watcher = std::thread::Builder::new().name("exit-limit".into()).spawn(move || {
        let _ = SigSet::all().thread_block();
        if watch.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            leave(limit, status);
        }
    });
    if let Err(error) = watcher {
        tracing::warn!("Nobody watches how long the end takes: {error}");
    }
    hold();
    Python::attach(|py| {
        // The first steps of CPython's own end, whose failures it would show elsewhere.
        run(py, "threading", "_shutdown");
        run(py, "atexit", "_run_exitfuncs");
        // Loggers of Python's are gone.
        log::host::set_host(None);
        let_go();
        if let Err(error) = signals::end(py) {
            tracing::error!("Error while leaving Python\n{}", failure::report(py, &error));
        }
        for container in std::mem::take(&mut *lock(&EMPTIED)) {
            // What can't be emptied stays, and what it holds.
            let _ = container.call_method0(py, "clear");
        }
    });
    ENDING.store(true, Ordering::SeqCst);
    crate::coro::keep_threads();
    // SAFETY: this is the main thread, which holds the GIL and is in no call of pyo3's; whatever else is of Python's in
    // this process is not used any more, and not dropped either, as the process exits.
    unsafe { ffi::Py_FinalizeEx() };
    drop(done);
}

/// Keeps a thread from Python for good once it is about to go.
pub(super) fn stay_if_ending() {
    while ENDING.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Calls what CPython's own end calls by this name. An exception in it is shown and does not stop the others.
fn run(py: Python<'_>, module: &str, function: &str) {
    if let Err(error) = py.import(module).and_then(|module| module.call_method0(function)) {
        tracing::error!("Error while leaving Python\n{}", failure::report(py, &error));
    }
}

/// It has taken too long.
fn leave(limit: Duration, status: i32) -> ! {
    log::host::set_host(None);
    tracing::error!(
        "Threads, exit handlers or finalisers of the application still run after {limit:?}; leaving without them"
    );
    interpreter::dump();
    rgunicorn_core::sys::fork::exit_now(status)
}
