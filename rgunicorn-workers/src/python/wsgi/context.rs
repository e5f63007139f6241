//! Each request's own context variables (PEP 567).
//!
//! Streams of several requests are pulled in turn on one thread. Flask, among others, keeps the current request in a
//! context variable: what runs for one request, be it the call, the next item or `close()`, must see that request's.

use pyo3::ffi;
use pyo3::prelude::*;

/// A `contextvars.Context`, entered around everything that runs for one request.
#[derive(Debug)]
pub(super) struct Context(Py<PyAny>);

impl Context {
    /// A copy of the context of the thread.
    pub(super) fn copy_current(py: Python<'_>) -> PyResult<Self> {
        // SAFETY: attached; the result is a new reference, or null with an exception.
        let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
        Ok(Context(context.unbind()))
    }

    /// Runs `work` in this context.
    ///
    /// # Errors
    /// If this context is entered already, as it can't be twice.
    pub(super) fn run<R>(&self, py: Python<'_>, work: impl FnOnce() -> R) -> PyResult<R> {
        // SAFETY: attached, and it is a context.
        if unsafe { ffi::PyContext_Enter(self.0.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        let _entered = Entered { context: self, py };
        Ok(work())
    }
}

/// Leaves the context, also where a panic passes.
struct Entered<'a, 'py> {
    context: &'a Context,
    py: Python<'py>,
}

impl Drop for Entered<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: attached, and entered by run() in this thread.
        if unsafe { ffi::PyContext_Exit(self.context.0.as_ptr()) } != 0 {
            // Somebody else's context was left entered inside of ours; there is nothing to mend it with.
            drop(PyErr::fetch(self.py));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::testing::{attached, get};

    #[test]
    fn what_one_context_sets_the_other_does_not_see() {
        attached(|py| {
            let code = "import contextvars\nv = contextvars.ContextVar('v', default='none')";
            let variable = get(py, code, "v");
            let (one, two) = (Context::copy_current(py).unwrap(), Context::copy_current(py).unwrap());
            let value = || variable.call_method0("get").unwrap().to_string();
            one.run(py, || variable.call_method1("set", ("one",)).map(drop)).unwrap().unwrap();
            two.run(py, || variable.call_method1("set", ("two",)).map(drop)).unwrap().unwrap();
            assert_eq!(one.run(py, value).unwrap(), "one");
            assert_eq!(two.run(py, value).unwrap(), "two");
            assert_eq!(value(), "none");
        });
    }

    #[test]
    fn entering_twice_is_an_error_and_leaves_it_usable() {
        attached(|py| {
            let context = Context::copy_current(py).unwrap();
            assert!(context.run(py, || context.run(py, || ())).unwrap().is_err());
            assert!(context.run(py, || ()).is_ok());
        });
    }
}
