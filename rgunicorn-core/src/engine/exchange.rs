//! A connection lent to the application: where its code is called, wherever that is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::connection::{Connection, Phase};
use super::output::Flushed;
use super::upload::Failure;
use crate::app::{AppError, Application, Broken, Progress, Response, ResponseError};
use crate::http::Refusal;
use crate::sys::forks;

/// Something that only the application can get on with: a request to answer, a body to pull, or the remains of a
/// response whose client is gone. Taken by [`Engine::next`](super::Engine::next), advanced wherever the worker class
/// runs the application, and given back by [`Engine::give_back`](super::Engine::give_back).
#[derive(Debug)]
pub struct Exchange {
    pub(crate) key: usize,
    pub(crate) connection: Box<Connection>,
    pub(crate) outcome: Outcome,
    /// A small response may wait for others.
    pub(crate) holding: bool,
}

/// What [`Exchange::advance`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not advanced yet.
    Pending,
    /// The response is all in the kernel, or in an output that the next response will follow.
    Complete,
    /// Nothing of it was sent yet: it waits for [`Engine::send_held`](super::Engine::send_held).
    Held,
    /// The client must take something first.
    Blocked,
    /// There is more to pull.
    Yielded,
    /// The response can't be finished; the connection must be closed.
    Broken,
    /// The application goes on by itself, and takes the exchange again when it has something to say.
    Parked,
}

impl Exchange {
    /// What [`Engine::next_stirred`](super::Engine::next_stirred) calls it.
    pub fn key(&self) -> usize {
        self.key
    }

    /// Output of responses to pipelined requests is gathered up to this many bytes before it is sent.
    const GATHER: usize = 64 * 1024;

    /// Calls the application, or pulls on with the body of its response, and sends what the client takes.
    ///
    /// # Errors
    /// The exit status that the application asked for, if it did (`SystemExit`); the exchange must be given back all
    /// the same.
    pub fn advance(&mut self, application: &dyn Application) -> Result<(), i32> {
        let connection = &mut *self.connection;
        self.outcome = Outcome::Broken;
        let mut exit = Ok(());
        match connection.phase {
            Phase::Ready => {
                // The application may wait for the client, which must not wait for the answers before this one.
                if connection.has_upload() {
                    match connection.response.flush() {
                        Ok(Flushed::Everything) => {}
                        Ok(Flushed::Blocked) => {
                            self.outcome = Outcome::Blocked;
                            return exit;
                        }
                        Err(_) => return exit,
                    }
                }
                connection.phase = Phase::Responding;
                let (request, response) = connection.lend();
                let called = guard(|| application.call(request, response));
                if connection.shared {
                    connection.transport.take_back();
                }
                if let Err(error) = called.and_then(|()| response_close(&mut connection.response)) {
                    let begun = connection.response.head_sent();
                    exit = fail(connection, error);
                    // Too late for an answer, or nobody there to be answered.
                    if begun || !connection.response.head_sent() {
                        return exit;
                    }
                }
                if self.may_gather() {
                    self.outcome = Outcome::Complete;
                    return exit;
                }
                if self.may_hold() {
                    self.outcome = Outcome::Held;
                    return exit;
                }
            }
            Phase::Responding => {}
            // The client is gone: what is held of the application's is dropped here, where it runs.
            _ => {
                connection.response.abandon();
                return Ok(());
            }
        }
        exit.and(self.drive())
    }

    /// Whether, once it was given back, it will be handed out again for the same response: its body is pulled further, or
    /// has not been dropped.
    pub fn comes_again(&self) -> bool {
        matches!(self.outcome, Outcome::Blocked | Outcome::Yielded)
            && (self.connection.response.holds_application() || self.outcome == Outcome::Yielded)
    }

    /// Whether the response may wait for the next one, to be sent with it.
    pub(super) fn may_gather(&self) -> bool {
        self.connection.has_more_input()
            && self.connection.response.leaves_connection_usable()
            && self.connection.response.can_wait(Self::GATHER)
    }

    /// Has [`advance`](Self::advance) keep a small response back, for
    /// [`Engine::send_held`](super::Engine::send_held) to send it with others.
    pub fn hold(&mut self) {
        self.holding = true;
    }

    /// Whether the response may wait for others, as it was asked to.
    pub(super) fn may_hold(&self) -> bool {
        self.holding && self.connection.response.is_small(Self::GATHER)
    }

    /// Sends, and pulls what can be sent.
    pub(super) fn drive(&mut self) -> Result<(), i32> {
        let (outcome, exit) = match self.connection.response.drive() {
            Ok(Progress::Complete) => (Outcome::Complete, Ok(())),
            Ok(Progress::Blocked) => (Outcome::Blocked, Ok(())),
            Ok(Progress::Yielded) => (Outcome::Yielded, Ok(())),
            Err(Broken::Client(error)) => {
                tracing::debug!("Ignoring a client that went away: {error}");
                self.connection.response.abandon();
                (Outcome::Broken, Ok(()))
            }
            Err(Broken::Application(error)) => (Outcome::Broken, fail(&mut self.connection, error)),
        };
        self.outcome = outcome;
        exit
    }
}

/// Runs code of the application's; a panic in it is its failure, and nobody else's.
pub(crate) fn guard<T>(work: impl FnOnce() -> Result<T, AppError>) -> Result<T, AppError> {
    // What a panic may leave half done is the response, which is then given up.
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(AppError::Failed { report: format!("The application panicked: {message}") })
    });
    if forks::is_stray() {
        match &result {
            Err(AppError::Exit { code, .. }) => forks::end(Some(*code), ""),
            Err(error) => forks::end(None, &error.to_string()),
            Ok(_) => forks::end(None, ""),
        }
    }
    result
}

fn response_close(response: &mut Response) -> Result<(), AppError> {
    response.close().map_err(|error| match error {
        ResponseError::NotStarted => AppError::Failed {
            report: "The application returned without having called start_response()".to_string(),
        },
        error => error.into(),
    })
}

/// Logs what went wrong and, where nothing was sent yet, answers 500; else the response is given up.
pub(super) fn fail(connection: &mut Connection, error: AppError) -> Result<(), i32> {
    let exit = match &error {
        AppError::Exit { code, .. } => Err(*code),
        _ => Ok(()),
    };
    // An application that was told that a body can't arrive, and has no answer of its own to that, hasn't failed itself.
    match (connection.upload_failure(), &error) {
        (Some(failure), AppError::Failed { .. } | AppError::Disconnected)
            if !connection.response.head_sent() =>
        {
            if let AppError::Failed { report } = &error {
                tracing::debug!("The application could not read the request body\n{report}");
            }
            match failure {
                Failure::Gone => connection.response.abandon(),
                Failure::Refused(refusal) => {
                    tracing::warn!("Invalid request from ip={}: {refusal}", connection.peer().address());
                    connection.response.refuse(&refusal);
                }
            }
            return exit;
        }
        _ => {}
    }
    match &error {
        AppError::Disconnected => tracing::debug!("Ignoring a client that went away"),
        AppError::Failed { report } | AppError::Exit { report, .. } | AppError::TimedOut { report } => {
            let (method, target) =
                connection.head().map_or((String::new(), String::new()), |(head, bytes)| {
                    let text = |span: crate::http::Span| String::from_utf8_lossy(span.of(bytes)).into_owned();
                    (text(head.method), text(head.target))
                });
            match &error {
                AppError::TimedOut { .. } => {
                    tracing::error!("Request {method} {target} has had its request_timeout\n{report}");
                }
                _ => tracing::error!("Error handling request {method} {target}\n{report}"),
            }
        }
    }
    connection.response.fail(match error {
        AppError::TimedOut { .. } => &Refusal::gateway_timeout,
        _ => &|| Refusal::internal_error(""),
    });
    exit
}
