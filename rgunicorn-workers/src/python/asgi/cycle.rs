//! One HTTP request: the coroutine of its task, and its `receive` and `send`.
//!
//! While the application runs, its exchange is here; while it waits, the exchange is [parked](Engine::park) in the engine.
//! What `send` is given goes into the response at once, and to the client as soon as there is a piece of the body, so that
//! a response in one piece is one write.
//!
//! [`Engine::park`]: rgunicorn_core::engine::Engine::park

mod body;
mod response;

use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use rgunicorn_core::app::{AppError, Body};
use rgunicorn_core::engine::{Exchange, Occasion, Ticket, Wants};

use super::awaitable::Allowance;
use super::conversation::{self, Conversation, Driver, coroutine_methods};
use super::lock;
use super::message::{Message, type_name};
use super::receive::{self, Receive, Source, Waiting};
use super::shared::{Shared, Talk, cancel, is_cancelled, wake_all};
use crate::python::failure;
use crate::python::server_hooks::Asked;
use response::{Said, gone, unexpected};
pub(super) use response::{begin, refused};

/// How much of a response may wait in memory before `send` waits for the client.
pub(super) const HIGH_WATER: usize = 64 * 1024;

/// A request, as its task runs it.
#[pyclass(frozen, module = "rgunicorn")]
pub(super) struct Cycle {
    shared: Arc<Shared>,
    ticket: Ticket,
    driver: Mutex<Driver>,
    state: Mutex<State>,
}

struct State {
    scope: Option<Py<PyDict>>,
    /// Here while the application runs.
    exchange: Option<Exchange>,
    task: Option<Py<PyAny>>,
    body: Option<Body>,
    stage: Stage,
    /// The application has given all of its response, whether or not there was somebody to take it: what it does now is
    /// work of its own.
    given: bool,
    /// Whether the response ends with `http.response.trailers`.
    trailers: bool,
    /// The client has ended its side, or is gone.
    left: bool,
    /// The hooks that are to be told of the response.
    asked: Option<Asked>,
    /// How much may be answered before the event loop has a turn.
    allowance: Allowance,
    /// How often the application was told that the client is gone.
    tellings: u8,
    /// How often it has sent something to a client that was gone.
    unsent: u8,
    /// For its end without a client.
    timer: Option<Py<PyAny>>,
    /// Those who wait in `receive` for the body, or for the client to leave.
    receivers: Waiting,
    /// Futures of those who wait in `send` for the client to take what it was sent.
    senders: Vec<Py<PyAny>>,
}

/// Where a response stands, as far as its application is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// `http.response.start` is waited for.
    Open,
    /// A body is waited for.
    Started,
    /// Only trailers are waited for.
    Trailers,
    /// Nothing more is waited for, or taken.
    Ended,
}

impl State {
    /// Nothing more is to be received: the response is complete, or the client is gone.
    fn is_over(&self) -> bool {
        self.given || self.stage == Stage::Ended || self.left
    }

    /// What the engine must tell.
    fn wants(&self) -> Wants {
        Wants { room: !self.senders.is_empty(), bytes: self.body.is_some() && !self.receivers.is_empty() }
    }
}

impl Cycle {
    pub(super) fn new(
        shared: Arc<Shared>,
        mut exchange: Exchange,
        scope: Bound<'_, PyDict>,
        asked: Option<Asked>,
    ) -> Self {
        let body = exchange.lend().0.take_body();
        Cycle {
            shared,
            ticket: exchange.ticket(),
            driver: Mutex::new(Driver::new()),
            state: Mutex::new(State {
                scope: Some(scope.unbind()),
                exchange: Some(exchange),
                task: None,
                body: Some(body),
                stage: Stage::Open,
                given: false,
                trailers: false,
                left: false,
                asked,
                allowance: Allowance::new(),
                tellings: 0,
                unsent: 0,
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

    /// Something has happened to the parked exchange.
    pub(super) fn notice(slf: &Bound<'_, Self>, mut exchange: Exchange, occasion: Occasion) {
        let py = slf.py();
        let this = slf.get();
        let left = matches!(occasion, Occasion::Left | Occasion::Gone);
        let senders = {
            let mut state = lock(&this.state);
            state.left |= left;
            if occasion == Occasion::Gone {
                state.stage = Stage::Ended;
            }
            let room = matches!(occasion, Occasion::Room | Occasion::Gone);
            if room { std::mem::take(&mut state.senders) } else { Vec::new() }
        };
        if left {
            this.wake_receivers(py);
        } else if occasion == Occasion::Bytes {
            Source::wake(this, py);
        }
        if occasion == Occasion::Gone {
            exchange.abandon();
            this.shared.give_back(py, exchange);
        } else {
            this.park(py, exchange);
        }
        if left && lock(&this.state).timer.is_none() {
            let timer = this.shared.call_later(py, this.shared.grace(), slf.as_any());
            lock(&this.state).timer = timer;
        }
        wake_all(py, senders);
    }

    /// The task, if it has not ended.
    pub(super) fn task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        lock(&self.state).task.as_ref().map(|task| task.clone_ref(py))
    }

    /// Cancels the task of an application whose client is gone, if it still has a response to give.
    pub(super) fn cancel(&self, py: Python<'_>) {
        if lock(&self.state).given {
            return;
        }
        cancel(py, self.task(py));
    }

    /// Hands the exchange to the engine while the application waits.
    fn park(&self, py: Python<'_>, mut exchange: Exchange) {
        let wants = lock(&self.state).wants();
        let response = exchange.response();
        // The client is told now what the application has begun with: it may take its time for the rest.
        if response.is_started() && !response.head_sent() && response.push(b"").is_ok() {
            // That the client is gone shows again.
            let _ = exchange.flush();
        }
        self.shared.park(py, exchange, wants);
    }

    /// Takes the exchange, wherever it is; none once the client is gone.
    fn take(&self) -> Option<Exchange> {
        let held = lock(&self.state).exchange.take();
        held.or_else(|| self.shared.retake(self.ticket))
    }

    /// Puts back what [`take`](Self::take) gave.
    fn put_back(&self, py: Python<'_>, exchange: Exchange) {
        if lock(&self.driver).stepping {
            lock(&self.state).exchange = Some(exchange);
        } else {
            self.park(py, exchange);
        }
    }

    /// The response has its end, one way or the other.
    fn finish(&self, py: Python<'_>, mut exchange: Exchange) {
        let senders = {
            let mut state = lock(&self.state);
            if let Some(asked) = &mut state.asked {
                asked.answered(py, exchange.response());
            }
            state.stage = Stage::Ended;
            std::mem::take(&mut state.senders)
        };
        self.shared.give_back(py, exchange);
        self.wake_receivers(py);
        wake_all(py, senders);
    }

    /// What the server makes of an application that has come to its end.
    fn judge(
        &self,
        py: Python<'_>,
        outcome: PyResult<Bound<'_, PyAny>>,
        stage: Stage,
        left: bool,
    ) -> (Option<String>, PyResult<()>) {
        match outcome {
            Ok(_) if left && stage != Stage::Ended => (None, Ok(())),
            Ok(_) if stage == Stage::Open => {
                (Some("The application returned without having started a response".into()), Ok(()))
            }
            Ok(_) if stage != Stage::Ended => {
                (Some("The application returned without having completed its response".into()), Ok(()))
            }
            Ok(value) if !value.is_none() => {
                let kind = type_name(&value);
                tracing::warn!("The application returned a value of type {kind}, where None is expected");
                (None, Ok(()))
            }
            Ok(_) => (None, Ok(())),
            Err(error) if is_cancelled(py, &error) => {
                (Some("The request's task was cancelled".into()), Err(error))
            }
            Err(error) => {
                if let Some(code) = failure::exit_status(py, &error) {
                    self.shared.exit(py, code);
                }
                (Some(failure::report(py, &error)), Ok(()))
            }
        }
    }
}

impl Conversation for Cycle {
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
        this.shared.remember(this.ticket, Talk::Http(slf.clone().unbind()));
        let (held, wants) = {
            let mut state = lock(&this.state);
            (state.exchange.take(), state.wants())
        };
        // Where it has been parked all the time, the engine must still learn what is waited for by now.
        let parked = || if wants.bytes { this.shared.retake(this.ticket) } else { None };
        if let Some(exchange) = held.or_else(parked) {
            this.park(slf.py(), exchange);
        }
    }

    fn ended(slf: &Bound<'_, Self>, outcome: PyResult<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        // One that sends to a client that is gone is told so by an OSError.
        let late = matches!(&outcome, Err(error) if error.is_instance_of::<PyOSError>(py));
        let (stage, left, owes, timer) = {
            let mut state = lock(&this.state);
            state.task = None;
            state.scope = None;
            (state.stage, state.left, late || !state.given, state.timer.take())
        };
        cancel(py, timer);
        this.shared.forget(this.ticket);
        let (problem, result) = this.judge(py, outcome, stage, left);
        match (stage, problem) {
            (Stage::Ended, None) => {}
            (Stage::Ended, Some(report)) => {
                if result.is_ok() && !(left && owes) {
                    tracing::error!("Exception in the application after its response\n{report}");
                }
            }
            (_, problem) => match this.take() {
                Some(mut exchange) => {
                    let error = match problem {
                        Some(_) if left && result.is_err() => AppError::Disconnected,
                        Some(report) => AppError::Failed { report },
                        // Nobody is there any more to miss something.
                        None => AppError::Disconnected,
                    };
                    exchange.fail(error);
                    this.finish(py, exchange);
                }
                None => {
                    if let (Some(report), Ok(())) = (problem, &result) {
                        tracing::debug!("The application failed after its client had left\n{report}");
                    }
                }
            },
        }
        let asked = lock(&this.state).asked.take();
        drop(asked);
        this.shared.one_less(py);
        result
    }
}

coroutine_methods! { Cycle {
    /// The next message from the client: the body of the request, then that the client is gone.
    fn asgi_receive<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Receive::of(slf.py(), receive::From::Http(slf.clone().unbind()))
    }

    /// Takes a part of the response.
    fn asgi_send<'py>(slf: &Bound<'py, Self>, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let (stage, left, at_once) = {
            let mut state = lock(&this.state);
            (state.stage, state.left, state.allowance.pays(0))
        };
        match this.take_part(py, message, stage, left) {
            Ok(Some(future)) => this.shared.wait(future),
            Ok(None) => this.shared.sent(py, Ok(()), at_once),
            Err(error) => this.shared.sent(py, Err(error), at_once),
        }
    }
} }

impl Cycle {
    /// Makes a message part of the response, and sends what can be sent: what is to be waited for, if anything is.
    fn take_part<'py>(
        &self,
        py: Python<'py>,
        message: &Bound<'py, PyAny>,
        stage: Stage,
        left: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let message = Message::new(message)?;
        if stage == Stage::Ended {
            return match left {
                true => self.note_unsent(py, &message).map(|()| None),
                false => Err(unexpected(stage, message.kind()?)),
            };
        }
        let Some(mut exchange) = self.take() else {
            return self.note_unsent(py, &message).map(|()| None);
        };
        match self.say(py, &mut exchange, &message, stage) {
            Err(error) => {
                self.put_back(py, exchange);
                Err(error)
            }
            Ok(Said::Noted) => {
                self.put_back(py, exchange);
                Ok(None)
            }
            Ok(Said::End) => {
                lock(&self.state).given = true;
                exchange.conclude();
                self.finish(py, exchange);
                Ok(None)
            }
            Ok(Said::Piece) => match exchange.flush() {
                Err(_) => {
                    lock(&self.state).left = true;
                    self.finish(py, exchange);
                    Err(gone())
                }
                Ok(sent) => {
                    let wait = !sent && exchange.response().waiting() > HIGH_WATER;
                    let future = if wait { Some(self.shared.future(py)?) } else { None };
                    if let Some(future) = &future {
                        lock(&self.state).senders.push(future.clone().unbind());
                    }
                    self.put_back(py, exchange);
                    Ok(future)
                }
            },
        }
    }
}

impl Drop for Cycle {
    /// A task that was thrown away: its client must not wait for ever.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(mut exchange) = state.exchange.take() {
            exchange.abandon();
            Python::attach(|py| self.shared.give_back(py, exchange));
        }
    }
}
