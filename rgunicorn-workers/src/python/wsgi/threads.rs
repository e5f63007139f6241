//! Threads that answer requests, as `threading` would have started them: with its name, tracers and stack.

use std::sync::OnceLock;
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
    prepare(py)?;
    let threading = py.import(intern!(py, "threading"))?;
    if let Some(name) = std::thread::current().name() {
        threading.call_method0(intern!(py, "current_thread"))?.setattr(intern!(py, "name"), name)?;
    }
    trace(py)
}

/// `gettrace` and `getprofile` of `threading`, and `settrace` and `setprofile` of `sys`.
static TRACERS: OnceLock<[Py<PyAny>; 4]> = OnceLock::new();

/// Finds what [`trace`] calls.
pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    let (threading, sys) = (py.import("threading")?, py.import("sys")?);
    let function = |module: &Bound<'_, PyModule>, name: &str| module.getattr(name).map(Bound::unbind);
    // They are the same for good.
    let _ = TRACERS.set([
        function(&threading, "gettrace")?,
        function(&threading, "getprofile")?,
        function(&sys, "settrace")?,
        function(&sys, "setprofile")?,
    ]);
    Ok(())
}

/// Has whoever traces or profiles threads see this one, or this coroutine, which passes for one.
pub(in crate::python) fn trace(py: Python<'_>) -> PyResult<()> {
    let Some([gettrace, getprofile, settrace, setprofile]) = TRACERS.get() else { return Ok(()) };
    let (tracer, profiler) = (gettrace.bind(py).call0()?, getprofile.bind(py).call0()?);
    if !profiler.is_none() {
        setprofile.bind(py).call1((profiler,))?;
    }
    if !tracer.is_none() {
        settrace.bind(py).call1((tracer,))?;
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
