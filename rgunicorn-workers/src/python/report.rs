//! What this process's Python code is doing, told when the arbiter asks (`report.py`).

use std::os::fd::RawFd;

use pyo3::prelude::*;
use rgunicorn_core::sys::signals::Report;

use super::load::helper;

/// Has Python write its tracebacks to `descriptor` when it is asked for them. For Python's main thread.
///
/// # Errors
/// An exception of Python's.
pub(crate) fn install(py: Python<'_>, descriptor: RawFd) -> PyResult<()> {
    let report = helper(py, include_str!("report.py"), "rgunicorn_report")?;
    report.getattr("install")?.call1((Report::Polite.signal(), descriptor, py.None()))?;
    Ok(())
}
