//! What the loop's callback and the conversations share: the engine, the event loop, and who waits for something.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rgunicorn_core::engine::{Exchange, Ticket, Wants};
use rgunicorn_core::websocket::Contexts;

use super::awaitable::{Done, Pause};
use super::cycle::Cycle;
use super::lock;
use super::scope::ScopeBuilder;
use super::tasks::Tasks;
use super::websocket::WebSocket;
use crate::python::ending::{Held, empty_at_the_end};
use crate::python::failure;
use crate::python::server_hooks::RequestHooks;
use crate::python::turns::{Serving, Turns};

/// What the callback and the conversations share.
pub(super) struct Shared {
    pub(super) turns: Turns,
    application: Held,
    /// What it is called.
    name: String,
    pub(super) scopes: ScopeBuilder,
    /// Those around each request; none for most servers.
    pub(super) hooks: Option<RequestHooks>,
    /// `200 OK` and the like, by the standard library's list; index 0 is 100.
    status_lines: Vec<Option<Box<[u8]>>>,
    done: Py<Done>,
    /// What the access log asks for.
    pub(super) log_variables: Vec<String>,
    /// Conversations whose application waits for something: a task that nobody else holds must not be lost.
    pub(super) waiting: Mutex<HashMap<Ticket, Talk>>,
    /// Tasks that have not ended.
    pub(super) tasks: AtomicUsize,
    /// What WebSockets are read into, one after the other.
    pub(super) buffer: Mutex<Vec<u8>>,
    /// What they compress with.
    pub(super) contexts: Contexts,
    /// A turn is under way, or will be soon.
    pub(super) turning: AtomicBool,
    pub(super) python: OnceLock<Loop>,
}

/// The event loop, as far as it is needed.
pub(super) struct Loop {
    pub(super) call_soon: Py<PyAny>,
    pub(super) call_later: Py<PyAny>,
    pub(super) create_future: Py<PyAny>,
    /// The context that callbacks run in, as an argument: not that of the task that happens to ask for them, whose variables
    /// would pass into the tasks of other requests.
    pub(super) in_context: Py<PyDict>,
    pub(super) tasks: Tasks,
    /// `serve.py`'s coroutine that waits for a future.
    pub(super) wait: Py<PyAny>,
    /// Our own methods.
    pub(super) turn: Py<PyAny>,
    pub(super) alarm: Py<PyAny>,
    pub(super) time_is_up: Py<PyAny>,
    pub(super) wake: Py<PyAny>,
    /// The future that is done when the worker is.
    pub(super) stopped: Py<PyAny>,
}

impl Loop {
    fn soon<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.call_soon.bind(py).call((&self.turn,), Some(self.in_context.bind(py)))
    }
}

impl Shared {
    pub(super) fn new(
        py: Python<'_>,
        application: Py<PyAny>,
        state: Py<PyDict>,
        serving: Serving,
        log_variables: Vec<String>,
        hooks: Option<RequestHooks>,
    ) -> PyResult<Self> {
        empty_at_the_end(state.bind(py));
        Ok(Shared {
            scopes: ScopeBuilder::new(py, serving.tenure.config(), state)?,
            turns: Turns::new(serving),
            name: name_of(application.bind(py)),
            application: Held::new(application.into_bound(py))?,
            hooks,
            status_lines: status_lines(py)?,
            done: Py::new(py, Done)?,
            log_variables,
            waiting: Mutex::default(),
            tasks: AtomicUsize::new(0),
            buffer: Mutex::default(),
            contexts: Contexts::default(),
            turning: AtomicBool::new(false),
            python: OnceLock::new(),
        })
    }

    pub(super) fn application<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.application.get(py)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn done<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.done.bind(py).clone().into_any()
    }

    /// The status with its reason.
    pub(super) fn status_line(&self, status: u16) -> PyResult<std::borrow::Cow<'_, [u8]>> {
        let known = usize::from(status).checked_sub(100).and_then(|index| self.status_lines.get(index));
        match known {
            Some(Some(line)) => Ok(line.as_ref().into()),
            _ if (100..1000).contains(&status) => Ok(format!("{status} ").into_bytes().into()),
            _ => Err(PyValueError::new_err(format!("{status} is no HTTP status"))),
        }
    }

    pub(super) fn python(&self) -> PyResult<&Loop> {
        self.python.get().ok_or_else(|| PyRuntimeError::new_err("the event loop was not started"))
    }

    /// A future of the event loop.
    pub(super) fn future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.python()?.create_future.bind(py).call0()
    }

    /// A coroutine that waits for a future.
    pub(super) fn wait<'py>(&self, future: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.python()?.wait.bind(future.py()).call1((future,))
    }

    /// What `send` returns, where it has done what there was to be done; `at_once` says that the event loop needs no turn
    /// before it goes on.
    pub(super) fn sent<'py>(
        &self,
        py: Python<'py>,
        outcome: PyResult<()>,
        at_once: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        match (outcome, at_once) {
            (outcome, false) => Pause::before(py, outcome),
            (Ok(()), true) => Ok(self.done(py)),
            (Err(error), true) => Err(error),
        }
    }

    /// Takes a parked exchange again; none if its client is gone.
    pub(super) fn retake(&self, ticket: Ticket) -> Option<Exchange> {
        self.turns.engine().retake(ticket)
    }

    pub(super) fn give_back(&self, py: Python<'_>, exchange: Exchange) {
        let more = {
            let mut engine = self.turns.engine();
            engine.give_back(exchange);
            !self.turning.load(Relaxed) && self.turns.needs_turn(&engine)
        };
        if more {
            self.turn_soon(py);
        }
    }

    pub(super) fn park(&self, py: Python<'_>, exchange: Exchange, wants: Wants) {
        let more = {
            let mut engine = self.turns.engine();
            engine.park(exchange, wants);
            !self.turning.load(Relaxed) && self.turns.needs_turn(&engine)
        };
        if more {
            self.turn_soon(py);
        }
    }

    pub(super) fn turn_soon(&self, py: Python<'_>) {
        if self.turning.swap(true, Relaxed) {
            return;
        }
        let soon = self.python().and_then(|python| python.soon(py));
        if let Err(error) = soon {
            // The loop is closed: nothing will be served any more.
            self.turning.store(false, Relaxed);
            tracing::debug!("no turn of the engine: {error}");
        }
    }

    /// Keeps a conversation whose application waits, or whose client is waited for.
    pub(super) fn remember(&self, ticket: Ticket, talk: Talk) {
        let known = {
            let mut waiting = lock(&self.waiting);
            match waiting.contains_key(&ticket) {
                true => Some(talk),
                false => waiting.insert(ticket, talk),
            }
        };
        drop(known);
    }

    /// Lets go of a conversation that has ended.
    pub(super) fn forget(&self, ticket: Ticket) {
        let forgotten = lock(&self.waiting).remove(&ticket);
        drop(forgotten);
    }

    /// A task has ended.
    pub(super) fn one_less(&self, py: Python<'_>) {
        self.tasks.fetch_sub(1, Relaxed);
        if self.turns.is_leaving() {
            self.turn_soon(py);
        }
    }

    /// The application has asked for its worker's end.
    pub(super) fn exit(&self, py: Python<'_>, code: i32) {
        self.turns.exit_with(code);
        self.turn_soon(py);
    }

    /// How often clients of WebSockets are asked whether they are there, and how long they may take to answer.
    pub(super) fn ping_times(&self) -> (Duration, Duration) {
        let config = self.turns.config();
        (config.websocket_ping_interval, config.websocket_ping_timeout)
    }

    /// How long an application may go on without a client, in seconds.
    pub(super) fn grace(&self) -> f64 {
        self.turns.config().asgi_disconnect_grace_period.as_secs_f64()
    }

    /// Has a conversation's time come in so many seconds: a timer, which keeps the conversation until then, or until it is
    /// [cancelled](cancel).
    pub(super) fn call_later(
        &self,
        py: Python<'_>,
        seconds: f64,
        conversation: &Bound<'_, PyAny>,
    ) -> Option<Py<PyAny>> {
        let later = self.python().and_then(|python| {
            let arguments = (seconds, &python.time_is_up, conversation);
            python.call_later.bind(py).call(arguments, Some(python.in_context.bind(py)))
        });
        later.map(Bound::unbind).inspect_err(|error| complain(py, error)).ok()
    }

    /// Has those who wait for a message of a conversation woken up in so many seconds.
    pub(super) fn wake_later(
        &self,
        py: Python<'_>,
        seconds: f64,
        conversation: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let python = self.python()?;
        let arguments = (seconds, &python.wake, conversation);
        python.call_later.bind(py).call(arguments, Some(python.in_context.bind(py))).map(drop)
    }
}

/// A conversation that waits for something.
pub(super) enum Talk {
    Http(Py<Cycle>),
    WebSocket(Py<WebSocket>),
}

impl Talk {
    /// Its task, if that has not ended.
    pub(super) fn task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self {
            Talk::Http(cycle) => cycle.get().task(py),
            Talk::WebSocket(socket) => socket.get().task(py),
        }
    }

    pub(super) fn clone_ref(&self, py: Python<'_>) -> Talk {
        match self {
            Talk::Http(cycle) => Talk::Http(cycle.clone_ref(py)),
            Talk::WebSocket(socket) => Talk::WebSocket(socket.clone_ref(py)),
        }
    }
}

/// Cancels a timer or a task.
pub(super) fn cancel(py: Python<'_>, what: Option<Py<PyAny>>) {
    if let Some(what) = what
        && let Err(error) = what.call_method0(py, intern!(py, "cancel"))
    {
        complain(py, &error);
    }
}

/// Whether an exception says that its task was cancelled.
pub(super) fn is_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<pyo3::exceptions::asyncio::CancelledError>(py)
}

/// Wakes up whoever waits for a future. Whether there was somebody: who was cancelled doesn't wait.
pub(super) fn wake(py: Python<'_>, future: &Py<PyAny>) -> bool {
    let wake = || {
        let future = future.bind(py);
        let waits = !future.call_method0(intern!(py, "done"))?.is_truthy()?;
        if waits {
            future.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
        PyResult::Ok(waits)
    };
    wake().unwrap_or_else(|error| {
        complain(py, &error);
        false
    })
}

/// Wakes up those who wait for these futures.
pub(super) fn wake_all(py: Python<'_>, futures: Vec<Py<PyAny>>) {
    for future in futures {
        wake(py, &future);
    }
}

/// Something went wrong that is nobody's request.
pub(super) fn complain(py: Python<'_>, error: &PyErr) {
    tracing::error!("Error in the event loop\n{}", failure::report(py, error));
}

/// What an application is called: a function as it is, an object by its type.
fn name_of(application: &Bound<'_, PyAny>) -> String {
    let py = application.py();
    let name = |object: &Bound<'_, PyAny>| object.getattr(intern!(py, "__qualname__"))?.extract::<String>();
    let named = name(application);
    named
        .or_else(|_| name(application.get_type().as_any()).map(|name| format!("{name}.__call__")))
        .unwrap_or_default()
}

fn status_lines(py: Python<'_>) -> PyResult<Vec<Option<Box<[u8]>>>> {
    let mut lines = vec![None; 500];
    for status in py.import("http")?.getattr("HTTPStatus")?.try_iter()? {
        let status = status?;
        let code = status.getattr("value")?.extract::<u16>()?;
        let phrase = status.getattr("phrase")?.extract::<String>()?;
        if let Some(line) = usize::from(code).checked_sub(100).and_then(|index| lines.get_mut(index)) {
            *line = Some(format!("{code} {phrase}").into_bytes().into_boxed_slice());
        }
    }
    Ok(lines)
}
