//! The loop's callback: a turn of the engine, and a task for each request.
//!
//! The event loop watches the engine's descriptor and calls [`Serving::turn`] when it is readable. What the tasks then do
//! with their exchanges may leave something behind that no event tells of (a pipelined request, a deadline, a line of the
//! access log): another turn is called soon then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::PyDict;
use pyo3::{PyClass, PyClassInitializer};
use rgunicorn_core::app::AppError;
use rgunicorn_core::engine::{Exchange, Occasion, Ticket, Wants};
use rgunicorn_core::http::Refusal;
use rgunicorn_core::websocket::handshake::Opening;
use rgunicorn_core::worker::Exit;

use super::awaitable::Done;
use super::cycle::Cycle;
use super::scope::{Kind, ScopeBuilder};
use super::tasks::Tasks;
use super::websocket::WebSocket;
use super::{lock, log_variables};
use crate::holding::Holding;
use crate::python::failure;
use crate::python::server_hooks::RequestHooks;
use crate::python::turns::{Serving, Turns};
use crate::python::wsgi::WsgiApplication;

/// What the callback and the conversations share.
pub(super) struct Shared {
    turns: Turns,
    application: Py<PyAny>,
    scopes: ScopeBuilder,
    /// Those around each request; none for most servers.
    hooks: Option<RequestHooks>,
    /// `200 OK` and the like, by the standard library's list; index 0 is 100.
    status_lines: Vec<Option<Box<[u8]>>>,
    done: Py<Done>,
    /// What the access log asks for.
    log_variables: Vec<String>,
    /// Conversations whose application waits for something: a task that nobody else holds must not be lost.
    waiting: Mutex<HashMap<Ticket, Talk>>,
    /// Tasks that have not ended.
    tasks: AtomicUsize,
    /// A turn is under way, or will be soon.
    turning: AtomicBool,
    python: OnceLock<Loop>,
}

/// The event loop, as far as it is needed.
struct Loop {
    call_soon: Py<PyAny>,
    call_later: Py<PyAny>,
    create_future: Py<PyAny>,
    /// The context that callbacks run in, as an argument: not that of the task that happens to ask for them, whose variables
    /// would pass into the tasks of other requests.
    in_context: Py<PyDict>,
    tasks: Tasks,
    /// `serve.py`'s coroutine that waits for a future.
    wait: Py<PyAny>,
    /// Our own methods.
    turn: Py<PyAny>,
    alarm: Py<PyAny>,
    time_is_up: Py<PyAny>,
    /// The future that is done when the worker is.
    stopped: Py<PyAny>,
}

impl Loop {
    fn soon<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.call_soon.bind(py).call((&self.turn,), Some(self.in_context.bind(py)))
    }
}

impl Shared {
    pub(super) fn application(&self) -> &Py<PyAny> {
        &self.application
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

    fn python(&self) -> PyResult<&Loop> {
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

    /// Gives those who wait for these futures their result.
    pub(super) fn settle<'py>(
        &self,
        py: Python<'py>,
        futures: Vec<Py<PyAny>>,
        result: impl Fn() -> PyResult<Bound<'py, PyAny>>,
    ) {
        for future in futures {
            let settle = || {
                let future = future.bind(py);
                // One that was cancelled is done.
                if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
                    future.call_method1(intern!(py, "set_result"), (result()?,))?;
                }
                PyResult::Ok(())
            };
            settle().unwrap_or_else(|error| complain(py, &error));
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

    fn turn_soon(&self, py: Python<'_>) {
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

    /// How long an application may go on without a client, in seconds.
    pub(super) fn grace(&self) -> f64 {
        self.turns.config().asgi_disconnect_grace_period.as_secs_f64()
    }

    /// Has a conversation's time come in so many seconds.
    pub(super) fn call_later(&self, py: Python<'_>, seconds: f64, conversation: &Bound<'_, PyAny>) {
        let later = self.python().and_then(|python| {
            let arguments = (seconds, &python.time_is_up, conversation);
            python.call_later.bind(py).call(arguments, Some(python.in_context.bind(py)))
        });
        if let Err(error) = later {
            complain(py, &error);
        }
    }
}

/// A conversation that waits for something.
pub(super) enum Talk {
    Http(Py<Cycle>),
    WebSocket(Py<WebSocket>),
}

impl Talk {
    fn clone_ref(&self, py: Python<'_>) -> Talk {
        match self {
            Talk::Http(cycle) => Talk::Http(cycle.clone_ref(py)),
            Talk::WebSocket(socket) => Talk::WebSocket(socket.clone_ref(py)),
        }
    }
}

/// The engine's callbacks, for the event loop.
#[pyclass(frozen, module = "rgunicorn")]
pub(super) struct Server {
    shared: Arc<Shared>,
    /// An application of WSGI, which is called in place of one of ASGI.
    wsgi: Option<WsgiApplication>,
}

impl Server {
    pub(super) fn new(
        py: Python<'_>,
        application: Py<PyAny>,
        wsgi: Option<WsgiApplication>,
        state: Py<PyDict>,
        serving: Serving,
        log_variables: Vec<String>,
        hooks: Option<RequestHooks>,
    ) -> PyResult<Self> {
        let shared = Shared {
            scopes: ScopeBuilder::new(py, &serving.config, state)?,
            turns: Turns::new(serving),
            application,
            hooks,
            status_lines: status_lines(py)?,
            done: Py::new(py, Done)?,
            log_variables,
            waiting: Mutex::default(),
            tasks: AtomicUsize::new(0),
            turning: AtomicBool::new(false),
            python: OnceLock::new(),
        };
        Ok(Server { shared: Arc::new(shared), wsgi })
    }

    /// How the worker has ended.
    pub(super) fn exit(&self) -> Exit {
        self.shared.turns.exit()
    }

    /// Calls the application for a request.
    fn start(&self, py: Python<'_>, mut exchange: Exchange) {
        if !exchange.begin() {
            return self.shared.give_back(py, exchange);
        }
        match self.try_start(py, exchange) {
            Ok(()) => {}
            Err((error, Some(mut exchange))) => {
                exchange.fail(AppError::Failed { report: failure::report(py, &error) });
                self.shared.give_back(py, *exchange);
            }
            Err((error, None)) => complain(py, &error),
        }
    }

    /// On failure the exchange comes back, unless a conversation has it: one that is dropped gives it back itself.
    fn try_start(
        &self,
        py: Python<'_>,
        mut exchange: Exchange,
    ) -> Result<(), (PyErr, Option<Box<Exchange>>)> {
        let shared = &self.shared;
        let opening = Opening::of(&exchange.lend().0);
        let kind = match &opening {
            Opening::None => Kind::Http,
            Opening::Good { .. } => Kind::WebSocket,
            Opening::Bad(problem) => {
                exchange.refuse(&Refusal::bad(*problem));
                shared.give_back(py, exchange);
                return Ok(());
            }
            Opening::OtherVersion => {
                let response = exchange.response();
                // A status and headers of our own making are valid.
                let _ = response.start(b"426 Upgrade Required");
                let _ = response.header(b"Sec-WebSocket-Version", b"13");
                let _ = response.send(b"");
                exchange.conclude();
                shared.give_back(py, exchange);
                return Ok(());
            }
        };
        let local = exchange.local_address();
        let hooks = shared.hooks.as_ref().filter(|_| matches!(kind, Kind::Http));
        let asked = match hooks.map(|hooks| hooks.begin(py, &exchange.lend().0)).transpose() {
            Ok(asked) => asked,
            Err(error) => return Err((error, Some(Box::new(exchange)))),
        };
        let scope = match shared.scopes.build(py, kind, &exchange.lend().0, local) {
            Ok(scope) => scope,
            Err(error) => return Err((error, Some(Box::new(exchange)))),
        };
        if !shared.log_variables.is_empty() {
            let (request, response) = exchange.lend();
            log_variables::note(&shared.log_variables, &request, response);
        }
        let mut asked = asked;
        if let Some(Err(error)) = asked.as_mut().map(|asked| asked.with_scope(&scope)) {
            return Err((error, Some(Box::new(exchange))));
        }
        let started = match opening {
            Opening::Good { accept, deflate } => {
                let most = shared.turns.config().websocket_max_message_size;
                let socket = WebSocket::new(Arc::clone(shared), exchange, scope, accept, deflate, most);
                self.run(py, socket, WebSocket::set_task)
            }
            _ => self.run(py, Cycle::new(Arc::clone(shared), exchange, scope, asked), Cycle::set_task),
        };
        started.map_err(|error| (error, None))
    }

    /// Makes a task of a conversation.
    fn run<C>(&self, py: Python<'_>, conversation: C, set_task: fn(&C, Bound<'_, PyAny>)) -> PyResult<()>
    where
        C: PyClass<Frozen = True> + Into<PyClassInitializer<C>> + Sync,
    {
        let shared = &self.shared;
        let conversation = Bound::new(py, conversation)?;
        let python = shared.python()?;
        shared.tasks.fetch_add(1, Relaxed);
        match python.tasks.start(conversation.as_any()) {
            Ok(task) => {
                set_task(conversation.get(), task);
                Ok(())
            }
            Err(error) => {
                shared.tasks.fetch_sub(1, Relaxed);
                Err(error)
            }
        }
    }

    /// Has the WebSockets end, as the worker is about to.
    fn stop_sockets(&self, py: Python<'_>) {
        let waiting: Vec<Talk> = lock(&self.shared.waiting).values().map(|talk| talk.clone_ref(py)).collect();
        for talk in waiting {
            if let Talk::WebSocket(socket) = talk {
                WebSocket::stop(socket.bind(py));
            }
        }
    }

    fn dispatch(&self, py: Python<'_>, mut exchange: Exchange) {
        if let Some(wsgi) = &self.wsgi {
            if let Err(code) = exchange.advance(wsgi) {
                self.shared.exit(py, code);
            }
            return self.shared.give_back(py, exchange);
        }
        match exchange.occasion() {
            Occasion::Request => self.start(py, exchange),
            Occasion::Pull => {
                exchange.conclude();
                self.shared.give_back(py, exchange);
            }
            occasion => {
                let waiting =
                    lock(&self.shared.waiting).get(&exchange.ticket()).map(|talk| talk.clone_ref(py));
                match waiting {
                    Some(Talk::Http(cycle)) => Cycle::notice(cycle.bind(py), exchange, occasion),
                    Some(Talk::WebSocket(socket)) => WebSocket::notice(socket.bind(py), exchange, occasion),
                    None => {
                        exchange.abandon();
                        self.shared.give_back(py, exchange);
                    }
                }
            }
        }
    }

    /// Has the loop call us again when that is needed without an event.
    fn arrange_next(&self, py: Python<'_>) -> PyResult<()> {
        let shared = &self.shared;
        let next = shared.turns.end();
        shared.turning.store(false, Relaxed);
        if next.at_once {
            shared.turn_soon(py);
        }
        if let Some(delay) = next.alarm {
            let python = shared.python()?;
            let arguments = (delay.as_secs_f64(), &python.alarm);
            python.call_later.bind(py).call(arguments, Some(python.in_context.bind(py)))?;
        }
        Ok(())
    }
}

#[pymethods]
impl Server {
    /// The descriptor to be watched for readability.
    #[getter]
    fn descriptor(&self) -> i32 {
        self.shared.turns.descriptor()
    }

    /// Learns which loop it is in. `stopped` is a future for the end.
    fn enter(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, PyAny>,
        stopped: Py<PyAny>,
        make_task: Py<PyAny>,
        task_arguments: Py<PyDict>,
        by_hand: bool,
        wait: Py<PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let in_context = PyDict::new(py);
        let context = py.import("contextvars")?.call_method0("copy_context")?;
        in_context.set_item("context", context)?;
        let method = |name: &str| event_loop.getattr(name).map(Bound::unbind);
        let ours = |name: &str| slf.getattr(name).map(Bound::unbind);
        let python = Loop {
            call_soon: method("call_soon")?,
            call_later: method("call_later")?,
            create_future: method("create_future")?,
            in_context: in_context.unbind(),
            tasks: Tasks::new(event_loop, make_task, task_arguments, by_hand)?,
            wait,
            turn: ours("turn")?,
            alarm: ours("ring")?,
            time_is_up: ours("time_is_up")?,
            stopped,
        };
        slf.get()
            .shared
            .python
            .set(python)
            .map_err(|_| PyRuntimeError::new_err("a server can be in one event loop only"))
    }

    /// A turn of the engine: does all that sockets and timers ask for, and calls the application for each request.
    fn turn(&self, py: Python<'_>) -> PyResult<()> {
        let shared = &self.shared;
        shared.turning.store(true, Relaxed);
        let queued = shared.turns.begin()?;
        let mut holding = Holding::default();
        for _ in 0..queued {
            let mut engine = shared.turns.engine();
            let Some(mut exchange) = engine.next() else { break };
            holding.prepare(&engine, &mut exchange);
            let before = engine.now();
            drop(engine);
            self.dispatch(py, exchange);
            holding.given_back(&mut shared.turns.engine(), before);
        }
        shared.turns.engine().send_held();
        if shared.turns.heed() {
            self.stop_sockets(py);
        }
        if shared.turns.is_done(shared.tasks.load(Relaxed)) {
            let stopped = shared.python()?.stopped.bind(py);
            if !stopped.call_method0("done")?.is_truthy()? {
                stopped.call_method1("set_result", (py.None(),))?;
            }
        }
        self.arrange_next(py)
    }

    /// The alarm has gone off.
    fn ring(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.turns.ring();
        self.turn(py)
    }

    /// The heartbeat.
    fn beat(&self) {
        self.shared.turns.beat();
    }

    /// How often the heart must beat, in seconds.
    #[getter]
    fn beat_interval(&self) -> f64 {
        self.shared.turns.beat_interval()
    }

    /// A conversation's time has come: to be cancelled without its client, or to ask whether that is there.
    fn time_is_up(&self, py: Python<'_>, conversation: &Bound<'_, PyAny>) {
        if let Ok(cycle) = conversation.cast::<Cycle>() {
            cycle.get().cancel(py);
        } else if let Ok(socket) = conversation.cast::<WebSocket>() {
            WebSocket::ring(socket);
        }
    }
}

/// Whether an exception says that its task was cancelled.
pub(super) fn is_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<pyo3::exceptions::asyncio::CancelledError>(py)
}

/// Whether somebody waits for a future: who was cancelled doesn't, and must not be given what others wait for.
pub(super) fn still_waits(py: Python<'_>, future: &Py<PyAny>) -> bool {
    let done = future.call_method0(py, intern!(py, "done")).and_then(|done| done.is_truthy(py));
    done.is_ok_and(|done| !done)
}

/// Something went wrong that is nobody's request.
pub(super) fn complain(py: Python<'_>, error: &PyErr) {
    tracing::error!("Error in the event loop\n{}", failure::report(py, error));
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
