//! What a Python exception means to the server.

use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::PyString;
use rgunicorn_core::app::AppError;
use rgunicorn_core::sys::forks;

use super::logger::raised;

/// The exit status of a process that ends by an interrupt from the keyboard, as shells have it.
const EXIT_INTERRUPTED: i32 = 130;

/// The exception with its traceback and its causes, as Python prints it, without a line end behind it.
pub(crate) fn report(py: Python<'_>, error: &PyErr) -> String {
    let lines = py
        .import("traceback")
        .and_then(|traceback| {
            // CPython 3.11 keeps the traceback apart from the exception.
            traceback
                .call_method1("format_exception", (error.get_type(py), error.value(py), error.traceback(py)))
        })
        .and_then(|lines| PyString::new(py, "").call_method1("join", (lines,)))
        .and_then(|text| text.extract::<String>());
    match lines {
        Ok(text) => {
            let text = text.trim_end().to_string();
            raised::keep(py, &text, error);
            text
        }
        // As in a process that has no descriptor left to import the module with: without the causes.
        Err(_) => {
            let frames = error.traceback(py).and_then(|traceback| traceback.format().ok());
            format!("{}{error}", frames.unwrap_or_default())
        }
    }
}

/// The sentence of a `Problem` of one of our own Python files, or a [`report`].
pub(crate) fn problem(py: Python<'_>, error: &PyErr) -> String {
    let kind = error.get_type(py);
    let module = kind.getattr("__module__").and_then(|module| module.extract::<String>());
    let ours = kind.name().is_ok_and(|name| name == "Problem")
        && module.is_ok_and(|module| module.starts_with("rgunicorn_"));
    if ours { error.value(py).to_string() } else { report(py, error) }
}

/// The status that a process ends with if this exception is not caught; none for an ordinary error.
pub(crate) fn exit_status(py: Python<'_>, error: &PyErr) -> Option<i32> {
    if error.is_instance_of::<PySystemExit>(py) {
        let code = error.value(py).getattr("code").ok()?;
        // As Python itself: nothing is success, a number is the status, anything else is a message of failure.
        return Some(if code.is_none() { 0 } else { code.extract::<i32>().unwrap_or(1) });
    }
    error.is_instance_of::<PyKeyboardInterrupt>(py).then_some(EXIT_INTERRUPTED)
}

/// What the server does about an exception that an application did not catch.
pub(crate) fn app_error(py: Python<'_>, error: &PyErr) -> AppError {
    let report = report(py, error);
    match exit_status(py, error) {
        Some(code) => AppError::Exit { code, report },
        None => AppError::Failed { report },
    }
}

/// Ends this process if the application has forked it, now that its code is back from wherever it was called: by this exception, if
/// by one.
#[inline]
pub(crate) fn end_stray(py: Python<'_>, error: Option<&PyErr>) {
    #[cold]
    fn end(py: Python<'_>, error: Option<&PyErr>) -> ! {
        let report = error.map(|error| report(py, error)).unwrap_or_default();
        forks::end(error.and_then(|error| exit_status(py, error)), &report)
    }
    if forks::is_stray() {
        end(py, error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::testing::{attached, run};

    fn raised(code: &str) -> (Option<i32>, String) {
        attached(|py| {
            let error = run(py, code).unwrap_err();
            (exit_status(py, &error), report(py, &error))
        })
    }

    #[test]
    fn an_ordinary_exception_is_reported_with_its_traceback_and_cause() {
        let (status, text) = raised(
            "def inner():\n    {}['key']\ntry:\n    inner()\nexcept KeyError as e:\n    raise ValueError('outer') from e",
        );
        assert_eq!(status, None);
        assert_eq!(text.matches("Traceback (most recent call last)").count(), 2, "{text}");
        assert!(text.contains("in inner"), "{text}");
        assert!(text.contains("KeyError: 'key'"), "{text}");
        assert!(text.ends_with("ValueError: outer"), "{text}");
    }

    #[test]
    fn an_exit_has_the_status_that_python_would_exit_with() {
        assert_eq!(raised("raise SystemExit").0, Some(0));
        assert_eq!(raised("raise SystemExit(7)").0, Some(7));
        assert_eq!(raised("raise SystemExit('because')").0, Some(1));
        assert_eq!(raised("raise KeyboardInterrupt").0, Some(130));
    }

    #[test]
    fn an_exception_that_cannot_be_shown_is_still_named() {
        let (_, text) = raised("class Odd(Exception):\n    def __str__(self): raise self\nraise Odd()");
        assert!(text.contains("Odd"), "{text}");
    }
}
