//! From a Python object to an application that has been started up, and its end.

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use rgunicorn_core::app::Application;
use rgunicorn_core::config::Config;
use rgunicorn_core::scoreboard::Slot;
use rgunicorn_core::worker::{BootError, Exit, WorkerError};

use super::server::Server;
use crate::python::server_hooks::RequestHooks;
use crate::python::turns::Serving;
use crate::python::wsgi::{WsgiApplication, WsgiSettings};
use crate::python::{failure, load, protocol};

/// An event loop that doesn't run yet.
#[derive(Debug)]
pub(crate) struct EventLoop {
    /// `serve.py`.
    module: Py<PyModule>,
    runner: Py<PyAny>,
}

impl EventLoop {
    /// Makes it the thread's own, before the application is imported: what is made of asyncio's meanwhile is this loop's.
    ///
    /// # Errors
    /// [`BootError::Boot`] when it can't be had.
    pub(crate) fn make(config: &Config) -> Result<Self, BootError> {
        Python::attach(|py| {
            let make = || {
                let module = load::helper(py, include_str!("serve.py"), "rgunicorn_asgi")?;
                module.add_function(wrap_pyfunction!(info, &module)?)?;
                module.add_function(wrap_pyfunction!(error, &module)?)?;
                let runner = module.call_method1("make_runner", (&config.asgi_loop,))?.unbind();
                Ok(EventLoop { module: module.unbind(), runner })
            };
            make().map_err(|error: PyErr| BootError::Boot(failure::problem(py, &error)))
        })
    }
}

/// An application that has been started up, with its event loop.
#[derive(Debug)]
pub(crate) struct AsgiApplication {
    application: Py<PyAny>,
    /// An application of WSGI in its place, until it is served.
    wsgi: Option<WsgiApplication>,
    /// `serve.py`.
    module: Py<PyModule>,
    runner: Py<PyAny>,
    lifespan: Py<PyAny>,
    /// The lifespan's state.
    state: Py<PyDict>,
    beat: Py<PyAny>,
    /// Names of variables that the access log asks for.
    log_variables: Vec<String>,
    hooks: Option<RequestHooks>,
}

/// What an application is, before it is one of ASGI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of ASGI 3 or 2.
    Asgi,
    /// One of tornado's, or of WSGI.
    Tornado,
}

/// Imports what the loop is made of: with `--preload` the arbiter does, as a worker's user may not be allowed to read it.
///
/// # Errors
/// [`BootError::Boot`] when it isn't there.
pub(crate) fn prepare(kind: Kind) -> Result<(), BootError> {
    let sources: &[&str] = match kind {
        Kind::Tornado => &[include_str!("serve.py"), include_str!("tornado.py")],
        Kind::Asgi => &[include_str!("serve.py")],
    };
    Python::attach(|py| {
        let import = |source| load::helper(py, source, "rgunicorn_asgi")?.call_method0("prepare");
        sources
            .iter()
            .try_for_each(|source| import(source).map(drop))
            .map_err(|error| BootError::Boot(failure::problem(py, &error)))
    })
}

/// Whether an application is one of ASGI, as far as that can be seen.
///
/// # Errors
/// [`BootError::Boot`], which says what it is.
pub(crate) fn suits(application: &Bound<'_, PyAny>) -> Result<(), BootError> {
    let py = application.py();
    load::helper(py, include_str!("serve.py"), "rgunicorn_asgi")
        .and_then(|module| module.call_method1("adapt", (application,)))
        .map(drop)
        .map_err(|error| BootError::Boot(failure::problem(py, &error)))
}

/// How often the heart beats, in seconds, while the application starts up or shuts down.
const BEAT: f64 = 1.0;

impl AsgiApplication {
    /// Runs the application's start-up in the event loop.
    ///
    /// # Errors
    /// [`BootError::Boot`] when the application says that it can't start.
    pub(crate) fn boot(
        event_loop: EventLoop,
        application: &Py<PyAny>,
        kind: Kind,
        config: &Config,
        slot: Slot,
        hooks: impl FnOnce(Python<'_>) -> PyResult<Option<RequestHooks>>,
    ) -> Result<Self, BootError> {
        Python::attach(|py| {
            let boot = |error: PyErr| BootError::Boot(failure::problem(py, &error));
            let module = event_loop.module.into_bound(py);
            let runner =
                module.call_method1("settle", (event_loop.runner, &config.asgi_loop)).map_err(boot)?;
            let (adapter, lifespan) = match kind {
                Kind::Asgi => (module.clone(), config.asgi_lifespan.as_str()),
                Kind::Tornado => {
                    (load::helper(py, include_str!("tornado.py"), "rgunicorn_tornado").map_err(boot)?, "off")
                }
            };
            let hooks = hooks(py).map_err(boot)?;
            let mut wsgi = None;
            let adapted = match kind {
                Kind::Asgi => adapter.call_method1("adapt", (application,)),
                Kind::Tornado => {
                    let websockets =
                        PyCFunction::new_closure(py, None, None, |arguments: &Bound<'_, PyTuple>, _| {
                            let source = include_str!("tornado_websocket.py");
                            load::helper(arguments.py(), source, "rgunicorn_tornado_websocket")
                                .map(Bound::unbind)
                        });
                    websockets.and_then(|websockets| adapter.call_method1("adapt", (application, websockets)))
                }
            };
            let adapted = adapted.map_err(boot)?;
            if adapted.is_none() {
                protocol::refuse_asgi(application.bind(py), &config.worker_class)?;
                let settings = WsgiSettings::from(config);
                let made = WsgiApplication::new(py, application.clone_ref(py), settings);
                wsgi = Some(made.map_err(boot)?.with_hooks(hooks.clone()));
            }
            let state = PyDict::new(py);
            let beat =
                PyCFunction::new_closure(py, None, None, move |_: &Bound<'_, PyTuple>, _| slot.notify())
                    .map_err(boot)?;
            let arguments = (&runner, &adapted, lifespan, &state, &beat, BEAT);
            let lifespan = module.call_method1("boot", arguments).map_err(boot)?;
            Ok(AsgiApplication {
                application: adapted.unbind(),
                wsgi,
                hooks,
                module: module.unbind(),
                runner: runner.unbind(),
                lifespan: lifespan.unbind(),
                state: state.unbind(),
                beat: beat.into_any().unbind(),
                log_variables: Vec::new(),
            })
        })
    }

    /// Whether the application is one of WSGI, and called when its body is all there.
    pub(crate) fn is_wsgi(&self) -> bool {
        self.wsgi.is_some()
    }

    /// Names of variables that the access log asks for.
    pub(crate) fn want_variables(&mut self, names: &[String]) {
        match &mut self.wsgi {
            Some(wsgi) => wsgi.want_variables(names),
            None => self.log_variables = names.iter().map(|name| name.to_ascii_lowercase()).collect(),
        }
    }

    /// Serves until the worker is to leave.
    ///
    /// # Errors
    /// When the event loop fails.
    pub(crate) fn serve(&mut self, serving: Serving) -> Result<Exit, WorkerError> {
        let (wsgi, variables) = (self.wsgi.take(), std::mem::take(&mut self.log_variables));
        Python::attach(|py| {
            let serve = || {
                let (application, state) = (self.application.clone_ref(py), self.state.clone_ref(py));
                let server =
                    Server::new(py, application, wsgi, state, serving, variables, self.hooks.clone())?;
                let server = Bound::new(py, server)?;
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

/// Writes to the error log, at level info.
#[pyfunction]
fn info(text: &str) {
    tracing::info!("{text}");
}

/// Writes to the error log.
#[pyfunction]
fn error(text: &str) {
    tracing::error!("{text}");
}
