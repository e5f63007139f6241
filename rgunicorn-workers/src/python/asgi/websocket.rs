//! One WebSocket: the coroutine of its task, and its `receive` and `send`.
//!
//! The connection stays the engine's: it is parked, and hands out what has come. So WebSockets are bounded by
//! `worker_connections` and `send_timeout`, logged when they end, and told when the worker stops.

mod closing;
mod handshake;
mod receiving;
mod sending;

use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::exceptions::PyConnectionError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use rgunicorn_core::app::AppError;
use rgunicorn_core::engine::{Exchange, Occasion, Ticket, Wants};
use rgunicorn_core::websocket::handshake::Agreement;
use rgunicorn_core::websocket::{Codec, code};

use super::awaitable::Allowance;
use super::conversation::{self, Conversation, Driver, coroutine_methods};
use super::lock;
use super::receive::{From, Receive, Waiting};
use super::shared::{Shared, Talk, is_cancelled, wake_all};
use crate::python::failure;
use receiving::Inbox;

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
    inbox: Inbox,
    /// How much may be answered before the event loop has a turn.
    allowance: Allowance,
    /// What the application is told of the end, once it has come or is on its way.
    told: Option<(u16, String)>,
    /// How often it was told.
    tellings: u8,
    /// It goes on receiving all the same.
    in_vain: bool,
    /// Nothing more will come from the client.
    over: bool,
    /// It has let its time for its part of the closing handshake pass.
    late: bool,
    /// The client was asked whether it is there, and hasn't sent anything since.
    asked: bool,
    /// The next ring is for its answer.
    answer_due: bool,
    /// The only one that there is.
    timer: Option<Py<PyAny>>,
    receivers: Waiting,
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
            Stage::Open => self.inbox.has_room(),
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
                inbox: Inbox::default(),
                allowance: Allowance::new(),
                told: None,
                tellings: 0,
                in_vain: false,
                over: false,
                late: false,
                asked: false,
                answer_due: false,
                timer: None,
                receivers: Waiting::default(),
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
        let open = match occasion {
            Occasion::Bytes => this.read(&mut exchange),
            // A client of a WebSocket that ends its side without a word is gone: once all that it has sent was read.
            Occasion::Left => !lock(&this.state).inbox.has_room(),
            Occasion::Gone => false,
            _ => true,
        };
        if !open {
            lock(&this.state).end(code::ABNORMAL, "");
        }
        Self::go_on(slf, exchange, open);
        wake_all(py, senders);
    }

    /// Sends what there is to be sent, ends what has ended, and tells the application.
    fn go_on(slf: &Bound<'_, Self>, mut exchange: Exchange, open: bool) {
        let py = slf.py();
        let this = slf.get();
        let (output, over, failed) = {
            let mut state = lock(&this.state);
            (state.codec.take_output(), state.over, !state.late && !state.codec.has_heard_close())
        };
        let sent = open
            && (output.is_empty()
                || (exchange.response().push_raw(&output).is_ok() && exchange.flush().is_ok()));
        if !sent {
            lock(&this.state).end(code::ABNORMAL, "");
            exchange.abandon();
            Self::close(slf, exchange);
        } else if over && lock(&this.state).stage != Stage::Connecting {
            if failed {
                // It doesn't know yet, and may be in the middle of a message.
                exchange.linger();
            }
            // A response of our own making ends here.
            let _ = exchange.response().end_body();
            exchange.conclude();
            Self::close(slf, exchange);
        } else {
            this.put_back(py, exchange);
        }
        this.tell(py);
    }

    /// The connection is over.
    fn close(slf: &Bound<'_, Self>, exchange: Exchange) {
        let py = slf.py();
        let this = slf.get();
        let (senders, in_vain) = {
            let mut state = lock(&this.state);
            state.stage = Stage::Closed;
            // What it holds may be large.
            state.codec = Codec::new(0, None, &this.shared.contexts);
            (std::mem::take(&mut state.senders), state.in_vain)
        };
        this.shared.give_back(py, exchange);
        wake_all(py, senders);
        this.stop_timer(py);
        if in_vain {
            Self::wait_in_vain(slf);
        }
        if lock(&this.driver).has_ended() {
            this.shared.forget(this.ticket);
        }
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
        slf.get().shared.application(py)?.call1((scope, receive, send))
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
                    Self::close(slf, exchange);
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
        Receive::of(slf.py(), From::WebSocket(slf.clone().unbind()))
    }

    /// Takes a message for the client.
    fn asgi_send<'py>(slf: &Bound<'py, Self>, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let (stage, at_once) = {
            let mut state = lock(&this.state);
            (state.stage, state.allowance.pays(0))
        };
        match Self::take_message(slf, message, stage) {
            Ok(Some(future)) => this.shared.wait(future),
            Ok(None) => this.shared.sent(py, Ok(()), at_once),
            Err(error) => this.shared.sent(py, Err(error), at_once),
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
