//! One HTTP request: the coroutine of its task, and its `receive` and `send`.
//!
//! While the application runs, its exchange is here; while it waits, the exchange is [parked](Engine::park) in the engine.
//! What `send` is given goes into the response at once, and to the client as soon as there is a piece of the body, so that
//! a response in one piece is one write.
//!
//! [`Engine::park`]: rgunicorn_core::engine::Engine::park

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use rgunicorn_core::app::{AppError, Body, Response, ResponseError};
use rgunicorn_core::engine::{Exchange, Occasion, Ticket, Wants};
use rgunicorn_core::http::Informational;

use super::awaitable::Ready;
use super::conversation::{self, Conversation, Driver};
use super::lock;
use super::message::{Message, for_each_header, type_name};
use super::server::{Shared, Talk, complain, is_cancelled, still_waits};
use crate::python::failure;

/// From this size on, a piece of a body is kept instead of copied.
const WORTH_KEEPING: usize = 32 * 1024;
/// How much of a response may wait in memory before `send` waits for the client.
pub(super) const HIGH_WATER: usize = 64 * 1024;
/// How much of a request's body `receive` returns at once, where it isn't all in memory.
const PIECE: usize = 64 * 1024;

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
    /// Whether the response ends with `http.response.trailers`.
    trailers: bool,
    /// The client has ended its side, or is gone.
    left: bool,
    /// Futures of those who wait in `receive` for the client to leave.
    receivers: Vec<Py<PyAny>>,
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

/// What a message came to.
enum Said {
    /// Nothing is to be sent yet.
    Noted,
    /// There is something to be sent.
    Piece,
    /// The response has its end.
    End,
}

impl State {
    /// What the engine must tell.
    fn wants(&self) -> Wants {
        Wants { room: !self.senders.is_empty(), bytes: self.body.is_some() && !self.receivers.is_empty() }
    }
}

impl Cycle {
    pub(super) fn new(shared: Arc<Shared>, mut exchange: Exchange, scope: Bound<'_, PyDict>) -> Self {
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
                trailers: false,
                left: false,
                receivers: Vec::new(),
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
        let (receivers, senders) = {
            let mut state = lock(&this.state);
            state.left |= left;
            if occasion == Occasion::Gone {
                state.stage = Stage::Ended;
            }
            // What has come of a body before its client left can still be read.
            let told = left && (state.body.is_none() || occasion == Occasion::Gone);
            let receivers = if told { std::mem::take(&mut state.receivers) } else { Vec::new() };
            let room = matches!(occasion, Occasion::Room | Occasion::Gone);
            (receivers, if room { std::mem::take(&mut state.senders) } else { Vec::new() })
        };
        if occasion == Occasion::Bytes || (left && occasion != Occasion::Gone) {
            this.pass_on(py);
        }
        if occasion == Occasion::Gone {
            exchange.abandon();
            this.shared.give_back(py, exchange);
        } else {
            this.park(py, exchange);
        }
        if left {
            this.shared.call_later(py, this.shared.grace(), slf.as_any());
        }
        this.shared.settle(py, receivers, || disconnect(py));
        this.shared.settle(py, senders, || Ok(py.None().into_bound(py)));
    }

    /// Cancels the task of an application whose client is gone, if its response isn't complete.
    pub(super) fn cancel(&self, py: Python<'_>) {
        let task = lock(&self.state).task.as_ref().map(|task| task.clone_ref(py));
        if let Some(task) = task
            && let Err(error) = task.call_method0(py, "cancel")
        {
            tracing::error!("cannot cancel a task\n{}", failure::report(py, &error));
        }
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
    fn finish(&self, py: Python<'_>, exchange: Exchange) {
        let (receivers, senders) = {
            let mut state = lock(&self.state);
            state.stage = Stage::Ended;
            (std::mem::take(&mut state.receivers), std::mem::take(&mut state.senders))
        };
        self.shared.give_back(py, exchange);
        self.shared.settle(py, receivers, || disconnect(py));
        self.shared.settle(py, senders, || Ok(py.None().into_bound(py)));
    }

    /// Makes a message part of the response.
    fn say(
        &self,
        py: Python<'_>,
        exchange: &mut Exchange,
        message: &Message<'_, '_>,
        stage: Stage,
    ) -> PyResult<Said> {
        let response = exchange.response();
        match (stage, message.kind()?) {
            (Stage::Open, "http.response.start") => self.begin(py, response, message),
            (Stage::Open, "http.response.informational") => {
                let status = message.need(intern!(py, "status"))?.extract::<u16>()?;
                inform(&self.shared.status_line(status)?, message.get(intern!(py, "headers"))?, response)
            }
            (Stage::Open, "http.response.early_hint") => {
                let mut fields = Vec::new();
                if let Some(links) = message.get(intern!(py, "links"))? {
                    for link in links.try_iter()? {
                        fields.push((b"link".to_vec(), link?.extract::<Vec<u8>>()?));
                    }
                }
                inform_with(b"103 Early Hints", fields, response)
            }
            (Stage::Started, "http.response.body") => self.add(py, response, message),
            (Stage::Started, "http.response.pathsend") => send_path(py, response, message),
            (Stage::Trailers, "http.response.trailers") => {
                let mut fields = Vec::new();
                if let Some(headers) = message.get(intern!(py, "headers"))? {
                    for_each_header(&headers, |name, value| {
                        fields.push((name.to_vec(), value.to_vec()));
                        Ok(())
                    })?;
                }
                let fields = fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
                response.end_body_with(fields).map_err(refused)?;
                Ok(Said::End)
            }
            (_, kind) => Err(unexpected(stage, kind)),
        }
    }

    fn begin(&self, py: Python<'_>, response: &mut Response, message: &Message<'_, '_>) -> PyResult<Said> {
        let status = message.need(intern!(py, "status"))?.extract::<u16>()?;
        response.start(&self.shared.status_line(status)?).map_err(refused)?;
        if let Some(headers) = message.get(intern!(py, "headers"))? {
            for_each_header(&headers, |name, value| response.header(name, value).map_err(refused))?;
        }
        let trailers = message.flag(intern!(py, "trailers"))?;
        let mut state = lock(&self.state);
        state.stage = Stage::Started;
        state.trailers = trailers;
        Ok(Said::Noted)
    }

    fn add(&self, py: Python<'_>, response: &mut Response, message: &Message<'_, '_>) -> PyResult<Said> {
        let body = message.bytes(intern!(py, "body"))?;
        let more = message.flag(intern!(py, "more_body"))?;
        let trailers = lock(&self.state).trailers;
        let bytes = body.as_ref().map_or(&b""[..], |body| body.as_bytes());
        let whole = !more && !trailers && !response.head_sent();
        let added = match (whole, body.as_ref().filter(|_| bytes.len() >= WORTH_KEEPING)) {
            (true, None) => response.send(bytes),
            (true, Some(body)) => response.send_owned(Box::new(PyBackedBytes::from(body.clone()))),
            (false, None) => response.push(bytes),
            (false, Some(body)) => response.push_owned(Box::new(PyBackedBytes::from(body.clone()))),
        };
        added.map_err(refused)?;
        match (more, trailers) {
            (true, _) => Ok(Said::Piece),
            (false, true) => {
                lock(&self.state).stage = Stage::Trailers;
                Ok(Said::Piece)
            }
            (false, false) => {
                response.end_body().map_err(refused)?;
                Ok(Said::End)
            }
        }
    }

    /// What `receive` returns next: a message; nothing while the client is there and silent.
    fn next_message<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (body, gone) = {
            let mut state = lock(&self.state);
            (state.body.take(), state.stage == Stage::Ended || state.left)
        };
        let Some(mut body) = body else {
            return if gone { disconnect(py).map(Some) } else { Ok(None) };
        };
        if let Some(bytes) = body.in_memory() {
            return request(py, bytes, false).map(Some);
        }
        let most = body.remaining().and_then(|left| usize::try_from(left).ok()).unwrap_or(PIECE).min(PIECE);
        let mut piece = vec![0; most];
        match body.try_read(&mut piece) {
            Ok(count) => {
                let more = count > 0 && body.remaining() != Some(0);
                if more {
                    lock(&self.state).body = Some(body);
                }
                request(py, piece.get(..count).unwrap_or(&piece), more).map(Some)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                lock(&self.state).body = Some(body);
                Ok(None)
            }
            Err(error) => {
                tracing::debug!("A request body did not arrive: {error}");
                lock(&self.state).left = true;
                disconnect(py).map(Some)
            }
        }
    }

    /// Passes on what has come of the body to those who wait for it.
    fn pass_on(&self, py: Python<'_>) {
        loop {
            let Some(receiver) = lock(&self.state).receivers.pop() else { return };
            if !still_waits(py, &receiver) {
                continue;
            }
            match self.next_message(py) {
                Ok(None) => return lock(&self.state).receivers.push(receiver),
                Ok(Some(message)) => self.shared.settle(py, vec![receiver], || Ok(message.clone())),
                Err(error) => {
                    complain(py, &error);
                    return self.shared.settle(py, vec![receiver], || disconnect(py));
                }
            }
        }
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
        let (stage, left) = {
            let mut state = lock(&this.state);
            state.task = None;
            state.scope = None;
            (state.stage, state.left)
        };
        this.shared.forget(this.ticket);
        let (problem, result) = this.judge(py, outcome, stage, left);
        match (stage, problem) {
            (Stage::Ended, None) => {}
            (Stage::Ended, Some(report)) => {
                if result.is_ok() && !left {
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
        this.shared.one_less(py);
        result
    }
}

#[pymethods]
impl Cycle {
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

    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
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

    #[getter]
    fn cr_running(&self) -> bool {
        lock(&self.driver).is_running()
    }

    #[getter]
    fn cr_suspended(&self) -> bool {
        lock(&self.driver).is_suspended()
    }

    /// The next message from the client: the body of the request, then that the client is gone.
    fn asgi_receive<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if let Some(message) = this.next_message(py)? {
            return Ready::with(message);
        }
        let future = this.shared.future(py)?;
        lock(&this.state).receivers.push(future.clone().unbind());
        // The engine must know what is waited for; a step that is under way tells it when it ends.
        if !lock(&this.driver).stepping
            && let Some(exchange) = this.take()
        {
            this.park(py, exchange);
        }
        this.shared.wait(future)
    }

    /// Takes a part of the response.
    fn asgi_send<'py>(slf: &Bound<'py, Self>, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let message = Message::new(message)?;
        let (stage, left) = {
            let state = lock(&this.state);
            (state.stage, state.left)
        };
        if stage == Stage::Ended {
            // What is sent to a client that is gone is nobody's mistake.
            return if left { Ok(this.shared.done(py)) } else { Err(unexpected(stage, message.kind()?)) };
        }
        let Some(mut exchange) = this.take() else { return Ok(this.shared.done(py)) };
        match this.say(py, &mut exchange, &message, stage) {
            Err(error) => {
                this.put_back(py, exchange);
                Err(error)
            }
            Ok(Said::Noted) => {
                this.put_back(py, exchange);
                Ok(this.shared.done(py))
            }
            Ok(Said::End) => {
                exchange.conclude();
                this.finish(py, exchange);
                Ok(this.shared.done(py))
            }
            Ok(Said::Piece) => match exchange.flush() {
                Err(_) => {
                    lock(&this.state).left = true;
                    this.finish(py, exchange);
                    Ok(this.shared.done(py))
                }
                Ok(sent) => {
                    let wait = !sent && exchange.response().waiting() > HIGH_WATER;
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

fn request<'py>(py: Python<'py>, body: &[u8], more: bool) -> PyResult<Bound<'py, PyAny>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "http.request"))?;
    message.set_item(intern!(py, "body"), PyBytes::new(py, body))?;
    message.set_item(intern!(py, "more_body"), more)?;
    Ok(message.into_any())
}

fn disconnect(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "http.disconnect"))?;
    Ok(message.into_any())
}

fn inform(status: &[u8], headers: Option<Bound<'_, PyAny>>, response: &mut Response) -> PyResult<Said> {
    let mut fields = Vec::new();
    if let Some(headers) = headers {
        for_each_header(&headers, |name, value| {
            fields.push((name.to_vec(), value.to_vec()));
            Ok(())
        })?;
    }
    inform_with(status, fields, response)
}

fn inform_with(status: &[u8], fields: Vec<(Vec<u8>, Vec<u8>)>, response: &mut Response) -> PyResult<Said> {
    let fields = fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    let informational = Informational::new(status, fields).map_err(|error| refused(error.into()))?;
    response.inform(&informational).map_err(refused)?;
    Ok(Said::Piece)
}

/// `http.response.pathsend`: a file by its path, sent by the kernel.
fn send_path(py: Python<'_>, response: &mut Response, message: &Message<'_, '_>) -> PyResult<Said> {
    let path = message.need(intern!(py, "path"))?.extract::<std::path::PathBuf>()?;
    let file = std::fs::File::open(&path)?;
    let length = file.metadata()?.len();
    response.file(file.into(), 0, length, Box::new(())).map_err(refused)?;
    Ok(Said::End)
}

fn unexpected(stage: Stage, kind: &str) -> PyErr {
    let expected = match stage {
        Stage::Open => "'http.response.start' was expected",
        Stage::Started => "'http.response.body' was expected",
        Stage::Trailers => "'http.response.trailers' was expected",
        Stage::Ended => "the response is complete",
    };
    PyRuntimeError::new_err(format!("unexpected message {kind:?}: {expected}"))
}

/// What the application is told of a response that can't be sent as it is.
pub(super) fn refused(error: ResponseError) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}
