//! The loop's callback: a turn of the engine, and a task for each request.
//!
//! The event loop watches the engine's descriptor and calls [`Serving::turn`] when it is readable. What the tasks then do
//! with their exchanges may leave something behind that no event tells of (a pipelined request, a deadline, a line of the
//! access log): another turn is called soon then.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::PyDict;
use pyo3::{PyClass, PyClassInitializer};
use rgunicorn_core::app::AppError;
use rgunicorn_core::engine::{Exchange, Occasion};
use rgunicorn_core::http::Refusal;
use rgunicorn_core::websocket::handshake::Opening;
use rgunicorn_core::worker::Exit;

use super::cycle::Cycle;
use super::scope::Kind;
use super::shared::{Loop, Shared, Talk, complain};
use super::tasks::Tasks;
use super::websocket::WebSocket;
use super::{lock, log_variables};
use crate::holding::Holding;
use crate::python::failure;
use crate::python::server_hooks::RequestHooks;
use crate::python::turns::Serving;
use crate::python::wsgi::WsgiApplication;

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
        let shared = Shared::new(py, application, state, serving, log_variables, hooks)?;
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
                let _ = response.header(b"Upgrade", b"websocket");
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
            wake: ours("wake")?,
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

    /// Serves no more: the tasks that have not ended.
    fn unfinished(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.shared.turns.cleans_up();
        let waiting: Vec<Talk> = lock(&self.shared.waiting).values().map(|talk| talk.clone_ref(py)).collect();
        waiting.iter().filter_map(|talk| talk.task(py)).collect()
    }

    /// Wakes up who waits for a message of a request.
    fn wake(&self, py: Python<'_>, conversation: &Bound<'_, PyAny>) {
        if let Ok(cycle) = conversation.cast::<Cycle>() {
            cycle.get().wake_receivers(py);
        }
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
