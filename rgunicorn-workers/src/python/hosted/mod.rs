//! Worker classes written in Python, with gunicorn's interface.
//!
//! `host.py` makes and runs the worker; what it is given here is the way to say that it is alive, and the application.
//! Signals are the worker's own, by Python's `signal`, from the moment that it runs.

use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rgunicorn_core::config::{Config, SETTINGS};
use rgunicorn_core::scoreboard::Slot;
use rgunicorn_core::sync::lock;
use rgunicorn_core::worker::{BootError, Control, Exit, WorkerContext, WorkerError};

use super::{WsgiLoader, failure, load, package};

/// The Python class that `name` is for `-k`, if it is one.
pub(crate) fn class_path(name: &str) -> Option<&str> {
    match name.strip_prefix("python:") {
        Some(path) => Some(path),
        None if name.contains('.') || name.starts_with("egg:") => Some(name),
        None => None,
    }
}

/// A worker that a Python class made.
#[derive(Debug)]
pub(crate) struct Hosted {
    helper: Py<PyModule>,
    worker: Py<PyAny>,
    server: Py<Server>,
}

/// Does what the class wants done to the process before the application is imported.
///
/// # Errors
/// [`BootError::Boot`] when there is no such class, or it fails.
pub(crate) fn prepare(path: &str) -> Result<(), BootError> {
    Python::attach(|py| {
        let prepared = helper(py).and_then(|helper| helper.call_method1("prepare", (path,)));
        prepared.map(drop).map_err(|error| BootError::Boot(failure::problem(py, &error)))
    })
}

fn helper(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    load::helper(py, include_str!("host.py"), "rgunicorn_host")
}

impl Hosted {
    /// Makes the worker; the application is loaded when it runs.
    ///
    /// # Errors
    /// [`BootError::Boot`] when there is no such class, or it can't be made.
    pub(crate) fn boot(loader: WsgiLoader, path: &str, context: WorkerContext) -> Result<Self, BootError> {
        let WorkerContext { config, listeners, control, slot, age, .. } = context;
        rgunicorn_core::sys::signals::let_go();
        rgunicorn_core::log::open_access_lines(&config)
            .map_err(|error| BootError::Boot(error.to_string()))?;
        Python::attach(|py| {
            let make = || {
                let helper = helper(py)?;
                let descriptors = listeners
                    .iter()
                    .map(|listener| Ok(std::os::fd::AsFd::as_fd(listener).try_clone_to_owned()?))
                    .collect::<PyResult<Vec<OwnedFd>>>()?;
                let descriptors: Vec<_> = descriptors.into_iter().map(IntoRawFd::into_raw_fd).collect();
                let state = State { control: Some(control), booted: false, failed: None };
                let server = Bound::new(
                    py,
                    Server { loader, slot, config: Arc::clone(&config), state: Mutex::new(state) },
                )?;
                let parent = std::os::unix::process::parent_id();
                // gunicorn counts from 1.
                let arguments = (&server, path, descriptors, age + 1, parent);
                let worker = helper.call_method1("make", arguments)?;
                server.get().loader.set_worker(&worker);
                PyResult::Ok(Hosted {
                    helper: helper.unbind(),
                    worker: worker.unbind(),
                    server: server.unbind(),
                })
            };
            make().map_err(|error| BootError::Boot(failure::problem(py, &error)))
        })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// [`WorkerError::Boot`] where that is before it was ready to serve.
    pub(crate) fn run(&self) -> Result<Exit, WorkerError> {
        Python::attach(|py| {
            let server = self.server.bind(py);
            let Err(error) = self.helper.bind(py).call_method1("run", (&self.worker, server)) else {
                return Ok(Exit::Stopped);
            };
            let (booted, failed) = server.get().outcome();
            if let Some(status) = failure::exit_status(py, &error) {
                return Ok(if status == 0 { Exit::Stopped } else { Exit::Application(status) });
            }
            Err(match failed {
                // The exception is the one that said so, or one about it.
                Some(failed) if !booted => WorkerError::Boot(failed),
                _ if !booted => WorkerError::Boot(BootError::Boot(failure::problem(py, &error))),
                _ => WorkerError::Failed(failure::problem(py, &error)),
            })
        })
    }
}

/// The server, for `host.py`.
#[pyclass(frozen, module = "rgunicorn")]
struct Server {
    loader: WsgiLoader,
    slot: Slot,
    config: Arc<Config>,
    state: Mutex<State>,
}

struct State {
    /// Until the worker has handlers of its own for signals.
    control: Option<Control>,
    /// Whether it was ready to serve.
    booted: bool,
    /// Why the application could not be loaded.
    failed: Option<BootError>,
}

impl Server {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whether the worker was ready to serve, and what became of the application.
    fn outcome(&self) -> (bool, Option<BootError>) {
        let mut state = self.state();
        (state.booted, state.failed.take())
    }
}

#[pymethods]
impl Server {
    /// The settings, as gunicorn's object.
    fn settings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        package::config(py, &self.config)
    }

    /// The hooks that the configuration has: name and function.
    fn hooks<'py>(&self, py: Python<'py>) -> PyResult<Vec<(&'static str, Bound<'py, PyAny>)>> {
        let mut hooks = Vec::new();
        for setting in SETTINGS.iter().filter(|setting| setting.is_hook()) {
            if let Some(function) = self.loader.hook(py, setting.name)? {
                hooks.push((setting.name, function));
            }
        }
        Ok(hooks)
    }

    /// The logger that the logs go through, where the settings ask for one.
    fn log<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.loader.host_log(py)
    }

    /// The application.
    fn load(&self) -> PyResult<Py<PyAny>> {
        self.loader.load_object(&self.config).map_err(|error| {
            let text = error.to_string();
            self.state().failed = Some(error);
            PyRuntimeError::new_err(text)
        })
    }

    /// The worker begins to run.
    fn runs(&self) -> PyResult<()> {
        let control = self.state().control.take();
        if let Some(control) = control {
            control.hand_over()?;
        }
        if self.config.timeout.is_zero() {
            // Nobody asks it to give signs of life, so it may give none.
            self.beat();
        }
        Ok(())
    }

    /// The worker is alive. The first time that it says so while it runs, it is ready to serve.
    fn beat(&self) {
        self.slot.notify();
        let mut state = self.state();
        if state.control.is_none() && !state.booted {
            state.booted = true;
            self.slot.booted();
        }
    }

    fn reopen_logs(&self) {
        rgunicorn_core::log::reopen_files();
    }
}
