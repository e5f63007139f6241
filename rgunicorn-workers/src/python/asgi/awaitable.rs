//! What `receive` and `send` return where nothing must be waited for: an awaitable that is done already.
//!
//! They have a coroutine's methods, so that `asyncio.create_task(receive())` works as it does with servers whose
//! `receive` is an `async def`.

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
        Err(PyErr::from_value(value.unwrap_or(kind).into_bound(py)))
    }

    fn close(&self) {}
}

/// An awaitable that has a result.
#[pyclass(frozen, module = "rgunicorn")]
pub(super) struct Ready(Mutex<Option<Py<PyAny>>>);

impl Ready {
    pub(super) fn with<'py>(value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        Ok(Bound::new(py, Ready(Mutex::new(Some(value.unbind()))))?.into_any())
    }

    fn end(&self) -> PyErr {
        let value = lock(&self.0).take();
        match value {
            Some(value) => PyStopIteration::new_err(value),
            None => PyStopIteration::new_err(()),
        }
    }
}

#[pymethods]
impl Ready {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self) -> PyResult<Option<Py<PyAny>>> {
        Err(self.end())
    }

    fn send(&self, _value: Py<PyAny>) -> PyResult<()> {
        Err(self.end())
    }

    #[pyo3(signature = (kind, value=None, _traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        kind: Py<PyAny>,
        value: Option<Py<PyAny>>,
        _traceback: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        Err(PyErr::from_value(value.unwrap_or(kind).into_bound(py)))
    }

    fn close(&self) {}
}
