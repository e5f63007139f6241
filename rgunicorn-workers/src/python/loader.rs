//! Makes the application in each worker, or once in the arbiter with `--preload`.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pyo3::prelude::*;
use rgunicorn_core::app::{Application, Loader};
use rgunicorn_core::config::{Config, ConfigError, current_directory};
use rgunicorn_core::hooks::{HookError, Hooks};
use rgunicorn_core::socket::Listener;
use rgunicorn_core::sync::lock;
use rgunicorn_core::sys::signals;
use rgunicorn_core::worker::{BootError, WorkerContext};

use super::debugging::{Spew, reload};
use super::environment::{Environment, EnvironmentError};
use super::interpreter::{self, Startup};
use super::server_hooks::{RequestHooks, ServerHooks};
use super::wsgi::{WsgiApplication, WsgiSettings};
use super::{ending, error_log, failure, load, package, protocol, report, signals as python_signals};

/// Loads WSGI applications; the [`Loader`], and the arbiter's [`Hooks`]. One value, shared by its clones, is to be both,
/// so that what the arbiter has preloaded is what the workers serve.
#[derive(Debug, Clone)]
pub struct WsgiLoader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Where the server was started. Modules are found there also where `chdir` leads elsewhere, as gunicorn does it.
    home: PathBuf,
    /// Found once, by the arbiter, so that no worker has to ask a launcher script again.
    environment: OnceLock<Option<Environment>>,
    preloaded: std::sync::Mutex<Option<Py<PyAny>>>,
    /// What a worker has found and not served yet.
    found: std::sync::Mutex<Option<Py<PyAny>>>,
    /// Made when there is a hook for the first time.
    hooks: OnceLock<ServerHooks>,
    /// In a worker with `spew`.
    spew: OnceLock<Arc<Spew>>,
}

impl WsgiLoader {
    /// A loader for the application that the configuration names. To be made before the process changes its directory.
    #[expect(clippy::new_without_default, reason = "it depends on where it is called")]
    pub fn new() -> Self {
        let (environment, preloaded, found, hooks, spew) = Default::default();
        WsgiLoader {
            shared: Arc::new(Shared {
                home: current_directory(),
                environment,
                preloaded,
                found,
                hooks,
                spew,
            }),
        }
    }

    fn environment(&self) -> Option<&Environment> {
        self.shared.environment.get_or_init(Environment::find).as_ref()
    }

    /// Starts the interpreter, if need be.
    pub(crate) fn start(&self, config: &Config) -> Result<(), BootError> {
        // Where it is relative, the process is in it by now.
        let directory = match config.chdir.is_absolute() {
            true => config.chdir.clone(),
            false => std::env::current_dir().unwrap_or_default(),
        };
        let mut path = vec![self.shared.home.clone(), directory];
        path.extend(config.pythonpath.iter().cloned());
        let startup = Startup { argv: std::env::args_os().collect(), path };
        interpreter::start(self.environment(), &startup).map_err(|error| BootError::Boot(error.to_string()))
    }

    /// Starts the interpreter, if need be, and imports the application.
    fn import(&self, config: &Config) -> Result<Py<PyAny>, BootError> {
        self.start(config)?;
        if let Some(paste) = &config.paste {
            let conf = &config.raw_paste_global_conf;
            return Ok(Python::attach(|py| load::load_paste(py, paste, conf))?);
        }
        let Some(name) = config.wsgi_app.as_deref() else {
            return Err(BootError::Load(
                "no application was named: APP_MODULE, or the setting wsgi_app".into(),
            ));
        };
        Ok(Python::attach(|py| load::load(py, name))?)
    }

    fn preloaded(&self) -> std::sync::MutexGuard<'_, Option<Py<PyAny>>> {
        lock(&self.shared.preloaded)
    }
}

impl WsgiLoader {
    /// Does something with the hooks, if there are any.
    fn each_hook(&self, work: impl FnOnce(&ServerHooks)) {
        if let Some(hooks) = self.hooks() {
            work(hooks);
        }
    }

    /// The object that the configuration names, whatever protocol it speaks.
    ///
    /// # Errors
    /// [`BootError::Load`] when it can't be had, [`BootError::Boot`] for anything else.
    pub(crate) fn load_object(&self, config: &Config) -> Result<Py<PyAny>, BootError> {
        let application = self.find(config)?;
        if let Some(hooks) = self.hooks() {
            hooks.loaded(&application);
        }
        if self.hooks().is_none() && config.accesslog.is_some() {
            Python::attach(package::warn_of_access_filters);
        }
        Ok(application)
    }

    /// Looks at what was loaded before there are workers, if anything was.
    ///
    /// # Errors
    /// As `look`.
    pub(crate) fn with_preloaded(
        &self,
        look: impl FnOnce(&Bound<'_, PyAny>) -> Result<(), BootError>,
    ) -> Result<(), BootError> {
        if self.preloaded().is_none() {
            return Ok(());
        }
        Python::attach(|py| {
            let application = self.preloaded().as_ref().map(|application| application.bind(py).clone());
            application.map_or(Ok(()), |application| look(&application))
        })
    }

    /// Gives back what was found, to be loaded by the class that is to serve it.
    pub(crate) fn keep_object(&self, application: Py<PyAny>) {
        *lock(&self.shared.found) = Some(application);
    }

    /// The object, before anybody is told of it.
    ///
    /// # Errors
    /// As for [`load_object`](Self::load_object).
    pub(crate) fn find(&self, config: &Config) -> Result<Py<PyAny>, BootError> {
        if let Some(application) = lock(&self.shared.found).take() {
            return Ok(application);
        }
        let preloaded = self.preloaded().take();
        self.start(config)?;
        // Before the import, which may be what hangs.
        Python::attach(|py| {
            let descriptor = error_log::report_descriptor();
            interpreter::dump_on_abort(py, descriptor)
                .and_then(|()| report::install(py, descriptor))
                .and_then(|()| self.take_worker_signals(py))
                .map_err(|error| BootError::Boot(failure::report(py, &error)))
        })?;
        if let Some(application) = preloaded {
            return Ok(application);
        }
        if config.spew {
            self.spew()?;
        }
        let import = || self.import(config);
        let application = match config.reload {
            true => reload::load_watched(config, import)?,
            false => import()?,
        };
        // Libraries may have set handlers behind Python's back.
        signals::take_back_all(true)
            .map_err(|error| BootError::Boot(format!("cannot keep signals: {error}")))?;
        Ok(application)
    }
}

impl WsgiLoader {
    /// The application, called by WSGI.
    ///
    /// # Errors
    /// As for [`load_object`](Self::load_object).
    pub(crate) fn load_wsgi(&self, context: &WorkerContext) -> Result<WsgiApplication, BootError> {
        let application = self.load_object(&context.config)?;
        Python::attach(|py| {
            protocol::refuse_asgi(application.bind(py), &context.config.worker_class)?;
            WsgiApplication::new(py, application, WsgiSettings::from(&*context.config))
                .and_then(|application| Ok(application.with_hooks(self.request_hooks(py)?)))
                .map(|application| application.with_spew(self.shared.spew.get().cloned()))
                .map_err(|error| BootError::Boot(failure::report(py, &error)))
        })
    }

    /// Ends the interpreter. What we have of its objects goes first: they would not end with it.
    fn end(&self, limit: Duration, status: i32) {
        ending::end(limit, status, || {
            drop(self.preloaded().take());
            self.each_hook(ServerHooks::end);
        });
    }

    fn take_worker_signals(&self, py: Python<'_>) -> PyResult<()> {
        match self.hooks() {
            Some(hooks) => {
                let (tell, told) = hooks.signalled(py)?;
                python_signals::of_worker(py, &tell, &told)
            }
            None => python_signals::of_worker(py, &py.None().into_bound(py), &[]),
        }
    }

    /// Starts to print what Python executes.
    fn spew(&self) -> Result<(), BootError> {
        Python::attach(|py| {
            let started = Spew::start(py);
            let spew = started.map_err(|error| BootError::Boot(failure::report(py, &error)))?;
            let _ = self.shared.spew.set(Arc::new(spew));
            Ok(())
        })
    }

    fn hooks(&self) -> Option<&ServerHooks> {
        self.shared.hooks.get()
    }

    /// The function that is this hook, by the setting's name, where the configuration has it.
    ///
    /// # Errors
    /// An exception of Python's own.
    pub fn hook<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.hooks().map_or(Ok(None), |hooks| hooks.function(py, name))
    }

    /// The logger that the logs go through, where the settings ask for one.
    ///
    /// # Errors
    /// An exception of Python's own.
    pub(crate) fn host_log<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.hooks().map_or(Ok(None), |hooks| hooks.host_log(py))
    }

    /// Has the hooks be given this object as the worker, in a worker process, in place of ours.
    pub fn set_worker(&self, worker: &Bound<'_, PyAny>) {
        self.each_hook(|hooks| hooks.set_worker(worker));
    }

    /// The hooks around each request, in a worker; none if there are none.
    ///
    /// # Errors
    /// An exception of Python's own.
    pub(crate) fn request_hooks(&self, py: Python<'_>) -> PyResult<Option<RequestHooks>> {
        self.hooks().map_or(Ok(None), |hooks| hooks.requests(py))
    }
}

impl Loader for WsgiLoader {
    fn load(&self, context: &WorkerContext) -> Result<Box<dyn Application>, BootError> {
        Ok(Box::new(self.load_wsgi(context)?))
    }

    /// Finds the environment, for all workers to come, and refuses one of another version.
    fn check(&self, _config: &Config) -> Result<(), ConfigError> {
        let variable = |error: EnvironmentError| {
            let variable = if error.activated { "VIRTUAL_ENV" } else { "PATH" };
            ConfigError::setting(variable, error.to_string())
        };
        interpreter::check(self.environment()).map_err(variable)
    }

    fn suits(&self, config: &Config) -> Result<(), BootError> {
        self.with_preloaded(|application| protocol::refuse_asgi(application, &config.worker_class))
    }
}

impl Hooks for WsgiLoader {
    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        if config.has_host_logger() && config.access_log_json {
            let why = "the lines of the access log are made by the logger of logger_class or logconfig*, whose \
                       formatter says what they look like";
            return Err(ConfigError::setting("access_log_json", why));
        }
        Loader::check(self, config)
    }

    fn preload(&self, config: &Config) -> Result<(), BootError> {
        let application = self.import(config);
        // The arbiter waits most of the time: threads that the application has started may run then.
        interpreter::release();
        *self.preloaded() = Some(application?);
        Ok(())
    }

    fn adopt(&self, config: &Config) -> Result<(), HookError> {
        if self.hooks().is_none() && !ServerHooks::are_wanted(config) {
            return Ok(());
        }
        let failed = |report: String| HookError { report, exit: None };
        self.start(config).map_err(|error| failed(error.to_string()))?;
        let adopted = Python::attach(|py| {
            let hooks = match self.hooks() {
                Some(hooks) => hooks,
                None => {
                    let made = ServerHooks::new(py).map_err(|error| failed(failure::report(py, &error)))?;
                    self.shared.hooks.get_or_init(|| made)
                }
            };
            hooks.adopt(py, config, &self.shared.home)
        });
        // The arbiter waits most of the time: threads that the file has started may run then.
        interpreter::release();
        adopted
    }

    fn keep(&self) {
        self.each_hook(ServerHooks::keep);
    }

    fn restore(&self) {
        self.each_hook(ServerHooks::restore);
    }

    fn nworkers_changed(&self, new: usize, old: Option<usize>) {
        self.each_hook(|hooks| hooks.nworkers_changed(new, old));
    }

    fn on_starting(&self) -> Result<(), HookError> {
        self.hooks().map_or(Ok(()), |hooks| hooks.with_server("on_starting"))
    }

    fn take_signals(&self) {
        if interpreter::is_running() {
            Python::attach(|py| {
                if let Err(error) = python_signals::of_arbiter(py) {
                    tracing::error!("Cannot take the signals\n{}", failure::report(py, &error));
                }
            });
        }
    }

    fn heed_signals(&self) {
        if interpreter::is_running() {
            python_signals::heed();
        }
    }

    fn when_ready(&self, listeners: &[&Listener]) -> Result<(), HookError> {
        self.hooks().map_or(Ok(()), |hooks| hooks.when_ready(listeners))
    }

    fn on_reload(&self) -> Result<(), HookError> {
        self.hooks().map_or(Ok(()), |hooks| hooks.with_server("on_reload"))
    }

    fn pre_fork(&self, age: u64) -> Result<(), HookError> {
        self.hooks().map_or(Ok(()), |hooks| hooks.pre_fork(age))
    }

    fn post_fork(&self, listeners: &[Listener]) -> Result<(), BootError> {
        let Some(hooks) = self.hooks() else { return Ok(()) };
        hooks.post_fork(listeners)?;
        // For hooks that are to be told also while the worker boots.
        Python::attach(|py| {
            let taken = self.take_worker_signals(py);
            taken.map_err(|error| BootError::Boot(failure::report(py, &error)))
        })
    }

    fn post_worker_init(&self) -> Result<(), BootError> {
        self.hooks().map_or(Ok(()), ServerHooks::post_worker_init)
    }

    fn worker_int(&self) {
        self.each_hook(ServerHooks::worker_int);
    }

    fn worker_exit(&self) {
        // Handlers that had no occasion yet.
        self.heed_signals();
        self.each_hook(ServerHooks::worker_exit);
    }

    fn child_exit(&self, worker: i32) {
        self.each_hook(|hooks| hooks.child_exit(worker));
    }

    fn pre_exec(&self) {
        self.each_hook(|hooks| hooks.tell_with_server("pre_exec"));
    }

    fn on_exit(&self) {
        self.each_hook(|hooks| hooks.tell_with_server("on_exit"));
    }

    fn before_fork(&self) {
        interpreter::before_fork();
    }

    fn after_fork_in_arbiter(&self, worker: Option<i32>) {
        interpreter::after_fork_in_parent();
        if let Some(hooks) = self.hooks() {
            hooks.forked(worker);
        }
    }

    fn after_fork_in_worker(&self) {
        interpreter::after_fork_in_child();
    }

    fn before_arbiter_exit(&self, limit: Duration, status: i32) {
        self.each_hook(ServerHooks::flush_log);
        if interpreter::is_running() {
            signals::ignore_reports();
            Python::attach(|py| {
                // Without it there are no tracebacks should this hang.
                let _ = interpreter::dump_to(py, error_log::report_descriptor());
            });
        }
        self.end(limit, status);
    }

    fn before_exit(&self, limit: Duration, status: i32) {
        self.end(limit, status);
    }
}
