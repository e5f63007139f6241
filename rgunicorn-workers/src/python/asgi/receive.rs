//! What `receive` returns: an awaitable that takes a message when its awaiter goes on, and not before.
//!
//! Whoever waits is only woken up. So one that is cancelled in the moment in which a message arrives, or before it has
//! begun to wait, has taken nothing, and the next to ask gets the message.

use std::collections::VecDeque;
use std::sync::Mutex;

use pyo3::PyClass;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;

use super::awaitable::thrown;
use super::cycle::Cycle;
use super::lock;
use super::shared::Shared;
use super::websocket::WebSocket;

/// Who asks for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    /// One who hasn't waited.
    AtOnce,
    /// One who has let the event loop have a turn.
    AfterPause,
    /// One who has waited for something to happen.
    AfterWait,
}

/// What there is for one who asks.
pub(super) enum Answer<'py> {
    Message(Bound<'py, PyAny>),
    /// The event loop is to have a turn first.
    Pause,
    /// Nothing yet.
    Wait,
    /// Nothing but the end, which was told before.
    WaitInVain,
}

/// Where messages come from: a conversation.
pub(super) trait Source: PyClass<Frozen = True> + Sync {
    fn shared(&self) -> &Shared;

    /// What there is.
    fn ask<'py>(&self, py: Python<'py>, asking: Asking) -> PyResult<Answer<'py>>;

    /// Somebody waits: is to be woken up by this future.
    fn enlist(slf: &Bound<'_, Self>, future: Py<PyAny>, in_vain: bool) -> PyResult<()>;

    /// Somebody doesn't wait any more. Whether he did: if not, he was woken up.
    fn delist(&self, future: &Py<PyAny>) -> bool;

    /// Wakes up the next one that waits, if there is something for him.
    fn wake(&self, py: Python<'_>);
}

/// Whose messages are asked for.
pub(super) enum From {
    Http(Py<Cycle>),
    WebSocket(Py<WebSocket>),
}

/// The awaitable.
#[pyclass(frozen, module = "rgunicorn")]
pub(super) struct Receive {
    from: From,
    stage: Mutex<Stage>,
}

enum Stage {
    Asks(Asking),
    /// Waits for this future.
    Waits(Py<PyAny>),
    Over,
}

impl Receive {
    pub(super) fn of(py: Python<'_>, from: From) -> PyResult<Bound<'_, PyAny>> {
        let stage = Mutex::new(Stage::Asks(Asking::AtOnce));
        Ok(Bound::new(py, Receive { from, stage })?.into_any())
    }

    /// What is yielded; a message is the value of a `StopIteration`.
    fn step(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match &self.from {
            From::Http(cycle) => self.step_of(cycle.bind(py)),
            From::WebSocket(socket) => self.step_of(socket.bind(py)),
        }
    }

    fn step_of<S: Source>(&self, source: &Bound<'_, S>) -> PyResult<Py<PyAny>> {
        let py = source.py();
        let stage = std::mem::replace(&mut *lock(&self.stage), Stage::Over);
        let asking = match stage {
            Stage::Asks(asking) => asking,
            Stage::Waits(future) => {
                source.get().delist(&future);
                Asking::AfterWait
            }
            Stage::Over => return Err(PyRuntimeError::new_err("cannot reuse already awaited receive()")),
        };
        let (next, yielded) = match source.get().ask(py, asking)? {
            Answer::Message(message) => return Err(PyStopIteration::new_err(message.unbind())),
            Answer::Pause => (Stage::Asks(Asking::AfterPause), py.None()),
            answer @ (Answer::Wait | Answer::WaitInVain) => {
                let future = source.get().shared().future(py)?;
                // Yields the future itself, marked as one that is waited for.
                let waiting = future.call_method0(intern!(py, "__await__"))?;
                let yielded = waiting.call_method0(intern!(py, "__next__"))?;
                let future = future.unbind();
                S::enlist(source, future.clone_ref(py), matches!(answer, Answer::WaitInVain))?;
                (Stage::Waits(future), yielded.unbind())
            }
        };
        *lock(&self.stage) = next;
        Ok(yielded)
    }

    /// Nobody waits for it any more.
    fn give_up(&self, py: Python<'_>) {
        let stage = std::mem::replace(&mut *lock(&self.stage), Stage::Over);
        let Stage::Waits(future) = stage else { return };
        match &self.from {
            From::Http(cycle) => pass_on(py, cycle.get(), &future),
            From::WebSocket(socket) => pass_on(py, socket.get(), &future),
        }
    }
}

/// Who was woken up and doesn't go on has another one woken up.
fn pass_on<S: Source>(py: Python<'_>, source: &S, future: &Py<PyAny>) {
    if !source.delist(future) {
        source.wake(py);
    }
}

#[pymethods]
impl Receive {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.step(py)
    }

    fn send(&self, py: Python<'_>, _value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        self.step(py)
    }

    #[pyo3(signature = (kind, value=None, _traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        kind: Py<PyAny>,
        value: Option<Py<PyAny>>,
        _traceback: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        self.give_up(py);
        Err(thrown(py, kind, value))
    }

    fn close(&self, py: Python<'_>) {
        self.give_up(py);
    }

    // What anyio asks a task's coroutine about, by `inspect.getcoroutinestate`.

    #[getter]
    fn cr_running(&self) -> bool {
        false
    }

    #[getter]
    fn cr_suspended(&self) -> bool {
        !matches!(*lock(&self.stage), Stage::Asks(Asking::AtOnce) | Stage::Over)
    }

    #[getter]
    fn cr_frame(&self) -> Option<Py<PyAny>> {
        None
    }
}

impl Drop for Receive {
    /// A task that was thrown away.
    fn drop(&mut self) {
        let stage = self.stage.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        if matches!(stage, Stage::Waits(_)) {
            Python::attach(|py| self.give_up(py));
        }
    }
}

/// Futures of those who wait for a message, first come first.
#[derive(Default)]
pub(super) struct Waiting(VecDeque<Py<PyAny>>);

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, future: Py<PyAny>) {
        self.0.push_back(future);
    }

    pub(super) fn next(&mut self) -> Option<Py<PyAny>> {
        self.0.pop_front()
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, future: &Py<PyAny>) -> bool {
        let found = self.0.iter().position(|waiting| waiting.is(future));
        found.and_then(|index| self.0.remove(index)).is_some()
    }
}
