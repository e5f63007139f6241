//! The server hooks of configuration files: Python functions, called in the arbiter and in the workers.
//!
//! As in gunicorn, they live in the arbiter, where the configuration file is executed once more to have its functions, and
//! workers have them by being forked from it. So what a file keeps in its globals, or puts on `server` or `worker`, is
//! there for the next hook. Without hooks, the arbiter has no Python in it.
//!
//! `objects.py` is what the functions are called with; [`requests`] calls those around each request.

mod requests;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use rgunicorn_core::config::{Config, PythonLocation, SETTINGS, Value, python_location};
use rgunicorn_core::hooks::{self, HookError};
use rgunicorn_core::socket::Listener;
use rgunicorn_core::worker::BootError;
use std::os::fd::AsRawFd;

pub(crate) use requests::{Asked, RequestHooks};

use super::package::with_callables;
use super::{config_file, failure, interpreter, load};

/// The hooks that count, and the objects that they are called with.
#[derive(Debug)]
pub(crate) struct ServerHooks {
    module: Py<PyModule>,
    server: Py<PyAny>,
    /// What [`restore`](Self::restore) goes back to.
    before: Mutex<Option<Py<PyAny>>>,
}

impl ServerHooks {
    /// None yet. To be called once the interpreter runs.
    ///
    /// # Errors
    /// An exception of Python's own.
    pub(crate) fn new(py: Python<'_>) -> PyResult<Self> {
        let module = load::helper(py, include_str!("objects.py"), "rgunicorn_hooks")?;
        module.add_function(wrap_pyfunction!(write, &module)?)?;
        let server = module.getattr("Server")?.call0()?.unbind();
        Ok(ServerHooks { module: module.unbind(), server, before: Mutex::default() })
    }

    /// Has the hooks of this configuration count, whose file was found from `directory`.
    pub(crate) fn adopt(&self, py: Python<'_>, config: &Config, directory: &Path) -> Result<(), HookError> {
        let adopt = || {
            let names = PyDict::new(py);
            for (name, called) in hooks::named(config) {
                names.set_item(name, called)?;
            }
            let location = python_location(config, directory).filter(|_| !names.is_empty());
            let space = match &location {
                Some(location) => execute(py, location)?,
                None => PyDict::new(py).into_any(),
            };
            let settings = PyList::empty(py);
            for setting in SETTINGS {
                settings.append((setting.name, object(py, &setting.get(config))?, setting.section))?;
            }
            self.server.bind(py).call_method1("_adopt", (settings, space, names))
        };
        let before = adopt().map_err(|error| hook_error(py, &error))?;
        *lock(&self.before) = Some(before.unbind());
        Ok(())
    }

    pub(crate) fn keep(&self) {
        *lock(&self.before) = None;
    }

    pub(crate) fn restore(&self) {
        let before = lock(&self.before).take();
        if let Some(before) = before {
            self.tell("_restore", |_| Ok((before,)));
        }
    }

    /// Calls a method of the server's that may fail.
    fn call<'py, A>(&self, py: Python<'py>, method: &str, arguments: A) -> PyResult<Bound<'py, PyAny>>
    where
        A: pyo3::call::PyCallArgs<'py>,
    {
        self.server.bind(py).call_method1(method, arguments)
    }

    /// Calls a method whose failure goes to the log.
    fn tell<A>(&self, method: &str, arguments: impl FnOnce(Python<'_>) -> PyResult<A>)
    where
        A: for<'py> pyo3::call::PyCallArgs<'py>,
    {
        Python::attach(|py| {
            let called = arguments(py).and_then(|arguments| self.call(py, method, arguments).map(drop));
            if let Err(error) = called {
                tracing::error!("Error in a server hook\n{}", failure::report(py, &error));
            }
        });
    }

    pub(crate) fn nworkers_changed(&self, new: usize, old: Option<usize>) {
        self.tell("_resized", |_| Ok((new, old)));
    }

    /// Calls the hook of this name, which is given the server.
    pub(crate) fn with_server(&self, hook: &str) -> Result<(), HookError> {
        Python::attach(|py| {
            self.call(py, "_call", (hook, &self.server)).map(drop).map_err(|error| hook_error(py, &error))
        })
    }

    /// As [`with_server`](Self::with_server), where a failure changes nothing.
    pub(crate) fn tell_with_server(&self, hook: &str) {
        self.tell("_guarded", |py| Ok((hook.to_string(), self.server.clone_ref(py))));
    }

    pub(crate) fn when_ready(&self, listeners: &[&Listener]) -> Result<(), HookError> {
        Python::attach(|py| {
            self.call(py, "_ready", (shown(listeners.iter().copied()),))
                .map(drop)
                .map_err(|error| hook_error(py, &error))
        })
    }

    pub(crate) fn pre_fork(&self, age: u64) -> Result<(), HookError> {
        Python::attach(|py| {
            self.call(py, "_before_fork", (age,)).map(drop).map_err(|error| hook_error(py, &error))
        })
    }

    pub(crate) fn forked(&self, worker: Option<i32>) {
        self.tell("_forked", |_| Ok((worker,)));
    }

    pub(crate) fn post_fork(&self, listeners: &[Listener]) -> Result<(), BootError> {
        Python::attach(|py| {
            let boot = |error: PyErr| BootError::Boot(problem(py, &error));
            self.call(py, "_born", (shown(listeners.iter()),)).map(drop).map_err(boot)?;
            let signals: Vec<i32> =
                self.call(py, "_heeds", ()).and_then(|numbers| numbers.extract()).map_err(boot)?;
            let heed = self.server.bind(py).getattr("_signalled").map_err(boot)?;
            interpreter::tell_of_signals(&heed, &signals).map_err(boot)
        })
    }

    /// The worker has this application.
    pub(crate) fn loaded(&self, application: &Py<PyAny>) {
        self.tell("_loaded", |py| Ok((application.clone_ref(py),)));
    }

    pub(crate) fn post_worker_init(&self) -> Result<(), BootError> {
        Python::attach(|py| {
            self.call(py, "_booted", ()).map(drop).map_err(|error| BootError::Boot(problem(py, &error)))
        })
    }

    pub(crate) fn worker_int(&self) {
        Python::attach(|py| {
            if self.call(py, "_heeds", ()).and_then(|heeds| heeds.is_truthy()).unwrap_or(false) {
                self.tell("_told_to_leave", |_| Ok(()));
            }
        });
    }

    pub(crate) fn worker_exit(&self) {
        self.tell("_leaving", |_| Ok(()));
    }

    pub(crate) fn child_exit(&self, worker: i32) {
        self.tell("_reaped", |_| Ok((worker,)));
    }

    /// The function that is this hook.
    ///
    /// # Errors
    /// An exception of Python's own.
    pub(crate) fn function<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let found = self.server.bind(py).getattr("_hooks")?.call_method1("get", (name,))?;
        Ok((!found.is_none()).then_some(found))
    }

    /// Has the hooks be given this object as the worker.
    pub(crate) fn set_worker(&self, worker: &Bound<'_, PyAny>) {
        if let Err(error) = self.server.bind(worker.py()).setattr("_worker", worker) {
            tracing::error!("Error in a server hook\n{}", failure::report(worker.py(), &error));
        }
    }

    /// The hooks around each request of this worker; none if there are none.
    ///
    /// # Errors
    /// An exception of Python's own.
    pub(crate) fn requests(&self, py: Python<'_>) -> PyResult<Option<RequestHooks>> {
        RequestHooks::of(self.module.bind(py), self.server.bind(py))
    }
}

/// Executes the configuration file; what it has set, by name.
fn execute<'py>(py: Python<'py>, location: &PythonLocation) -> PyResult<Bound<'py, PyAny>> {
    let helper = config_file::helper(py)?;
    match location {
        PythonLocation::File(path) => helper.call_method1("execute", (path.as_os_str(),)),
        PythonLocation::Module(name) => helper.call_method1("reimported", (name,)),
        PythonLocation::Program(path) => helper.call_method1("programmed", (path.as_os_str(),)),
    }
}

/// Listeners, for `Listener` in `objects.py`.
fn shown<'a>(listeners: impl Iterator<Item = &'a Listener>) -> Vec<(String, i32)> {
    listeners.map(|listener| (listener.to_string(), listener.as_raw_fd())).collect()
}

/// A setting's value, as gunicorn's `cfg` has it; hooks are not in it.
fn object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    with_callables(py, value, |_| py.None().into_bound(py))
}

/// Writes to the error log.
#[pyfunction]
fn write(level: &str, text: &str) {
    match level {
        "debug" => tracing::debug!("{text}"),
        "info" => tracing::info!("{text}"),
        "warning" => tracing::warn!("{text}"),
        "critical" => rgunicorn_core::critical!("{text}"),
        _ => tracing::error!("{text}"),
    }
}

fn hook_error(py: Python<'_>, error: &PyErr) -> HookError {
    let halt = error.value(py).getattr("exit_status").and_then(|status| status.extract());
    let exit = match error.is_instance_of::<PySystemExit>(py) {
        true => failure::exit_status(py, error),
        false => halt.ok(),
    };
    HookError { report: problem(py, error), exit }
}

fn problem(py: Python<'_>, error: &PyErr) -> String {
    match error.value(py).getattr("reason") {
        Ok(reason) if !error.is_instance_of::<pyo3::exceptions::PyException>(py) => reason.to_string(),
        _ => failure::problem(py, error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
