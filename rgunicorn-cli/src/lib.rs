//! The `rgunicorn` command, and the builder for commands with worker classes of one's own.
//!
//! ```no_run
//! # use std::process::ExitCode;
//! # fn my_class() -> std::sync::Arc<dyn rgunicorn_core::worker::WorkerClass> { unimplemented!() }
//! fn main() -> ExitCode {
//!     rgunicorn_cli::Cli::new().worker_class(my_class()).run()
//! }
//! ```
//!
//! A program that links the Python bridge needs to find libpython at run time: give it a build script that calls
//! `pyo3_build_config::add_libpython_rpath_link_args()`, as this crate's does.
#![warn(missing_docs)]

mod ctl;
mod registry;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use registry::Registry;
use rgunicorn_core::app::SharedLoader;
use rgunicorn_core::arbiter::Arbiter;
use rgunicorn_core::config::{self, Config, ConfigError, Loaded, NoPython, Outcome, PythonConfig, Sources};
use rgunicorn_core::hooks::{Hooks, NoHooks};
use rgunicorn_core::worker::WorkerClass;

/// A command line that picks a worker class by `-k` and runs an arbiter.
pub struct Cli {
    registry: Registry,
    loader: SharedLoader,
    hooks: Arc<dyn Hooks>,
    python: Arc<dyn PythonConfig + Send + Sync>,
    needs_application: bool,
    /// What becomes of the class where none was asked for.
    unasked: Option<Unasked>,
}

type Unasked = Box<dyn Fn(Arc<dyn WorkerClass>) -> Arc<dyn WorkerClass>>;

impl Cli {
    /// The command for Python applications: all built-in classes.
    #[cfg(feature = "python")]
    #[expect(clippy::new_without_default, reason = "there is nothing default about a whole server")]
    pub fn new() -> Self {
        use rgunicorn_workers::python::{PythonFiles, WsgiLoader};
        use rgunicorn_workers::{Fitting, PythonClass};
        let loader = WsgiLoader::new();
        let mut cli = Self::for_application(Arc::new(loader.clone()));
        for class in rgunicorn_workers::python_classes(&loader) {
            cli = cli.worker_class(class);
        }
        let for_others = loader.clone();
        cli.registry.find_by(Box::new(move |name| PythonClass::named(name, &for_others)));
        let for_unasked = loader.clone();
        cli.unasked = Some(Box::new(move |class| Arc::new(Fitting::new(class, &for_unasked))));
        cli.hooks = Arc::new(loader);
        cli.python = Arc::new(PythonFiles);
        cli.needs_application = true;
        cli
    }

    /// The command for a Rust application: all built-in classes, each for what `loader` makes. No Python.
    pub fn for_application(loader: SharedLoader) -> Self {
        Cli {
            registry: Registry::new(rgunicorn_workers::classes(&loader)),
            loader,
            hooks: Arc::new(NoHooks),
            python: Arc::new(NoPython),
            needs_application: false,
            unasked: None,
        }
    }

    /// What makes the application in each worker: for worker classes of one's own.
    pub fn loader(&self) -> SharedLoader {
        Arc::clone(&self.loader)
    }

    /// Adds a worker class; one of a name that is known already takes its place.
    pub fn worker_class(mut self, class: Arc<dyn WorkerClass>) -> Self {
        self.registry.add(class);
        self
    }

    /// Runs the command with the arguments and the environment of this process, to its end.
    pub fn run(self) -> ExitCode {
        let mut arguments = std::env::args_os().skip(1);
        if arguments.next().is_some_and(|first| first == "ctl") {
            return ExitCode::from(u8::try_from(ctl::run(arguments)).unwrap_or(1));
        }
        match self.try_run() {
            Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)),
            Err(error) => {
                // With standard error gone, the exit status is all there is to say it.
                let _ = std::io::stderr().write_all(config::report(&error).as_bytes());
                ExitCode::from(u8::try_from(error.exit_status()).unwrap_or(1))
            }
        }
    }

    fn try_run(self) -> Result<i32, ConfigError> {
        let sources = Sources::from_process();
        let loaded = match config::load(&sources, &*self.python)? {
            Outcome::Show(text) => {
                print(&text);
                return Ok(0);
            }
            Outcome::Loaded(loaded) => *loaded,
        };
        let (config, class) = self.check(loaded, |warning| {
            // With standard error gone, or full, it goes unsaid.
            let _ = writeln!(std::io::stderr(), "Warning: {warning}");
        })?;
        if config.print_config {
            print(&format!("{}\n", config::print(&config)));
        }
        let only_check = config.print_config || config.check_config;
        let hooks = Arc::clone(&self.hooks);
        let reload = move || match config::load(&sources, &*self.python)? {
            Outcome::Loaded(loaded) => self.check(*loaded, |warning| tracing::warn!("{warning}")),
            Outcome::Show(_) => {
                Err(ConfigError::Usage("--help or --version where settings are read again".into()))
            }
        };
        let arbiter = Arbiter::new(config, class, hooks, Box::new(reload));
        Ok(if only_check { check(&arbiter) } else { arbiter.run() })
    }

    /// Picks the class, and asks everybody whether they can do what is asked for.
    fn check(
        &self,
        loaded: Loaded,
        warn: impl Fn(&str),
    ) -> Result<(Config, Arc<dyn WorkerClass>), ConfigError> {
        loaded.warnings.iter().for_each(|warning| warn(warning));
        let config = loaded.config;
        if self.needs_application {
            config.application()?;
        }
        let mut class = self.registry.pick(&config)?;
        if let Some(unasked) = &self.unasked
            && !loaded.origins.contains_key("worker_class")
        {
            class = unasked(class);
        }
        class.check(&config)?;
        if !config.request_timeout.is_zero() && !class.ends_requests() {
            let why = format!("class {} can't end a request; class coro can", class.name());
            return Err(ConfigError::setting("request_timeout", why));
        }
        self.hooks.check(&config)?;
        Ok((config, class))
    }
}

/// Loads the application to see whether it can be, as `--check-config` asks for: gunicorn's exit status, 1 if not.
fn check(arbiter: &Arbiter) -> i32 {
    match arbiter.check() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("\nError while loading the application:\n\n{error}");
            1
        }
    }
}

impl std::fmt::Debug for Cli {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cli").field("registry", &self.registry).finish_non_exhaustive()
    }
}

fn print(text: &str) {
    // Whoever closed standard output doesn't want to read it.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
