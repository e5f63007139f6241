//! What is raised in a request that has had its time: `rgunicorn.RequestTimeout`, a `BaseException`, so that nothing catches it
//! by accident.
//!
//! - Where a call waits that answers `EINTR`, CPython looks for signals. So there is a signal that nobody ever sends, with a
//!   handler that raises the exception in the coroutine that looks.
//! - What runs Python code, or will, has it raised by the interpreter. So has who calls again after `EINTR` without looking.
//!
//! However it is raised, it is made, and so it is known that it was.

use std::ffi::{CStr, c_int, c_ulong};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::coro::take_interruption;

/// Made before the first request.
static EXCEPTION: OnceLock<Py<PyType>> = OnceLock::new();
/// What is asked whether a thread minds locks.
static MINDS_LOCKS: OnceLock<Py<PyAny>> = OnceLock::new();
/// The signal; 0 for none.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// The handler of the signal.
#[pyfunction]
fn raise_if_interrupted(py: Python<'_>, _number: c_int, _frame: &Bound<'_, PyAny>) -> PyResult<()> {
    match (EXCEPTION.get(), take_interruption()) {
        (Some(class), Some(identity)) => {
            spare(identity);
            Err(PyErr::from_type(class.bind(py).clone(), "the request has had its request_timeout"))
        }
        _ => Ok(()),
    }
}

/// `RequestTimeout.__init__`: it is raised in the coroutine that this is called in.
#[pyfunction]
#[pyo3(signature = (*_arguments))]
fn made(_arguments: &Bound<'_, PyTuple>) {
    take_interruption();
}

/// Makes all that is needed, in Python's main thread.
pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    let (base, name) = (py.get_type::<PyBaseException>(), c"rgunicorn.RequestTimeout");
    let doc = c"The request has had the time that request_timeout gives it.";
    let class = PyErr::new_type(py, name, Some(doc), Some(&base), None)?;
    class.setattr(py, "__init__", pyo3::wrap_pyfunction!(made, py)?)?;
    // One that is there already is as good.
    let _ = EXCEPTION.set(class);
    let names = PyDict::new(py);
    py.run(QUESTION, Some(&names), None)?;
    let _ = MINDS_LOCKS.set(names.as_any().get_item("minds_locks")?.unbind());
    let number = libc::SIGRTMAX() - 5;
    let handler = pyo3::wrap_pyfunction!(raise_if_interrupted, py)?;
    py.import("_signal")?.call_method1("signal", (number, handler))?;
    SIGNAL.store(number, Ordering::Relaxed);
    Ok(())
}

/// Has the next look for signals run the handler. Needs no GIL.
pub(super) fn signal() {
    let number = SIGNAL.load(Ordering::Relaxed);
    if number != 0 {
        // SAFETY: may be called at any time, also without the GIL.
        unsafe { ffi::PyErr_SetInterruptEx(number) };
    }
}

/// The code of imports and of `threading` holds locks between two of its lines that nobody would let go of if anything were
/// raised there; it isn't there for long, unless it waits, which in `threading` is minded.
const QUESTION: &CStr = c"
import sys, threading
def minds_locks(identity, waits, frames=sys._current_frames, threading=threading.__file__):
    frame = frames().get(identity)
    name = frame.f_code.co_filename if frame else ''
    return name.startswith('<frozen importlib._bootstrap') or name == threading and not waits
";

/// Whether the thread that passes for `identity` is where nothing must be raised.
pub(super) fn minds_locks(py: Python<'_>, identity: usize, waits: bool) -> bool {
    let answer = MINDS_LOCKS.get().map(|question| question.call1(py, (identity, waits)));
    answer.is_some_and(|answer| answer.is_ok_and(|minds| minds.is_truthy(py).unwrap_or(false)))
}

/// Raises the exception in the thread that passes for `identity`, as soon as it runs Python code.
pub(super) fn raise_in(_py: Python<'_>, identity: usize) {
    if let Some(class) = EXCEPTION.get() {
        // SAFETY: attached; the class lives for ever.
        unsafe { ffi::PyThreadState_SetAsyncExc(identity as c_ulong as _, class.as_ptr()) };
    }
}

/// Takes back what [`raise_in`] has not raised yet. With the GIL.
pub(super) fn spare(identity: usize) {
    // SAFETY: the caller holds the GIL.
    unsafe { ffi::PyThreadState_SetAsyncExc(identity as c_ulong as _, std::ptr::null_mut()) };
}
