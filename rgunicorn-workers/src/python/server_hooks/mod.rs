//! The server hooks of configuration files: Python functions, called in the arbiter and in the workers.
//!
//! As in gunicorn, they live in the arbiter, where the configuration file is executed once more to have its functions, and
//! workers have them by being forked from it. So what a file keeps in its globals, or puts on `server` or `worker`, is
//! there for the next hook. Without hooks, the arbiter has no Python in it.
//!
//! `objects.py` is what the functions are called with; [`requests`] calls those around each request. `server.log` is also
//! the [logger](super::logger) that the logs go through, where the settings ask for one; and a file whose own class is the
//! `worker_class` or `logger_class` is executed here as for hooks.

mod requests;

use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rgunicorn_core::config::{Config, PythonLocation, python_location};
use rgunicorn_core::hooks::{self, HookError};
use rgunicorn_core::log::{self, host};
use rgunicorn_core::socket::Listener;
use rgunicorn_core::sync::lock;
use rgunicorn_core::worker::BootError;

pub(crate) use requests::{Asked, RequestHooks};

use super::ending::empty_at_the_end;
use super::logger::{PythonLogger, raised};
use super::{config_file, failure, load, package};

/// The hooks that count, and the objects that they are called with.
#[derive(Debug)]
pub(crate) struct ServerHooks {
    /// `requests.py`.
    requests: Py<PyModule>,
    server: Py<PyAny>,
    /// The server's `log`, where the logs go through it.
    logger: Mutex<Option<PythonLogger>>,
    /// Whether this worker's access lines are made in Python.
    logs_access: AtomicBool,
    /// What [`restore`](Self::restore) goes back to.
    before: Mutex<Option<Before>>,
}

#[derive(Debug)]
struct Before {
    server: Py<PyAny>,
    logger: Option<PythonLogger>,
}

impl ServerHooks {
    /// None yet. To be called once the interpreter runs.
    ///
    /// # Errors
    /// An exception of Python's own.
    pub(crate) fn new(py: Python<'_>) -> PyResult<Self> {
        let module = load::helper(py, include_str!("objects.py"), "rgunicorn_hooks")?;
        let server = module.getattr("Server")?.call0()?.unbind();
        empty_at_the_end(&server.bind(py).getattr("__dict__")?);
        let requests = requests::helper(py)?.unbind();
        Ok(ServerHooks {
            requests,
            server,
            logger: Mutex::default(),
            logs_access: AtomicBool::new(false),
            before: Mutex::default(),
        })
    }

    /// Whether there is anything to [adopt](Self::adopt) in this configuration.
    pub(crate) fn are_wanted(config: &Config) -> bool {
        hooks::named(config).next().is_some() || config.has_host_logger() || is_of_file(&config.worker_class)
    }

    /// Has the hooks of this configuration count, whose file was found from `directory`.
    pub(crate) fn adopt(&self, py: Python<'_>, config: &Config, directory: &Path) -> Result<(), HookError> {
        let adopt = || {
            let names = PyDict::new(py);
            for (name, called) in hooks::named(config) {
                names.set_item(name, called)?;
            }
            let location = python_location(config, directory)
                .filter(|_| !names.is_empty() || needs_objects(config) || is_of_file(&config.worker_class));
            let space = match &location {
                Some(location) => {
                    let executed = execute(py, location);
                    failure::end_stray(py, executed.as_ref().err());
                    executed?
                }
                None => PyDict::new(py).into_any(),
            };
            let cfg = package::own_config(py, config)?;
            let server = self.server.bind(py);
            let before = server.call_method1("_adopt", (cfg, space, names))?;
            let logger = match config.has_host_logger() {
                true => {
                    let unseen = self.requests.bind(py).getattr("log_unseen")?;
                    Some(PythonLogger::new(&server.getattr("log")?, &unseen)?)
                }
                false => None,
            };
            PyResult::Ok((before.unbind(), logger))
        };
        let opened = log::open_access_lines(config);
        opened.map_err(|error| HookError { report: error.to_string(), exit: None })?;
        let (server, logger) = adopt().map_err(|error| hook_error(py, &error))?;
        let logger = std::mem::replace(&mut *lock(&self.logger), logger);
        *lock(&self.before) = Some(Before { server, logger });
        self.appoint_logger();
        Ok(())
    }

    pub(crate) fn keep(&self) {
        *lock(&self.before) = None;
    }

    pub(crate) fn restore(&self) {
        let before = lock(&self.before).take();
        if let Some(Before { server, logger }) = before {
            self.tell("_restore", |_| Ok((server,)));
            *lock(&self.logger) = logger;
        }
        self.appoint_logger();
    }

    /// Has the logs go where they should.
    fn appoint_logger(&self) {
        let logger = lock(&self.logger).clone();
        raised::want(logger.is_some());
        if let Some(logger) = &logger {
            logger.set_level();
        }
        host::set_host(logger.map(|logger| Arc::new(logger) as Arc<dyn host::HostLogger>));
    }

    /// Has the logger, if the logs go through one, write what its handlers hold back.
    pub(crate) fn flush_log(&self) {
        if let Some(logger) = &*lock(&self.logger) {
            logger.end();
        }
    }

    /// The logger that the logs go through, if they do.
    pub(crate) fn host_log<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let hosts = lock(&self.logger).is_some();
        hosts.then(|| self.server.bind(py).getattr("log")).transpose()
    }

    /// Calls a method of the server's that may fail.
    fn call<'py, A>(&self, py: Python<'py>, method: &str, arguments: A) -> PyResult<Bound<'py, PyAny>>
    where
        A: pyo3::call::PyCallArgs<'py>,
    {
        let called = self.server.bind(py).call_method1(method, arguments);
        failure::end_stray(py, called.as_ref().err());
        called
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
            self.call(py, "_born", (shown(listeners.iter()),)).map(drop).map_err(boot)
        })
    }

    /// What is to be told of signals, and of which.
    ///
    /// # Errors
    /// An exception of Python's own.
    pub(crate) fn signalled<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Vec<i32>)> {
        let heeds = self.call(py, "_heeds", ())?.extract()?;
        Ok((self.server.bind(py).getattr("_signalled")?, heeds))
    }

    /// The worker has this application.
    pub(crate) fn loaded(&self, application: &Py<PyAny>) {
        self.tell("_loaded", |py| Ok((application.clone_ref(py),)));
    }

    pub(crate) fn post_worker_init(&self) -> Result<(), BootError> {
        Python::attach(|py| {
            self.call(py, "_booted", ()).map(drop).map_err(|error| BootError::Boot(problem(py, &error)))?;
            let accesslog = self.server.bind(py).getattr("cfg").and_then(|cfg| cfg.getattr("accesslog"));
            if accesslog.is_ok_and(|accesslog| !accesslog.is_none()) && !self.logs_access.load(Relaxed) {
                package::warn_of_access_filters(py);
            }
            Ok::<(), BootError>(())
        })?;
        if let Some(logger) = &*lock(&self.logger) {
            logger.begin_serving();
        }
        Ok(())
    }

    pub(crate) fn worker_int(&self) {
        Python::attach(|py| {
            if self.call(py, "_heeds", ()).and_then(|heeds| heeds.is_truthy()).unwrap_or(false) {
                self.tell("_told_to_leave", |_| Ok(()));
            }
        });
    }

    pub(crate) fn worker_exit(&self) {
        if let Some(logger) = &*lock(&self.logger) {
            logger.end_serving();
        }
        self.tell("_leaving", |_| Ok(()));
    }

    /// Lets go of the logger, and of settings from before.
    pub(crate) fn end(&self) {
        *lock(&self.logger) = None;
        *lock(&self.before) = None;
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
        let logs = lock(&self.logger).is_some();
        let hooks = RequestHooks::of(self.requests.bind(py), self.server.bind(py), logs)?;
        self.logs_access.store(hooks.as_ref().is_some_and(RequestHooks::log_access), Relaxed);
        Ok(hooks)
    }
}

/// Whether this is a class of the configuration file itself, which has no other place to be found in.
fn is_of_file(class: &str) -> bool {
    class.starts_with("__config__.") || class.starts_with("__main__.")
}

/// Whether the logger is made of objects that only the file itself has.
fn needs_objects(config: &Config) -> bool {
    config.has_host_logger() && (is_of_file(&config.logger_class) || !config.logconfig_dict.is_empty())
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
