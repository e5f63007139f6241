//! From the settings to a running arbiter.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use thiserror::Error;

use super::desk::Desk;
use super::generation::{Generation, unlink_all_but};
use super::pidfile::{Pidfile, PidfileError};
use super::workers::Workers;
use super::{Arbiter, Master, daemon};
use crate::config::{self, Config, ConfigError};
use crate::hooks::{HookError, Hooks};
use crate::log::{self, LogError};
use crate::scoreboard::Scoreboard;
use crate::socket::{BindError, Listener};
use crate::sys::environment::{self, Overlay};
use crate::sys::limits;
use crate::sys::processes::OutOfMemory;
use crate::sys::signals::{Signal, SignalPipe};
use crate::sys::title;
use crate::worker::{BootError, Lifeline};
use crate::{SERVER_SOFTWARE, VERSION};

/// Why an arbiter did not start, or a reload did not happen.
#[derive(Debug, Error)]
pub(super) enum StartError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("chdir {path:?}: {source}")]
    Chdir { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Log(#[from] LogError),
    #[error("{0}")]
    Pidfile(#[from] PidfileError),
    #[error("{0}")]
    Bind(#[from] BindError),
    #[error("preload_app: {0}")]
    Preload(BootError),
    #[error("{0}")]
    Hook(#[from] HookError),
    #[error("Can't go into the background: {0}")]
    Daemon(io::Error),
    #[error("Can't start: {0}")]
    System(#[from] io::Error),
}

impl StartError {
    /// What the arbiter exits with.
    pub(super) fn exit_status(&self) -> i32 {
        match self {
            StartError::Hook(HookError { exit: Some(status), .. }) => *status,
            _ => 1,
        }
    }
}

impl Master {
    pub(super) fn start(arbiter: Arbiter) -> Result<Master, StartError> {
        let Arbiter { config, class, hooks, reload } = arbiter;
        let home = std::env::current_dir()?;
        enter(&home.join(&config.chdir))?;
        // Before the terminal is left: what is wrong with the settings should be seen there.
        log::setup(&config)?;
        class.check(&config)?;
        hooks.check(&config)?;
        if config.daemon {
            daemon::detach(config.enable_stdio_inheritance).map_err(StartError::Daemon)?;
        }
        log_settings(&config);
        tracing::info!("Starting rgunicorn {VERSION}");
        match limits::raise_descriptors() {
            Ok((before, now)) if before < now => {
                tracing::debug!("Raised the limit of open files from {before} to {now}");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("Can't raise the limit of open files: {error}"),
        }
        let overlay = furnish(&config);
        hooks.adopt(&config)?;
        hooks.nworkers_changed(config.workers, None);
        let mut master = Master {
            hooks,
            reload,
            scoreboard: Scoreboard::new()?,
            signals: SignalPipe::install(&HANDLED, &[])?,
            lifeline: Lifeline::new()?,
            environment: overlay,
            home,
            pidfile: None,
            workers: Workers::default(),
            current: Generation::new(1, config, class, Vec::new()),
            next: None,
            generations: 1,
            age: 0,
            proven: false,
            preloaded: false,
            out_of_memory: OutOfMemory::watch(),
            weighed: 0,
            serves_until: None,
            ending: None,
            desk: Desk::default(),
        };
        if let Err(error) = master.open() {
            master.close();
            return Err(error);
        }
        Ok(master)
    }

    fn open(&mut self) -> Result<(), StartError> {
        let config = self.current.config.clone();
        self.pidfile = config.pidfile.as_deref().map(Pidfile::create).transpose()?;
        self.preload(&config).map_err(StartError::Preload)?;
        self.hooks.on_starting()?;
        self.current.listeners = Listener::bind(&config)?.into_iter().map(Rc::new).collect();
        self.scoreboard.set_generation(self.current.number, self.current.stuck_after());
        if std::env::var_os(UPGRADED).is_some() {
            // The one before us has it, until it leaves.
            self.desk.open_in_time(&config);
        } else {
            self.desk.open(&config)?;
        }
        tracing::debug!("Arbiter booted");
        tracing::info!("Listening at: {} ({})", self.current.addresses(), std::process::id());
        tracing::info!("Using worker: {}", self.current.class.name());
        title::set(&format!("rgunicorn: arbiter [{}]", config.proc_name()));
        let listeners: Vec<&Listener> = self.current.listeners.iter().map(|listener| &**listener).collect();
        self.hooks.when_ready(&listeners)?;
        Ok(())
    }

    /// Loads the application into this process, where the settings ask for it and it wasn't done yet.
    pub(super) fn preload(&mut self, config: &Config) -> Result<(), BootError> {
        if config.preload_app && !self.preloaded {
            self.hooks.preload(config)?;
            self.preloaded = true;
        }
        Ok(())
    }

    /// Takes back what others can see of us: socket files, the pid file.
    pub(super) fn close(&mut self) {
        for generation in self.next.iter_mut().chain([&mut self.current]) {
            unlink_all_but(&std::mem::take(&mut generation.listeners), &[]);
        }
        self.desk.close();
        if let Some(pidfile) = self.pidfile.take() {
            pidfile.unlink();
        }
    }
}

/// Loads the application, and nothing else.
pub(super) fn check(config: &Config, hooks: &dyn Hooks) -> Result<(), BootError> {
    enter(&config.chdir).map_err(|error| BootError::Boot(error.to_string()))?;
    furnish(config);
    hooks.preload(config)
}

/// Every setting, for the debug log.
pub(super) fn log_settings(config: &Config) {
    tracing::debug!("Current configuration:\n  {}", config::print(config).replace('\n', "\n  "));
}

/// Sets the environment variables that applications are to find.
fn furnish(config: &Config) -> Overlay {
    environment::set("SERVER_SOFTWARE", SERVER_SOFTWARE.as_ref());
    let mut overlay = Overlay::default();
    overlay.replace(&config.raw_env);
    overlay
}

/// Makes `directory` the working directory.
pub(super) fn enter(directory: &Path) -> Result<(), StartError> {
    std::env::set_current_dir(directory)
        .map_err(|source| StartError::Chdir { path: directory.to_owned(), source })
}

/// The variable that tells an arbiter that another one has started it (SIGUSR2).
const UPGRADED: &str = "GUNICORN_PID";

/// The signals that mean something to the arbiter.
const HANDLED: [Signal; 10] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCHLD,
];
