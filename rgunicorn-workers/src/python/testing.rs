//! What the bridge's unit tests share: one interpreter for all of them, and requests without an engine.

use std::ffi::CString;
use std::sync::Once;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::interpreter::{self, Startup};

/// Runs `work` with the interpreter, which the first caller starts.
pub(crate) fn attached<R>(work: impl for<'py> FnOnce(Python<'py>) -> R) -> R {
    static START: Once = Once::new();
    START.call_once(|| {
        // In a thread of its own, which lets go of the interpreter: tests run in many.
        let started = std::thread::spawn(|| {
            interpreter::start(None, &Startup::default())
                .map(|()| interpreter::release())
                .map_err(|e| e.to_string())
        });
        started.join().unwrap().unwrap();
    });
    Python::attach(work)
}

/// Executes statements in a name space of their own, and returns it.
pub(crate) fn run<'py>(py: Python<'py>, code: &str) -> PyResult<Bound<'py, PyDict>> {
    let globals = PyDict::new(py);
    globals.set_item("__name__", "test_code")?;
    py.run(&CString::new(code).unwrap(), Some(&globals), None)?;
    Ok(globals)
}

/// The value of `name` after executing `code`.
pub(crate) fn get<'py>(py: Python<'py>, code: &str, name: &str) -> Bound<'py, PyAny> {
    run(py, code).unwrap().get_item(name).unwrap().unwrap()
}
