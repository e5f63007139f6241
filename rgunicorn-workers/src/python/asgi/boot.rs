//! From a Python object to an application that has been started up, and its end.

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use rgunicorn_core::config::Config;
use rgunicorn_core::scoreboard::Slot;
use rgunicorn_core::worker::{BootError, Exit, WorkerError};

use super::server::Server;
use crate::python::turns::Serving;
use crate::python::{failure, load};

/// An application that has been started up, with its event loop.
#[derive(Debug)]
pub(crate) struct AsgiApplication {
    application: Py<PyAny>,
    /// `serve.py`.
    module: Py<PyModule>,
    runner: Py<PyAny>,
    lifespan: Py<PyAny>,
    /// The lifespan's state.
    state: Py<PyDict>,
    beat: Py<PyAny>,
}

/// What an application is, before it is one of ASGI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of ASGI 3 or 2.
    Asgi,
    /// One of tornado's, or of WSGI.
    Tornado,
}

/// How often the heart beats, in seconds, while the application starts up or shuts down.
const BEAT: f64 = 1.0;

impl AsgiApplication {
    /// Makes the event loop, and runs the application's start-up in it.
    ///
    /// # Errors
    /// [`BootError::Boot`] when a loop can't be had, [`BootError::Load`] when the application says that it can't start.
    pub(crate) fn boot(
        application: &Py<PyAny>,
        kind: Kind,
        config: &Config,
        slot: Slot,
    ) -> Result<Self, BootError> {
        Python::attach(|py| {
            let boot = |error: PyErr| BootError::Boot(failure::problem(py, &error));
            let module = load::helper(py, include_str!("serve.py"), "rgunicorn_asgi").map_err(boot)?;
            module.add_function(wrap_pyfunction!(debug, &module).map_err(boot)?).map_err(boot)?;
            module.add_function(wrap_pyfunction!(error, &module).map_err(boot)?).map_err(boot)?;
            let runner = module.call_method1("make_runner", (&config.asgi_loop,)).map_err(boot)?;
            let (adapter, lifespan) = match kind {
                Kind::Asgi => (module.clone(), config.asgi_lifespan.as_str()),
                Kind::Tornado => {
                    (load::helper(py, include_str!("tornado.py"), "rgunicorn_tornado").map_err(boot)?, "off")
                }
            };
            let application = adapter.call_method1("adapt", (application,)).map_err(boot)?;
            let state = PyDict::new(py);
            let beat =
                PyCFunction::new_closure(py, None, None, move |_: &Bound<'_, PyTuple>, _| slot.notify())
                    .map_err(boot)?;
            let arguments = (&runner, &application, lifespan, &state, &beat, BEAT);
            let lifespan = module.call_method1("boot", arguments).map_err(boot)?;
            Ok(AsgiApplication {
                application: application.unbind(),
                module: module.unbind(),
                runner: runner.unbind(),
                lifespan: lifespan.unbind(),
                state: state.unbind(),
                beat: beat.into_any().unbind(),
            })
        })
    }

    /// Serves until the worker is to leave.
    ///
    /// # Errors
    /// When the event loop fails.
    pub(crate) fn serve(&self, serving: Serving) -> Result<Exit, WorkerError> {
        Python::attach(|py| {
            let serve = || {
                let (application, state) = (self.application.clone_ref(py), self.state.clone_ref(py));
                let server = Bound::new(py, Server::new(py, application, state, serving)?)?;
                let served = self.module.bind(py).call_method1("serve", (&self.runner, &server));
                let ended = self.end(py);
                served.and(ended).map(|()| server.get().exit())
            };
            serve().map_err(|error| WorkerError::Failed(failure::problem(py, &error)))
        })
    }

    fn end(&self, py: Python<'_>) -> PyResult<()> {
        let arguments = (&self.runner, &self.lifespan, &self.beat, BEAT);
        self.module.bind(py).call_method1("end", arguments).map(drop)
    }
}

/// Writes to the error log, at level debug.
#[pyfunction]
fn debug(text: &str) {
    tracing::debug!("{text}");
}

/// Writes to the error log.
#[pyfunction]
fn error(text: &str) {
    tracing::error!("{text}");
}
