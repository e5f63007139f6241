//! The trait [`Application`]: a request in, a response out.
//!
//! Rust hosts implement it directly; the Python bridge implements it for WSGI. Worker classes decide where it is
//! called; the engine supplies the request and takes the response. An application may be called from several threads
//! or coroutines at once if the worker class says so.
//!
//! ```
//! use rgunicorn_core::app::{AppError, Application, Request, Response};
//!
//! struct Hello;
//!
//! impl Application for Hello {
//!     fn call(&self, request: Request<'_>, response: &mut Response) -> Result<(), AppError> {
//!         response.start(b"200 OK")?;
//!         response.header(b"Content-Type", b"text/plain")?;
//!         response.send(format!("hello, {}\n", request.peer().address()).as_bytes())?;
//!         Ok(())
//!     }
//! }
//! ```

mod allowance;
mod body;
mod peer;
mod request;
mod response;
mod scratch;
mod spool;

use std::sync::Arc;

use thiserror::Error;

pub use allowance::Allowance;
pub(crate) use allowance::{Admission, Charge, Streaming};
pub use body::Body;
pub use peer::{Peer, ServerAddress};
pub use request::Request;
pub(crate) use request::SharedSocket;
pub use response::{BodyStream, Flow, OwnedBytes, Response, ResponseError, Sink};
pub(crate) use response::{Broken, Progress};
pub use scratch::Scratch;
pub use spool::{Spool, SpoolLimits};

use crate::worker::{BootError, WorkerContext};

/// Answers requests.
pub trait Application: Send + Sync {
    /// Answers one request: [starts](Response::start) the response and gives it a body, or fails.
    ///
    /// # Errors
    /// An [`AppError`]; the client gets a 500 if nothing was sent yet, and an aborted connection otherwise.
    fn call(&self, request: Request<'_>, response: &mut Response) -> Result<(), AppError>;

    /// Runs `wait`, which may block for long: the place to let go of a lock (such as Python's GIL) that is otherwise
    /// held from one request to the next. Called by classes that run the application in the thread that waits.
    ///
    /// # Errors
    /// [`AppError::Exit`] if the application wants its worker to end.
    fn while_idle(&self, wait: &mut dyn FnMut()) -> Result<(), AppError> {
        wait();
        Ok(())
    }

    /// Runs `work`, in which the application is called many times: the place to take such a lock once for all of them.
    /// Called by classes that run the application in threads of their own.
    fn attach(&self, work: &mut dyn FnMut()) {
        work();
    }

    /// Runs the whole life of a thread that calls the application, without its lock: the place to make what such a thread
    /// needs (such as Python's state of a thread) once.
    fn live(&self, life: &mut dyn FnMut()) {
        life();
    }

    /// How much stack, in bytes, the next thread that is started for it is to have; none for what the system gives. As of the last
    /// [`attach`](Self::attach).
    fn stack_size(&self) -> Option<usize> {
        None
    }

    /// Tells how many threads are in the application at a time, roughly, whenever that has changed much: the place to suit to
    /// it how they share such a lock. Called within [`attach`](Self::attach).
    fn crowd(&self, threads: usize) {
        let _ = threads;
    }

    /// Names of variables of the application's that the access log asks for (`%({name}e)`), told once at boot. An
    /// application that has such variables calls [`Response::set_variable`].
    fn want_variables(&mut self, names: &[String]) {
        let _ = names;
    }
}

/// Why an application did not answer.
#[derive(Debug, Error)]
pub enum AppError {
    /// It failed; the report (a traceback, say) goes to the error log, never to the client.
    #[error("{report}")]
    Failed {
        /// What is logged behind "Error handling request ...".
        report: String,
    },
    /// It asks for its worker to end (`SystemExit`, `KeyboardInterrupt`); the request fails as with `Failed`.
    #[error("{report}")]
    Exit {
        /// The exit status asked for.
        code: i32,
        /// What is logged.
        report: String,
    },
    /// It took longer than it may; the client gets a 504 if nothing was sent yet.
    #[error("{report}")]
    TimedOut {
        /// What is logged: where it was.
        report: String,
    },
    /// The client went away; nothing is wrong with the application.
    #[error("the client disconnected")]
    Disconnected,
}

impl From<ResponseError> for AppError {
    fn from(error: ResponseError) -> Self {
        match error {
            ResponseError::Disconnected => AppError::Disconnected,
            error => AppError::Failed { report: error.to_string() },
        }
    }
}

/// Makes the application, in the worker, after the fork (or before it, with `--preload`).
pub trait Loader: Send + Sync {
    /// Makes the application. Called once in each worker.
    ///
    /// # Errors
    /// [`BootError::Load`] when it can't be had, [`BootError::Boot`] for anything else.
    fn load(&self, context: &WorkerContext) -> Result<Box<dyn Application>, BootError>;

    /// Whether this loader can make what the configuration asks for, before anything is forked.
    ///
    /// # Errors
    /// A [`ConfigError`](crate::config::ConfigError) naming the setting.
    fn check(&self, config: &crate::config::Config) -> Result<(), crate::config::ConfigError> {
        let _ = config;
        Ok(())
    }

    /// Whether the application that was just loaded in this process, before there are workers, can be called.
    ///
    /// # Errors
    /// A [`BootError`] that says what it is, and what runs it.
    fn suits(&self, config: &crate::config::Config) -> Result<(), BootError> {
        let _ = config;
        Ok(())
    }
}

impl<F> Loader for F
where
    F: Fn(&WorkerContext) -> Result<Box<dyn Application>, BootError> + Send + Sync,
{
    fn load(&self, context: &WorkerContext) -> Result<Box<dyn Application>, BootError> {
        self(context)
    }
}

/// A [`Loader`] shared between worker classes.
pub type SharedLoader = Arc<dyn Loader>;
