//! One WebSocket: the coroutine of its task, and its `receive` and `send`.
//!
//! The connection stays the engine's: it is parked, and hands out what has come. So WebSockets are bounded by
//! `worker_connections` and `send_timeout`, logged when they end, and told when the worker stops.

mod closing;
mod handshake;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use pyo3::exceptions::{PyConnectionError, PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use rgunicorn_core::app::AppError;
use rgunicorn_core::engine::{Exchange, Occasion, Ticket, Wants};
use rgunicorn_core::websocket::handshake::Agreement;
use rgunicorn_core::websocket::{Codec, Event, code, may_be_sent};

use super::awaitable::Ready;
use super::conversation::{self, Conversation, Driver, coroutine_methods};
use super::cycle::HIGH_WATER;
use super::lock;
use super::message::Message;
use super::shared::{Shared, Talk, is_cancelled, still_waits};
use crate::python::failure;

/// How many bytes of messages may wait for `receive` before the client has to.
const QUEUE: usize = 256 * 1024;
/// How much is read from one client before others have their turn.
const READ: usize = 256 * 1024;

/// A WebSocket, as its task runs it.
#[pyclass(frozen, module = "rgunicorn")]
pub(super) struct WebSocket {
    shared: Arc<Shared>,
    ticket: Ticket,
    driver: Mutex<Driver>,
    state: Mutex<State>,
}

struct State {
    scope: Option<Py<PyDict>>,
    exchange: Option<Exchange>,
    task: Option<Py<PyAny>>,
    accept: String,
    deflate: Option<Agreement>,
    codec: Codec,
    stage: Stage,
    /// `websocket.connect` was received.
    connected: bool,
    /// Messages that wait for `receive`, and their size.
    queue: VecDeque<Event>,
    queued: usize,
    /// What the application is told of the end, once it has come or is on its way.
    told: Option<(u16, String)>,
    /// Nothing more will come from the client.
    over: bool,
    /// The client was asked whether it is there, and hasn't sent anything since.
    asked: bool,
    /// The next ring is for its answer.
    answer_due: bool,
    /// When the client's part of the closing handshake is due.
    close_by: Option<Instant>,
    receivers: VecDeque<Py<PyAny>>,
    senders: Vec<Py<PyAny>>,
}

/// Where a WebSocket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The application has not answered the handshake.
    Connecting,
    /// It answers with an ordinary response, whose body is waited for.
    Rejecting,
    /// Messages go both ways.
    Open,
    /// A close frame was sent; the client's is waited for.
    Closing,
    /// The connection is over.
    Closed,
}

impl State {
    fn wants(&self) -> Wants {
        let reads = match self.stage {
            Stage::Open => self.queued < QUEUE,
            Stage::Closing => true,
            _ => false,
        };
        Wants { room: !self.senders.is_empty(), bytes: reads }
    }

    /// Nothing more will come from the client.
    fn end(&mut self, code: u16, reason: &str) {
        self.told.get_or_insert_with(|| (code, reason.into()));
        self.over = true;
    }

    /// Takes in what the client has sent.
    fn hear(&mut self) {
        while let Some(event) = self.codec.next() {
            match event {
                Event::End { code, reason } => {
                    self.end(code, &reason);
                }
                // Nobody listens any more.
                _ if self.stage != Stage::Open => {}
                Event::Text(text) => {
                    self.queued += text.len();
                    self.queue.push_back(Event::Text(text));
                }
                Event::Binary(bytes) => {
                    self.queued += bytes.len();
                    self.queue.push_back(Event::Binary(bytes));
                }
            }
        }
    }
}

impl WebSocket {
    pub(super) fn new(
        shared: Arc<Shared>,
        exchange: Exchange,
        scope: Bound<'_, PyDict>,
        accept: String,
        deflate: Option<Agreement>,
        most: u64,
    ) -> Self {
        let contexts = shared.contexts.clone();
        WebSocket {
            shared,
            ticket: exchange.ticket(),
            driver: Mutex::new(Driver::new()),
            state: Mutex::new(State {
                scope: Some(scope.unbind()),
                exchange: Some(exchange),
                task: None,
                accept,
                deflate,
                codec: Codec::new(most, deflate, &contexts),
                stage: Stage::Connecting,
                connected: false,
                queue: VecDeque::new(),
                queued: 0,
                told: None,
                over: false,
                asked: false,
                answer_due: false,
                close_by: None,
                receivers: VecDeque::new(),
                senders: Vec::new(),
            }),
        }
    }

    /// Remembers the task, unless it has ended already.
    pub(super) fn set_task(&self, task: Bound<'_, PyAny>) {
        if !lock(&self.driver).has_ended() {
            lock(&self.state).task = Some(task.unbind());
        }
    }

    /// The task, if it has not ended.
    pub(super) fn task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        lock(&self.state).task.as_ref().map(|task| task.clone_ref(py))
    }

    /// Something has happened to the parked connection.
    pub(super) fn notice(slf: &Bound<'_, Self>, mut exchange: Exchange, occasion: Occasion) {
        let py = slf.py();
        let this = slf.get();
        let senders = match occasion {
            Occasion::Room | Occasion::Gone => std::mem::take(&mut lock(&this.state).senders),
            _ => Vec::new(),
        };
        let mut open = occasion != Occasion::Gone;
        if occasion == Occasion::Bytes {
            let mut bytes = std::mem::take(lock(&this.state).codec.receive());
            open = matches!(exchange.read(&mut bytes, READ), Ok(true));
            let mut state = lock(&this.state);
            *state.codec.receive() = bytes;
            state.asked = false;
            state.hear();
        }
        // A client of a WebSocket that ends its side without a word is gone.
        open &= occasion != Occasion::Left;
        if !open {
            lock(&this.state).end(code::ABNORMAL, "");
        }
        this.go_on(py, exchange, open);
        this.shared.settle(py, senders, || Ok(py.None().into_bound(py)));
    }

    /// Sends what there is to be sent, ends what has ended, and tells the application.
    fn go_on(&self, py: Python<'_>, mut exchange: Exchange, open: bool) {
        let (output, over) = {
            let mut state = lock(&self.state);
            (state.codec.take_output(), state.over)
        };
        let sent = open
            && (output.is_empty()
                || (exchange.response().push_raw(&output).is_ok() && exchange.flush().is_ok()));
        if !sent {
            lock(&self.state).end(code::ABNORMAL, "");
            exchange.abandon();
            self.close(py, exchange);
        } else if over && lock(&self.state).stage != Stage::Connecting {
            // A response of our own making ends here.
            let _ = exchange.response().end_body();
            exchange.conclude();
            self.close(py, exchange);
        } else {
            self.put_back(py, exchange);
        }
        self.tell(py);
    }

    /// The connection is over.
    fn close(&self, py: Python<'_>, exchange: Exchange) {
        let senders = {
            let mut state = lock(&self.state);
            state.stage = Stage::Closed;
            // What it has for compression is large.
            state.codec = Codec::new(0, None, &self.shared.contexts);
            std::mem::take(&mut state.senders)
        };
        self.shared.give_back(py, exchange);
        self.shared.settle(py, senders, || Ok(py.None().into_bound(py)));
        if lock(&self.driver).has_ended() {
            self.shared.forget(self.ticket);
        }
    }

    /// Gives those who wait in `receive` what there is.
    fn tell(&self, py: Python<'_>) {
        loop {
            let Some(receiver) = lock(&self.state).receivers.pop_front() else { return };
            if !still_waits(py, &receiver) {
                continue;
            }
            match self.next_message(py) {
                Ok(None) => return lock(&self.state).receivers.push_front(receiver),
                Ok(Some(message)) => self.shared.settle(py, vec![receiver], || Ok(message.clone())),
                Err(error) => super::shared::complain(py, &error),
            }
        }
    }

    /// What `receive` returns next, if there is something.
    fn next_message<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (event, end, connect) = {
            let mut state = lock(&self.state);
            let connect = !std::mem::replace(&mut state.connected, true);
            let event = if connect { None } else { state.queue.pop_front() };
            state.queued -= match &event {
                Some(Event::Text(text)) => text.len(),
                Some(Event::Binary(bytes)) => bytes.len(),
                _ => 0,
            };
            (event, state.told.clone(), connect)
        };
        let message = PyDict::new(py);
        let kind = intern!(py, "type");
        match (event, end) {
            _ if connect => message.set_item(kind, intern!(py, "websocket.connect"))?,
            (Some(Event::Text(text)), _) => {
                message.set_item(kind, intern!(py, "websocket.receive"))?;
                message.set_item(intern!(py, "text"), text)?;
            }
            (Some(Event::Binary(bytes)), _) => {
                message.set_item(kind, intern!(py, "websocket.receive"))?;
                message.set_item(intern!(py, "bytes"), PyBytes::new(py, &bytes))?;
            }
            (_, Some((code, reason))) => {
                message.set_item(kind, intern!(py, "websocket.disconnect"))?;
                message.set_item(intern!(py, "code"), code)?;
                message.set_item(intern!(py, "reason"), reason)?;
            }
            _ => return Ok(None),
        }
        Ok(Some(message.into_any()))
    }

    /// Hands the connection to the engine while the application waits.
    fn park(&self, py: Python<'_>, exchange: Exchange) {
        let wants = lock(&self.state).wants();
        self.shared.park(py, exchange, wants);
    }

    fn take(&self) -> Option<Exchange> {
        let held = lock(&self.state).exchange.take();
        held.or_else(|| self.shared.retake(self.ticket))
    }

    fn put_back(&self, py: Python<'_>, exchange: Exchange) {
        if lock(&self.driver).stepping {
            lock(&self.state).exchange = Some(exchange);
        } else {
            self.park(py, exchange);
        }
    }
}

impl Conversation for WebSocket {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn driver(&self) -> MutexGuard<'_, Driver> {
        lock(&self.driver)
    }

    fn call<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let scope = lock(&slf.get().state).scope.take();
        let receive = slf.getattr(intern!(py, "asgi_receive"))?;
        let send = slf.getattr(intern!(py, "asgi_send"))?;
        slf.get().shared.application().bind(py).call1((scope, receive, send))
    }

    fn suspended(slf: &Bound<'_, Self>) {
        let this = slf.get();
        this.shared.remember(this.ticket, Talk::WebSocket(slf.clone().unbind()));
        let (held, wants) = {
            let mut state = lock(&this.state);
            (state.exchange.take(), state.wants())
        };
        let parked = || if wants.bytes { this.shared.retake(this.ticket) } else { None };
        if let Some(exchange) = held.or_else(parked) {
            this.park(slf.py(), exchange);
        }
    }

    fn ended(slf: &Bound<'_, Self>, outcome: PyResult<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (stage, left) = {
            let mut state = lock(&this.state);
            state.task = None;
            state.scope = None;
            (state.stage, state.told.is_some())
        };
        let (report, result) = match outcome {
            Ok(_) => (None, Ok(())),
            Err(error) if is_cancelled(py, &error) => (None, Err(error)),
            Err(error) => {
                if let Some(code) = failure::exit_status(py, &error) {
                    this.shared.exit(py, code);
                }
                // One that sends to a client that is gone is told so by an OSError.
                let late = left && error.is_instance_of::<PyConnectionError>(py);
                ((!late).then(|| failure::report(py, &error)), Ok(()))
            }
        };
        match stage {
            Stage::Connecting | Stage::Rejecting => {
                if let Some(mut exchange) = this.take() {
                    let report = report.unwrap_or_else(|| {
                        "The application returned without an answer to the handshake".into()
                    });
                    exchange.fail(AppError::Failed { report });
                    lock(&this.state).end(code::ABNORMAL, "");
                    this.close(py, exchange);
                }
            }
            _ => {
                if let Some(report) = &report {
                    tracing::error!("Exception in the application of a WebSocket\n{report}");
                }
                if stage == Stage::Open {
                    let code = if report.is_some() { code::INTERNAL_ERROR } else { code::NORMAL };
                    Self::begin_close(slf, code, "");
                }
                // Where the application is not waited for, what it held is the engine's again.
                let held = lock(&this.state).exchange.take();
                if let Some(exchange) = held {
                    this.park(py, exchange);
                }
            }
        }
        if lock(&this.state).stage == Stage::Closed {
            this.shared.forget(this.ticket);
        }
        this.shared.one_less(py);
        result
    }
}

coroutine_methods! { WebSocket {
    /// The next message from the client.
    fn asgi_receive<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if let Some(message) = this.next_message(py)? {
            return Ready::with(message);
        }
        let future = this.shared.future(py)?;
        lock(&this.state).receivers.push_back(future.clone().unbind());
        // The client may have been made to wait until there was somebody to listen.
        if !lock(&this.driver).stepping
            && let Some(exchange) = this.take()
        {
            this.park(py, exchange);
        }
        this.shared.wait(future)
    }

    /// Takes a message for the client.
    fn asgi_send<'py>(slf: &Bound<'py, Self>, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let message = Message::new(message)?;
        let stage = lock(&this.state).stage;
        let gone = || PyConnectionError::new_err("the WebSocket is closed");
        if matches!(stage, Stage::Closing | Stage::Closed) {
            return match message.kind()? {
                "websocket.close" => Ok(this.shared.done(py)),
                _ => Err(gone()),
            };
        }
        if stage != Stage::Open {
            let exchange = this.take().ok_or_else(gone)?;
            let answered = match stage {
                Stage::Connecting => Self::answer(slf, exchange, &message),
                _ => this.reject_body(py, exchange, &message),
            };
            return match answered {
                Ok(()) => Ok(this.shared.done(py)),
                Err((error, exchange)) => {
                    this.put_back(py, exchange);
                    Err(error)
                }
            };
        }
        match message.kind()? {
            "websocket.send" => {
                let bytes = message.bytes(intern!(py, "bytes"))?;
                let text = message.get(intern!(py, "text"))?.map(|text| text.cast_into::<PyString>());
                let text = text.transpose().map_err(|_| PyTypeError::new_err("text must be a str"))?;
                let text = text.as_ref().map(|text| text.to_cow()).transpose()?;
                let mut exchange = this.take().ok_or_else(gone)?;
                let output = {
                    let mut state = lock(&this.state);
                    match (bytes, text) {
                        (Some(bytes), _) => state.codec.binary(bytes.as_bytes()),
                        (None, Some(text)) => state.codec.text(&text),
                        (None, None) => {}
                    }
                    state.codec.take_output()
                };
                if exchange.response().push_raw(&output).is_err() || exchange.flush().is_err() {
                    this.go_on(py, exchange, false);
                    return Err(gone());
                }
                let wait = exchange.response().waiting() > HIGH_WATER;
                let future = if wait { Some(this.shared.future(py)?) } else { None };
                if let Some(future) = &future {
                    lock(&this.state).senders.push(future.clone().unbind());
                }
                this.put_back(py, exchange);
                match future {
                    Some(future) => this.shared.wait(future),
                    None => Ok(this.shared.done(py)),
                }
            }
            "websocket.close" => {
                let code =
                    message.get(intern!(py, "code"))?.map_or(Ok(code::NORMAL), |code| code.extract())?;
                let reason = message.get(intern!(py, "reason"))?.map(|reason| reason.extract::<String>());
                let reason = reason.transpose()?.unwrap_or_default();
                if !may_be_sent(code) {
                    return Err(PyRuntimeError::new_err(format!(
                        "{code} is no code to close a WebSocket with"
                    )));
                }
                Self::begin_close(slf, code, &reason);
                Ok(this.shared.done(py))
            }
            kind => Err(PyRuntimeError::new_err(format!(
                "unexpected message {kind:?}: 'websocket.send' or 'websocket.close' was expected"
            ))),
        }
    }
} }

impl Drop for WebSocket {
    /// A task that was thrown away: its client must not wait for ever.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(mut exchange) = state.exchange.take() {
            exchange.abandon();
            Python::attach(|py| self.shared.give_back(py, exchange));
        }
    }
}
