//! `start_response()` and `write()`, and what they may do when (PEP 3333, "The start_response() Callable").

use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard};

use super::interned::intern;
use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use rgunicorn_core::app::{Response, ResponseError};
use rgunicorn_core::http::Informational;

use super::latin1::encode;

/// Where `start_response()` and `write()` put what they are given: a [`Response`].
pub(super) trait Outlet {
    fn start(&mut self, status: &[u8]) -> Result<(), ResponseError>;
    fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseError>;
    fn write(&mut self, piece: &[u8]) -> Result<(), ResponseError>;
    fn inform(&mut self, informational: &Informational) -> Result<(), ResponseError>;
}

impl Outlet for Response {
    fn start(&mut self, status: &[u8]) -> Result<(), ResponseError> {
        Response::start(self, status)
    }

    fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseError> {
        Response::header(self, name, value)
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), ResponseError> {
        Response::write(self, piece)
    }

    fn inform(&mut self, informational: &Informational) -> Result<(), ResponseError> {
        Response::inform_now(self, informational)
    }
}

/// One request's side of the server, which the application may keep for longer than it is of use.
#[pyclass(frozen, module = "rgunicorn")]
#[derive(Debug, Default)]
pub(super) struct Exchange {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stage: Stage,
    /// Whether there is a valid head.
    started: bool,
    /// Whether the head can't be changed any more.
    head_sent: bool,
    /// Whether a `write()` found that the client is gone.
    disconnected: bool,
    /// What is written while an iterable is pulled; goes before the item that comes next.
    written: Vec<u8>,
}

/// What the server is doing.
#[derive(Debug, Default)]
enum Stage {
    /// The application is being called, and the outlet lent out.
    Calling(Lent),
    /// The outlet is in use.
    #[default]
    Busy,
    /// The iterable is being pulled.
    Streaming,
    /// The response is over.
    Over,
}

/// An outlet, for as long as [`Exchange::lend`] runs.
#[derive(Debug)]
struct Lent(NonNull<dyn Outlet>);

// SAFETY: it is used with the GIL held and by one thread at a time, which takes it out of the state under its lock.
unsafe impl Send for Lent {}

impl Exchange {
    pub(super) fn new(py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        Bound::new(py, Exchange::default())
    }

    /// Has `start_response()` and `write()` go to `outlet` while `work` runs.
    pub(super) fn lend<R>(
        exchange: &Bound<'_, Self>,
        outlet: &mut dyn Outlet,
        work: impl FnOnce() -> R,
    ) -> R {
        // Takes the outlet back also where a panic passes.
        struct Loan<'a>(&'a Exchange);
        impl Drop for Loan<'_> {
            fn drop(&mut self) {
                let mut state = self.0.state();
                state.stage = Stage::Over;
                state.head_sent = true;
            }
        }
        // SAFETY: only the lifetime is forgotten; the loan ends before that of the outlet does.
        let outlet: &mut (dyn Outlet + 'static) = unsafe { std::mem::transmute(outlet) };
        exchange.get().state().stage = Stage::Calling(Lent(NonNull::from(outlet)));
        let _loan = Loan(exchange.get());
        work()
    }

    /// Whether `start_response()` was called, with a head that can be sent.
    pub(super) fn is_started(&self) -> bool {
        self.state().started
    }

    /// Whether the client was found to be gone.
    pub(super) fn is_disconnected(&self) -> bool {
        self.state().disconnected
    }

    /// What was written since the last time, other than into the outlet.
    pub(super) fn take_written(&self) -> Vec<u8> {
        std::mem::take(&mut self.state().written)
    }

    /// Says whether an iterable is being pulled, with which what is written can be sent.
    pub(super) fn set_streaming(&self, streaming: bool) {
        self.state().stage = if streaming { Stage::Streaming } else { Stage::Over };
    }

    /// Hands a header to the outlet: a pair of strings.
    fn add_header(&self, header: &Bound<'_, PyAny>) -> PyResult<()> {
        let (name, value) = pair(header)?;
        let name = native_string(&name, "a header's name")?;
        let value = native_string(&value, "a header's value")?;
        let name = encode(name, "a header's name")?;
        let value = encode(value, "a header's value")?;
        self.with_outlet(|outlet| outlet.header(name, trimmed(value)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Calls `work` with the outlet. The lock is not held meanwhile: dropping a thing may run Python code, and that may
    /// come back here, to find the outlet busy.
    fn with_outlet(&self, work: impl FnOnce(&mut dyn Outlet) -> Result<(), ResponseError>) -> PyResult<()> {
        let stage = std::mem::take(&mut self.state().stage);
        let Stage::Calling(Lent(mut outlet)) = stage else {
            self.state().stage = stage;
            return Err(PyRuntimeError::new_err("the response is on its way or over; nothing can be added"));
        };
        // SAFETY: lent by lend(), which has not returned yet, and taken out of the state: nobody else has it.
        let result = work(unsafe { outlet.as_mut() });
        let mut state = self.state();
        state.stage = Stage::Calling(Lent(outlet));
        result.map_err(|error| {
            state.disconnected |= matches!(error, ResponseError::Disconnected);
            exception(error)
        })
    }
}

/// The two objects that a header is.
fn pair<'py>(header: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let pair = match header.cast::<PyTuple>() {
        Ok(pair) => pair.clone(),
        Err(_) => PyTuple::new(header.py(), header.try_iter()?.collect::<PyResult<Vec<_>>>()?)?,
    };
    if pair.len() != 2 {
        let reason = format!("a header is a pair (name, value), not {}", shown(header));
        return Err(PyValueError::new_err(reason));
    }
    Ok((pair.get_item(0)?, pair.get_item(1)?))
}

fn native_string<'a, 'py>(object: &'a Bound<'py, PyAny>, what: &str) -> PyResult<&'a Bound<'py, PyString>> {
    object
        .cast::<PyString>()
        .map_err(|_| PyTypeError::new_err(format!("{what} must be a str, not {}", shown(object))))
}

/// The error for an item of a body that is none.
pub(super) fn not_bytes(object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("the body of a response is made of bytes, not {}", shown(object)))
}

/// What an object is, for an error message; its content may be long, or secret.
fn shown(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "something else".into(), |name| format!("{name:?}"))
}

/// Without the white space around it, which is not part of a field's value (RFC 9110 section 5.5).
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The exception of an `exc_info` triple, with its traceback.
fn raised(exc_info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let (value, traceback) = (exc_info.get_item(1)?, exc_info.get_item(2)?);
    if !traceback.is_none() {
        value.setattr(intern!(exc_info.py(), "__traceback__"), traceback)?;
    }
    Ok(PyErr::from_value(value))
}

/// The exception that an application sees.
fn exception(error: ResponseError) -> PyErr {
    match error {
        ResponseError::Invalid(error) => PyValueError::new_err(error.to_string()),
        ResponseError::Disconnected => PyBrokenPipeError::new_err(error.to_string()),
        ResponseError::Buffer(error) => error.into(),
        error => PyAssertionError::new_err(error.to_string()),
    }
}

#[pymethods]
impl Exchange {
    #[pyo3(signature = (status, response_headers, exc_info=None))]
    fn start_response<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        response_headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let exchange = slf.get();
        let exc_info = match exc_info {
            Some(info) if info.is_truthy()? => Some(info),
            _ => None,
        };
        let (started, head_sent) = {
            let state = exchange.state();
            (state.started, state.head_sent)
        };
        match exc_info {
            Some(info) if head_sent => return Err(raised(info)?),
            None if started => {
                return Err(PyAssertionError::new_err(
                    "start_response() was called before; only with exc_info may it be called again",
                ));
            }
            _ => {}
        }
        exchange.state().started = false;
        let status = native_string(status, "the status")?;
        let status = encode(status, "the status")?;
        exchange.with_outlet(|outlet| outlet.start(status))?;
        for header in response_headers.try_iter()? {
            exchange.add_header(&header?)?;
        }
        exchange.state().started = true;
        slf.getattr(intern!(slf.py(), "write"))
    }

    /// `environ["wsgi.early_hints"]`: sends headers in a `103 Early Hints`, now. Does nothing once the response is on its way.
    fn early_hints(&self, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut fields = Vec::new();
        for header in headers.try_iter()? {
            let (name, value) = pair(&header?)?;
            let name = native_string(&name, "a header's name")?;
            let value = native_string(&value, "a header's value")?;
            let value = encode(value, "a header's value")?;
            fields.push((encode(name, "a header's name")?.to_vec(), trimmed(value).to_vec()));
        }
        let fields = fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        let hints =
            Informational::new(b"103 Early Hints", fields).map_err(|error| exception(error.into()))?;
        let open = {
            let state = self.state();
            matches!(state.stage, Stage::Calling(_)) && !state.head_sent
        };
        if open { self.with_outlet(|outlet| outlet.inform(&hints)) } else { Ok(()) }
    }

    /// Sends a piece of the body, now, and before the iterable that the application returns.
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(data) = data.cast::<PyBytes>() else {
            return Err(not_bytes(data));
        };
        let bytes = data.as_bytes();
        let mut state = self.state();
        match state.stage {
            Stage::Streaming => {
                state.written.extend_from_slice(bytes);
                Ok(())
            }
            Stage::Calling(_) if !state.started => {
                Err(PyAssertionError::new_err("write() was called before start_response()"))
            }
            _ => {
                // From here on the head is sent, also where the piece itself can't be.
                state.head_sent = true;
                drop(state);
                self.with_outlet(|outlet| outlet.write(bytes))
            }
        }
    }
}
