//! Threads that answer requests, as `threading` would have started them: with its name, tracers and stack.

use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::intern;
use pyo3::prelude::*;

use super::forks;

unsafe extern "C" {
    fn PyThread_get_stacksize() -> usize;
}

/// Begins a thread's life in Python. Has Python call it what the system calls it: so do profilers and log formats with
/// `%(threadName)s`.
pub(super) fn begin(py: Python<'_>) -> PyResult<()> {
    forks::mend_main_thread(py)?;
    let threading = py.import(intern!(py, "threading"))?;
    if let Some(name) = std::thread::current().name() {
        threading.call_method0(intern!(py, "current_thread"))?.setattr(intern!(py, "name"), name)?;
    }
    let sys = py.import(intern!(py, "sys"))?;
    for (hook, set) in [("gettrace", "settrace"), ("getprofile", "setprofile")] {
        let hook = threading.call_method0(hook)?;
        if !hook.is_none() {
            sys.call_method1(set, (hook,))?;
        }
    }
    Ok(())
}

/// What `threading.stack_size()` was last told, for threads to come.
#[derive(Debug, Default)]
pub(super) struct StackSize(AtomicUsize);

impl StackSize {
    /// Looks what it is.
    pub(super) fn look(&self, _attached: Python<'_>) {
        // SAFETY: attached; reads a number of the interpreter's.
        self.0.store(unsafe { PyThread_get_stacksize() }, Ordering::Relaxed);
    }

    /// None if it was told nothing.
    pub(super) fn get(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed)).filter(|size| *size > 0)
    }
}
