//! What `send` returns where nothing must be waited for, and how often the event loop has a turn all the same.
//!
//! They have a coroutine's methods, so that `asyncio.create_task(send(...))` works as it does with servers whose
//! `send` is an `async def`.

use std::sync::Mutex;

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;

use super::lock;

/// An awaitable whose result is `None`. It has no state: one serves all.
#[pyclass(frozen, module = "rgunicorn")]
pub(super) struct Done;

#[pymethods]
impl Done {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// The end, without a value.
    fn __next__(&self) -> Option<Py<PyAny>> {
        None
    }

    fn send(&self, _value: Py<PyAny>) -> PyResult<()> {
        Err(PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (kind, value=None, _traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        kind: Py<PyAny>,
        value: Option<Py<PyAny>>,
        _traceback: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        Err(thrown(py, kind, value))
    }

    fn close(&self) {}
}

/// What was thrown into an awaitable.
pub(super) fn thrown(py: Python<'_>, kind: Py<PyAny>, value: Option<Py<PyAny>>) -> PyErr {
    PyErr::from_value(value.unwrap_or(kind).into_bound(py))
}

/// How much may be answered at once before the event loop has a turn: an application that receives or sends without ever
/// having to wait would keep everybody else from theirs.
#[derive(Debug)]
pub(super) struct Allowance(usize);

impl Allowance {
    /// Bytes between two turns.
    const TURN: usize = 1024 * 1024;
    /// What an answer counts for besides its bytes.
    const ANSWER: usize = 16 * 1024;

    pub(super) fn new() -> Self {
        Allowance(Self::TURN)
    }

    /// Pays for an answer of so many bytes. If not, the loop is to have a turn, and there is a new allowance then.
    pub(super) fn pays(&mut self, bytes: usize) -> bool {
        let pays = self.0 > 0;
        self.0 = if pays { self.0.saturating_sub(Self::ANSWER.saturating_add(bytes)) } else { Self::TURN };
        pays
    }

    /// An answer has had so many bytes.
    pub(super) fn charge(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(bytes);
    }

    /// The loop has had a turn.
    pub(super) fn renew(&mut self) {
        self.0 = Self::TURN;
    }
}

/// An awaitable that lets the event loop have a turn before it says what it has come to.
#[pyclass(frozen, module = "rgunicorn")]
pub(super) struct Pause(Mutex<Paused>);

struct Paused {
    begun: bool,
    error: Option<PyErr>,
}

impl Pause {
    pub(super) fn before(py: Python<'_>, outcome: PyResult<()>) -> PyResult<Bound<'_, PyAny>> {
        let paused = Paused { begun: false, error: outcome.err() };
        Ok(Bound::new(py, Pause(Mutex::new(paused)))?.into_any())
    }

    fn step(&self) -> PyResult<()> {
        let mut paused = lock(&self.0);
        if std::mem::replace(&mut paused.begun, true) {
            return Err(paused.error.take().unwrap_or_else(|| PyStopIteration::new_err(())));
        }
        Ok(())
    }
}

#[pymethods]
impl Pause {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.step().map(|()| py.None())
    }

    fn send(&self, _value: Py<PyAny>) -> PyResult<()> {
        self.step()
    }

    #[pyo3(signature = (kind, value=None, _traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        kind: Py<PyAny>,
        value: Option<Py<PyAny>>,
        _traceback: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        Err(thrown(py, kind, value))
    }

    fn close(&self) {}
}
