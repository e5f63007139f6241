//! Calls a WSGI application (PEP 3333) for each request.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`environ`] | the dictionary that describes the request; [`keys`] its constant keys, [`header_names`] the others |
//! | [`input`] | `wsgi.input` |
//! | [`interned`] | constant strings |
//! | [`errors`] | `wsgi.errors` |
//! | [`exchange`] | `start_response()` and `write()`, and what they may do when |
//! | [`body`] | what the application returned: bytes, a file, or an iterable to be pulled |
//! | [`upgrade`] | `gunicorn.socket`, for other protocols |
//! | [`file_wrapper`] | `wsgi.file_wrapper` |
//! | [`forks`] | processes that applications fork in a request |
//! | [`context`] | each request's own context variables |
//! | [`switching`] | CPython's switch interval where many threads wait for its lock |
//! | [`threads`] | threads as `threading` would have started them |
//! | [`latin1`] | between bytes and the strings of PEP 3333 |
//!
//! A request goes through [`WsgiApplication::call`] from top to bottom.

mod body;
mod context;
mod environ;
mod errors;
mod exchange;
mod file_wrapper;
pub(super) mod forks;
mod header_names;
mod input;
pub(super) mod interned;
mod keys;
mod latin1;
mod switching;
pub(super) mod threads;
mod upgrade;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rgunicorn_core::app::{AppError, Application, Request, Response};
use rgunicorn_core::config::Config;

pub(super) use self::environ::percent_decoded;
pub(super) use self::latin1::decode as latin1;

use self::body::Answer;
use self::context::Context;
use self::environ::EnvironBuilder;
use self::errors::Errors;
use self::exchange::{Exchange, Outlet};
use self::file_wrapper::FileWrapper;
use self::input::Input;
use self::switching::Switching;
use self::threads::StackSize;
use super::debugging::Spew;
use super::ending::{Held, stay_if_ending};
use super::failure;
use super::server_hooks::{Asked, RequestHooks};

/// What of the configuration shows in WSGI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WsgiSettings {
    /// `wsgi.multithread`: whether a worker may call the application again while a call is under way.
    pub multithread: bool,
    /// `wsgi.multiprocess`: whether there are several workers.
    pub multiprocess: bool,
    /// Whether the kernel may send files (gunicorn: `sendfile`).
    pub sendfile: bool,
    /// Whether the application may have the sockets of clients that ask for another protocol: where it has a thread or a
    /// coroutine for that.
    pub upgrades: bool,
}

impl From<&Config> for WsgiSettings {
    fn from(config: &Config) -> Self {
        let (multithread, upgrades) = match config.worker_class.as_str() {
            "coro" => (true, true),
            "gevent" | "eventlet" => (true, false),
            "threads" | "gthread" | "gunicorn.workers.gthread.ThreadWorker" => (config.threads > 1, true),
            // With several threads it is the class `threads`.
            "sync" | "gunicorn.workers.sync.SyncWorker" => (config.threads > 1, config.threads > 1),
            _ => (false, false),
        };
        WsgiSettings { multithread, multiprocess: config.workers > 1, sendfile: config.sendfile, upgrades }
    }
}

/// A WSGI application, as the engine calls it.
#[derive(Debug)]
pub struct WsgiApplication {
    application: Held,
    environ: EnvironBuilder,
    sendfile: bool,
    /// Names of environ variables that the access log shows.
    variables: Vec<String>,
    hooks: Option<RequestHooks>,
    spew: Option<Arc<Spew>>,
    switching: Switching,
    stack_size: StackSize,
}

impl WsgiApplication {
    /// Serves a callable.
    ///
    /// # Errors
    /// A Python exception, such as `MemoryError`.
    pub fn new(py: Python<'_>, application: Py<PyAny>, settings: WsgiSettings) -> PyResult<Self> {
        let environ = EnvironBuilder::new(py, settings)?;
        Ok(WsgiApplication {
            application: Held::new(application.into_bound(py))?,
            environ,
            sendfile: settings.sendfile,
            variables: Vec::new(),
            hooks: None,
            spew: None,
            switching: Switching::new(),
            stack_size: StackSize::default(),
        })
    }

    /// Has these called around each request.
    pub(super) fn with_hooks(self, hooks: Option<RequestHooks>) -> Self {
        WsgiApplication { hooks, ..self }
    }

    /// Has this print what is executed, in whatever thread that is.
    pub(super) fn with_spew(self, spew: Option<Arc<Spew>>) -> Self {
        WsgiApplication { spew, ..self }
    }

    fn answer(
        &self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        outlet: &mut dyn Outlet,
    ) -> Result<Answer, AppError> {
        let context = Context::copy_current(py).map_err(|error| failure::app_error(py, &error))?;
        let exchange = Exchange::new(py).map_err(|error| failure::app_error(py, &error))?;
        let answer = Exchange::lend(&exchange, outlet, || {
            let start_response = exchange.getattr(interned::intern!(py, "start_response"))?;
            let early_hints = exchange.getattr(interned::intern!(py, "early_hints"))?;
            environ.set_item(interned::intern!(py, "wsgi.early_hints"), early_hints)?;
            let returned =
                context.run(py, || self.application.get(py)?.call1((environ, start_response)))??;
            body::prepare(&exchange, context, returned, self.sendfile)
        });
        answer.or_else(|error| match exchange.get().is_disconnected() {
            true => Err(AppError::Disconnected),
            false if upgrade::says_answered(environ, &error) => Ok(Answer::Elsewhere),
            false => Err(failure::app_error(py, &error)),
        })
    }

    /// The rest of [`call`](Application::call), with hooks to be told.
    #[cold]
    fn call_hooked(
        &self,
        py: Python<'_>,
        environ: Bound<'_, PyDict>,
        response: &mut Response,
        mut asked: Asked,
    ) -> Result<(), AppError> {
        asked.with_environ(&environ).map_err(|error| failure::app_error(py, &error))?;
        let answer = self.answer(py, &environ, response);
        if !self.variables.is_empty() {
            self.tell_variables(&environ, response);
        }
        drop(environ);
        answer?.give_hooked(py, response, asked)
    }

    fn tell_variables(&self, environ: &Bound<'_, PyDict>, response: &mut Response) {
        for (index, name) in self.variables.iter().enumerate() {
            // The access log doesn't mind the case of the name, as in gunicorn.
            let spellings = [name.clone(), name.to_ascii_uppercase(), name.to_ascii_lowercase()];
            let found = spellings.iter().find_map(|name| environ.get_item(name).ok().flatten());
            if let Some(value) = found {
                response.set_variable(index, value.to_string());
            }
        }
    }
}

impl Application for WsgiApplication {
    fn call(&self, mut request: Request<'_>, response: &mut Response) -> Result<(), AppError> {
        Python::attach(|py| {
            if let Some(spew) = &self.spew {
                spew.trace_this_thread(py);
            }
            let asked = match &self.hooks {
                Some(hooks) => {
                    Some(hooks.begin(py, &request).map_err(|error| failure::app_error(py, &error))?)
                }
                None => None,
            };
            let environ = self.environ.build(py, &mut request)?;
            if let Some(asked) = asked {
                return self.call_hooked(py, environ, response, asked);
            }
            let answer = self.answer(py, &environ, response);
            if !self.variables.is_empty() {
                self.tell_variables(&environ, response);
            }
            drop(environ);
            answer?.give(py, response)
        })
    }

    /// Lets go of the GIL, then runs the handlers of signals that have come in: Python runs them in the main thread,
    /// between two of its instructions, of which there may be none for a while.
    fn while_idle(&self, wait: &mut dyn FnMut()) -> Result<(), AppError> {
        Python::attach(|py| {
            let wait = SameThread(wait);
            py.detach(move || wait.run());
            py.check_signals().map_err(|error| failure::app_error(py, &error))
        })
    }

    fn attach(&self, work: &mut dyn FnMut()) {
        stay_if_ending();
        Python::attach(|py| {
            self.stack_size.look(py);
            work();
        });
    }

    fn stack_size(&self) -> Option<usize> {
        self.stack_size.get()
    }

    /// The outermost attachment makes the thread's state and keeps it, and with it `threading.local`, for the thread's
    /// whole life.
    fn live(&self, life: &mut dyn FnMut()) {
        stay_if_ending();
        Python::attach(|py| {
            if let Err(error) = threads::begin(py) {
                tracing::warn!("Cannot begin a thread as Python does\n{}", failure::report(py, &error));
            }
            let life = SameThread(life);
            py.detach(move || life.run());
        });
    }

    fn crowd(&self, threads: usize) {
        Python::attach(|py| {
            if let Err(error) = self.switching.suit(py, threads) {
                tracing::warn!(
                    "Cannot suit the switch interval to the threads\n{}",
                    failure::report(py, &error)
                );
            }
        });
    }

    fn want_variables(&mut self, names: &[String]) {
        self.variables = names.to_vec();
    }
}

/// Has pyo3 make what it makes when it is first needed while requests are answered: the types of our objects, of the exception
/// that stands for a panic, and of what an argument of the wrong type is told by. It does so under a lock, which not every
/// class can wait for.
///
/// # Errors
/// A Python exception, such as `MemoryError`.
pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    py.get_type::<PanicException>();
    py.get_type::<Exchange>();
    py.get_type::<Input>();
    py.get_type::<FileWrapper>();
    threads::prepare(py)?;
    // Not a text: it is told so.
    let told = Bound::new(py, Errors::default())?.call_method1("write", (0,));
    debug_assert!(told.is_err());
    Ok(())
}

/// Something that [`Python::detach`] would not take, as it might run it elsewhere.
struct SameThread<'a>(&'a mut dyn FnMut());

// SAFETY: `detach` asks for `Send` to keep Python's objects out; it calls the closure in the thread that calls it. What
// waits belongs to the engine and holds no Python object that is used without the GIL.
unsafe impl Send for SameThread<'_> {}

impl SameThread<'_> {
    fn run(self) {
        (self.0)();
    }
}
