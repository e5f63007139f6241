//! Drives the application's coroutine, and sees what becomes of it.
//!
//! A conversation (a request, a WebSocket) is itself what the event loop's task runs: it looks like a coroutine and passes
//! everything on to the application's. So it learns of a suspension and of the end without a second coroutine around the
//! first, and without a callback.

use std::ptr;
use std::sync::MutexGuard;

use pyo3::PyClass;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::PyTuple;

use super::message::type_name;
use super::shared::Shared;
use crate::python::failure;

/// The coroutine of a conversation.
#[derive(Debug)]
pub(super) struct Driver {
    coroutine: Option<Py<PyAny>>,
    /// It runs at this moment, or has not been started.
    pub(super) stepping: bool,
    ended: bool,
}

impl Driver {
    /// One that has not been started.
    pub(super) fn new() -> Self {
        Driver { coroutine: None, stepping: true, ended: false }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn is_running(&self) -> bool {
        self.stepping && self.coroutine.is_some()
    }

    pub(super) fn is_suspended(&self) -> bool {
        !self.stepping && !self.ended
    }
}

/// Something that a task runs.
pub(super) trait Conversation: Sized {
    fn shared(&self) -> &Shared;

    fn driver(&self) -> MutexGuard<'_, Driver>;

    /// Calls the application.
    fn call<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>>;

    /// The application waits for something.
    fn suspended(slf: &Bound<'_, Self>);

    /// The application has returned or raised; what is returned here becomes of the task.
    fn ended(slf: &Bound<'_, Self>, outcome: PyResult<Bound<'_, PyAny>>) -> PyResult<()>;
}

enum Sent<'py> {
    Yielded(Bound<'py, PyAny>),
    Returned(Bound<'py, PyAny>),
}

/// Runs the coroutine up to its next suspension: what it has yielded; none once it has ended.
pub(super) fn resume<C>(slf: &Bound<'_, C>, throw: Option<&Bound<'_, PyTuple>>) -> PyResult<Option<Py<PyAny>>>
where
    C: Conversation + PyClass<Frozen = True> + Sync,
{
    let py = slf.py();
    let known = {
        let mut driver = slf.get().driver();
        if driver.ended {
            return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"));
        }
        driver.stepping = true;
        driver.coroutine.as_ref().map(|coroutine| coroutine.clone_ref(py))
    };
    let sent = match (known, throw) {
        (Some(coroutine), None) => send(coroutine.bind(py)),
        (Some(coroutine), Some(error)) => self::throw(coroutine.bind(py), error),
        (None, Some(error)) => Err(raised(error)),
        (None, None) => start(slf).and_then(|coroutine| send(&coroutine)),
    };
    // The event loop is the worker's: nothing in it may be waited for in another process.
    failure::end_stray(py, sent.as_ref().err());
    let outcome = match sent {
        Ok(Sent::Yielded(value)) => {
            slf.get().driver().stepping = false;
            C::suspended(slf);
            return Ok(Some(value.unbind()));
        }
        Ok(Sent::Returned(value)) => Ok(value),
        Err(error) => Err(error),
    };
    let coroutine = {
        let mut driver = slf.get().driver();
        driver.stepping = false;
        driver.ended = true;
        driver.coroutine.take()
    };
    drop(coroutine);
    C::ended(slf, outcome).map(|()| None)
}

fn start<'py, C>(slf: &Bound<'py, C>) -> PyResult<Bound<'py, PyAny>>
where
    C: Conversation + PyClass<Frozen = True> + Sync,
{
    let returned = C::call(slf)?;
    // SAFETY: only looks at the object's type.
    let coroutine = if unsafe { ffi::PyCoro_CheckExact(returned.as_ptr()) } != 0 {
        returned
    } else {
        let Some(awaiting) = returned.getattr_opt(pyo3::intern!(slf.py(), "__await__"))? else {
            return Err(PyTypeError::new_err(format!(
                "the application returned {}, which can't be awaited: is it an ASGI application?",
                type_name(&returned)
            )));
        };
        awaiting.call0()?
    };
    slf.get().driver().coroutine = Some(coroutine.clone().unbind());
    Ok(coroutine)
}

fn send<'py>(coroutine: &Bound<'py, PyAny>) -> PyResult<Sent<'py>> {
    let py = coroutine.py();
    let mut result = ptr::null_mut();
    // SAFETY: attached; an iterator or coroutine, None, and a place for the result, which is a new reference unless an
    // error is told.
    let sent = unsafe { ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &raw mut result) };
    match sent {
        ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        // SAFETY: as above.
        ffi::PySendResult::PYGEN_NEXT => Ok(Sent::Yielded(unsafe { Bound::from_owned_ptr(py, result) })),
        // SAFETY: as above.
        ffi::PySendResult::PYGEN_RETURN => Ok(Sent::Returned(unsafe { Bound::from_owned_ptr(py, result) })),
    }
}

fn throw<'py>(coroutine: &Bound<'py, PyAny>, error: &Bound<'py, PyTuple>) -> PyResult<Sent<'py>> {
    let py = coroutine.py();
    match coroutine.getattr(pyo3::intern!(py, "throw"))?.call1(error) {
        Ok(value) => Ok(Sent::Yielded(value)),
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
            error.value(py).getattr(pyo3::intern!(py, "value")).map(Sent::Returned)
        }
        Err(error) => Err(error),
    }
}

/// The exception that arguments of `throw` stand for.
fn raised(arguments: &Bound<'_, PyTuple>) -> PyErr {
    let value = match arguments.get_item(1).ok().filter(|value| !value.is_none()) {
        Some(value) => Ok(value),
        None => arguments.get_item(0),
    };
    match value {
        Ok(value) => PyErr::from_value(value),
        Err(error) => error,
    }
}

/// What a coroutine's `send` and `throw` return or raise, by what [`resume`] has returned.
pub(super) fn yielded(resumed: PyResult<Option<Py<PyAny>>>) -> PyResult<Py<PyAny>> {
    resumed?.ok_or_else(|| PyStopIteration::new_err(()))
}

/// Ends the coroutine early, as `close()` of a coroutine does.
pub(super) fn close<C>(slf: &Bound<'_, C>) -> PyResult<()>
where
    C: Conversation + PyClass<Frozen = True> + Sync,
{
    let coroutine = {
        let mut driver = slf.get().driver();
        driver.ended = true;
        driver.coroutine.take()
    };
    match coroutine {
        Some(coroutine) => coroutine.bind(slf.py()).call_method0("close").map(drop),
        None => Ok(()),
    }
}

/// What debuggers and anyio ask a coroutine about; none where the application has no coroutine to ask.
pub(super) fn attribute<'py, C>(slf: &Bound<'py, C>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>>
where
    C: Conversation + PyClass<Frozen = True> + Sync,
{
    let coroutine = slf.get().driver().coroutine.as_ref().map(|coroutine| coroutine.clone_ref(slf.py()));
    match coroutine {
        Some(coroutine) => coroutine.into_bound(slf.py()).getattr_opt(name),
        None => Ok(None),
    }
}

/// What the coroutine is called where tasks are listed, by debuggers and by tracing libraries: as the application is.
pub(super) fn qualified_name<C: Conversation>(conversation: &C) -> &str {
    conversation.shared().name()
}

/// The methods that Python knows a conversation by: a coroutine's, and its own.
macro_rules! coroutine_methods {
    ($conversation:ident { $($own:tt)* }) => {
        #[pymethods]
        impl $conversation {
            fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
                slf
            }

            fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
                conversation::resume(slf, None)
            }

            /// As of a coroutine; tasks send nothing but `None`.
            fn send(slf: &Bound<'_, Self>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
                conversation::yielded(conversation::resume(slf, None))
            }

            #[pyo3(signature = (*arguments))]
            fn throw(slf: &Bound<'_, Self>, arguments: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
                conversation::yielded(conversation::resume(slf, Some(arguments)))
            }

            #[pyo3(name = "close")]
            fn py_close(slf: &Bound<'_, Self>) -> PyResult<()> {
                conversation::close(slf)
            }

            #[getter]
            fn cr_frame<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
                conversation::attribute(slf, "cr_frame")
            }

            #[getter]
            fn cr_code<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
                conversation::attribute(slf, "cr_code")
            }

            #[getter]
            fn cr_await<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
                conversation::attribute(slf, "cr_await")
            }

            #[getter(__qualname__)]
            fn qualified_name(&self) -> &str {
                conversation::qualified_name(self)
            }

            #[getter(__name__)]
            fn name(&self) -> &str {
                let name = conversation::qualified_name(self);
                name.rsplit_once('.').map_or(name, |(_, last)| last)
            }

            #[getter]
            fn cr_running(&self) -> bool {
                lock(&self.driver).is_running()
            }

            #[getter]
            fn cr_suspended(&self) -> bool {
                lock(&self.driver).is_suspended()
            }

            $($own)*
        }
    };
}
pub(super) use coroutine_methods;
