//! Processes that applications fork in a request: see `forks.py`.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

use crate::python::load;

/// Has children that are forked in the threads of this process, which `threading` hasn't started, end as they should. With
/// the first call; it goes on in the children.
pub(crate) fn mend_main_thread(py: Python<'_>) -> PyResult<()> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.swap(true, Ordering::Relaxed) {
        load::helper(py, include_str!("forks.py"), "rgunicorn_forks")?;
    }
    Ok(())
}
