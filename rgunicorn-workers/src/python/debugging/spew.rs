//! `--spew`: each line of Python is printed before it is executed.

use pyo3::prelude::*;

use super::super::load;

/// What traces threads.
#[derive(Debug)]
pub(in crate::python) struct Spew {
    install: Py<PyAny>,
}

impl Spew {
    /// Traces this thread, and those that Python will start.
    ///
    /// # Errors
    /// An exception of Python's own.
    pub(in crate::python) fn start(py: Python<'_>) -> PyResult<Self> {
        let install = load::helper(py, include_str!("spew.py"), "rgunicorn_spew")?.getattr("install")?;
        install.call0()?;
        Ok(Spew { install: install.unbind() })
    }

    /// Traces this thread, which Python has not started.
    pub(in crate::python) fn trace_this_thread(&self, py: Python<'_>) {
        // It can't fail, but for want of memory.
        let _ = self.install.call0(py);
    }
}
