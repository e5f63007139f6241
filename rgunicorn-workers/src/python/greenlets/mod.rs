//! Answers requests in greenlets of gevent or eventlet, whose hub watches the engine.
//!
//! `threads.py` is for applications that the main process loads. `serve.py` is the loop; what it is given here are the engine's turns, and exchanges to be advanced. A greenlet's stack is
//! moved away while it waits, ours on it included: no reference to it is kept elsewhere, and no lock is held, while Python
//! code runs.

use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use rgunicorn_core::engine::Exchange;
use rgunicorn_core::sync::lock;
use rgunicorn_core::sys::forks;
use rgunicorn_core::worker::{BootError, Exit, WorkerError};

use super::turns::{Serving, Turns};
use super::{WsgiApplication, failure, load};
use rgunicorn_core::app::Application;

/// The library, with `serve.py`.
#[derive(Debug)]
pub(crate) struct Hub {
    library: &'static str,
    module: Py<PyModule>,
}

impl Hub {
    /// Makes the standard library cooperative. To be called before the application is imported.
    ///
    /// # Errors
    /// [`BootError::Boot`] when the library can't be had.
    pub(crate) fn patch(library: &'static str) -> Result<Self, BootError> {
        Python::attach(|py| {
            let patch = || {
                let module = load::helper(py, include_str!("serve.py"), "rgunicorn_greenlets")?;
                module.call_method1("patch", (library,))?;
                PyResult::Ok(module.unbind())
            };
            let module = patch().map_err(|error| BootError::Boot(failure::problem(py, &error)))?;
            Ok(Hub { library, module })
        })
    }

    /// Makes it cooperative in the main process, for an application that is to be loaded there.
    ///
    /// # Errors
    /// As for [`patch`](Self::patch).
    pub(crate) fn prepare(library: &'static str) -> Result<(), BootError> {
        Self::patch(library)?;
        if library != "gevent" {
            return Ok(());
        }
        Python::attach(|py| {
            let threads = load::helper(py, include_str!("threads.py"), "rgunicorn_green_threads");
            let installed = threads.and_then(|threads| threads.call_method0("install"));
            installed.map(drop).map_err(|error| BootError::Boot(failure::problem(py, &error)))
        })
    }

    /// Serves until the worker is to leave.
    ///
    /// # Errors
    /// When the hub fails.
    pub(crate) fn serve(&self, application: WsgiApplication, serving: Serving) -> Result<Exit, WorkerError> {
        Python::attach(|py| {
            let serve = || {
                let server = Bound::new(
                    py,
                    Server { turns: Turns::new(serving), application: Arc::new(application) },
                )?;
                self.module.bind(py).call_method1("serve", (self.library, &server))?;
                PyResult::Ok(server.get().turns.exit())
            };
            serve().map_err(|error| WorkerError::Failed(failure::problem(py, &error)))
        })
    }
}

/// The engine, for `serve.py`.
#[pyclass(frozen, module = "rgunicorn")]
struct Server {
    turns: Turns,
    application: Arc<WsgiApplication>,
}

#[pymethods]
impl Server {
    #[getter]
    fn descriptor(&self) -> i32 {
        self.turns.descriptor()
    }

    /// Whether this is the hub of a process that the application has forked, which may use it for itself.
    fn is_stray(&self) -> bool {
        forks::is_stray()
    }

    fn begin(&self) -> PyResult<usize> {
        Ok(self.turns.begin()?)
    }

    /// The next exchange that needs the application.
    fn next(&self) -> Option<Lent> {
        let exchange = self.turns.engine().next()?;
        let application = Arc::clone(&self.application);
        Some(Lent {
            name: exchange.key(),
            exchange: Mutex::new(Some(exchange)),
            exit: Mutex::new(None),
            application,
        })
    }

    /// Takes an exchange back; whether that leaves something to do that no event tells of.
    fn give_back(&self, lent: &Lent) -> bool {
        let exit = lock(&lent.exit).take();
        if let Some(code) = exit {
            self.turns.exit_with(code);
        }
        let exchange = lock(&lent.exchange).take();
        let mut engine = self.turns.engine();
        if let Some(exchange) = exchange {
            engine.give_back(exchange);
        }
        exit.is_some() || self.turns.needs_turn(&engine)
    }

    fn heed(&self) -> bool {
        self.turns.heed()
    }

    fn is_done(&self) -> bool {
        self.turns.is_done(0)
    }

    /// When the next turn is due: whether at once, and in how many seconds at the latest.
    fn end(&self) -> (bool, Option<f64>) {
        let next = self.turns.end();
        (next.at_once, next.alarm.map(|alarm| alarm.as_secs_f64()))
    }

    fn ring(&self) {
        self.turns.ring();
    }

    fn beat(&self) {
        self.turns.beat();
    }

    #[getter]
    fn beat_interval(&self) -> f64 {
        self.turns.beat_interval()
    }
}

/// An exchange in a greenlet.
#[pyclass(frozen, module = "rgunicorn")]
struct Lent {
    /// Tells it from others that are lent out or waited for at the same time.
    #[pyo3(get)]
    name: usize,
    exchange: Mutex<Option<Exchange>>,
    /// What the application wants its worker to exit with.
    exit: Mutex<Option<i32>>,
    application: Arc<WsgiApplication>,
}

#[pymethods]
impl Lent {
    /// Calls the application, or pulls on with its response; whether that was all for it.
    fn advance(&self) -> bool {
        // Taken out, as another greenlet must not find it locked.
        let taken = lock(&self.exchange).take();
        let Some(mut exchange) = taken else { return true };
        if let Err(code) = exchange.advance(&*self.application as &dyn Application) {
            *lock(&self.exit) = Some(code);
        }
        let done = !exchange.comes_again();
        *lock(&self.exchange) = Some(exchange);
        done
    }
}
