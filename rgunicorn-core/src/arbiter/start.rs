//! From the settings to a running arbiter.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use thiserror::Error;

use super::adaptation::Adaptation;
use super::desk::Desk;
use super::generation::{Generation, unlink_all_but};
use super::inheritance::Inheritance;
use super::pidfile::{Pidfile, PidfileError};
use super::service::Service;
use super::workers::Workers;
use super::{Arbiter, Master, daemon};
use crate::config::{self, Config, ConfigError};
use crate::hooks::{HookError, Hooks};
use crate::log::{self, LogError};
use crate::scoreboard::Scoreboard;
use crate::siblings::Queue;
use crate::socket::{BindError, Listener};
use crate::sys::bell::Bell;
use crate::sys::environment::{self, Overlay};
use crate::sys::processes::OutOfMemory;
use crate::sys::signals::{self, Signal, SignalPipe};
use crate::sys::title;
use crate::sys::{forks, limits};
use crate::worker::{BootError, Lifeline, WorkerClass};
use crate::{SERVER_SOFTWARE, VERSION};

/// Why an arbiter did not start, or a reload did not happen.
#[derive(Debug, Error)]
pub(super) enum StartError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error(
        "The working directory that the server was started in can't be used: {0}; start it from one that is there"
    )]
    Home(io::Error),
    #[error("chdir {path:?}: {source}")]
    Chdir { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Log(#[from] LogError),
    #[error("{0}")]
    Pidfile(#[from] PidfileError),
    #[error("{0}")]
    Bind(#[from] BindError),
    #[error("{0}")]
    Control(String),
    #[error("preload_app: {0}")]
    Preload(BootError),
    #[error("{0}")]
    Hook(#[from] HookError),
    #[error("Can't go into the background: {0}")]
    Daemon(io::Error),
    #[error("LISTEN_PID and LISTEN_FDS, which systemd sets: {0}; each must be a number")]
    Activation(io::Error),
    #[error(
        "GUNICORN_FD={numbers}: {why}; it must be the numbers of listening sockets, with commas between them"
    )]
    Inheritance { numbers: String, why: String },
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
        let Arbiter { mut config, class, hooks, reload } = arbiter;
        // What goes wrong before the settings say where is said on standard error.
        log::install();
        forks::watch();
        let inheritance = Inheritance::claim()?;
        inheritance.apply(&mut config);
        // By the name the shell has for it: another arbiter (SIGUSR2) is to start where that leads by then.
        std::env::current_dir().map_err(StartError::Home)?;
        let home = config::current_directory();
        enter(&home.join(&config.chdir))?;
        // Before the terminal is left: what is wrong with the settings should be seen there.
        log::setup(&config)?;
        class.check(&config)?;
        hooks.check(&config)?;
        // One that is to take over is in the background if the other one is.
        if config.daemon && inheritance.predecessor.is_none() {
            daemon::detach(config.enable_stdio_inheritance).map_err(StartError::Daemon)?;
        }
        let overlay = furnish(&config);
        // What is logged from here on goes through the logger that the settings name.
        hooks.adopt(&config)?;
        hooks.keep();
        log_settings(&config);
        tracing::info!("Starting rgunicorn {VERSION}");
        match limits::raise_descriptors() {
            Ok((before, now)) if before < now => {
                tracing::debug!("Raised the limit of open files from {before} to {now}");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("Can't raise the limit of open files: {error}"),
        }
        hooks.nworkers_changed(config.workers, None);
        let mut master = Master {
            hooks,
            reload,
            scoreboard: Scoreboard::new()?,
            queue: Queue::new()?,
            signals: SignalPipe::install(&HANDLED, &[])?,
            bell: Bell::new()?,
            lifeline: Lifeline::new()?,
            environment: overlay,
            home,
            pidfile: None,
            workers: Workers::default(),
            current: Generation::new(1, config, class, Vec::new()),
            next: None,
            reload_waits: false,
            generations: 1,
            age: 0,
            proven: false,
            preloaded: false,
            out_of_memory: OutOfMemory::watch(),
            inheritance,
            heir: None,
            service: Service::find(),
            weighed: 0,
            adaptation: Adaptation::default(),
            serves_until: None,
            ending: None,
            desk: Desk::default(),
            told: 0,
        };
        if let Err(error) = master.open() {
            master.close();
            return Err(error);
        }
        Ok(master)
    }

    fn open(&mut self) -> Result<(), StartError> {
        let (config, class) = (Arc::clone(&self.current.config), Arc::clone(&self.current.class));
        self.pidfile = self.pidfile_path(&config).as_deref().map(Pidfile::create).transpose()?;
        self.preload(&config, &*class).map_err(StartError::Preload)?;
        self.hooks.on_starting()?;
        signals::take_back_all(false)?;
        self.hooks.take_signals();
        let inherited = std::mem::take(&mut self.inheritance.listeners);
        self.current.listeners = Listener::bind_over(&config, inherited)?.into_iter().map(Rc::new).collect();
        self.scoreboard.set_generation(self.current.number, self.current.stuck_after());
        if self.inheritance.predecessor.is_some() {
            // The one before us has it, until it leaves.
            self.desk.succeeds = true;
            self.desk.open_in_time(&config);
        } else {
            self.desk.open(&config)?;
        }
        tracing::debug!("Arbiter booted");
        tracing::info!("Listening at: {} ({})", self.current.addresses(), std::process::id());
        tracing::info!("Using worker: {}", self.current.class.name());
        self.retitle();
        let listeners: Vec<&Listener> = self.current.listeners.iter().map(|listener| &**listener).collect();
        self.hooks.when_ready(&listeners)?;
        if self.current.target == 0 {
            self.service.is_ready(self.current.number, 0);
        }
        Ok(())
    }

    /// Says in the process's title who it is.
    pub(super) fn retitle(&self) {
        let second = if self.inheritance.predecessor.is_some() { ".2" } else { "" };
        title::set(&format!("rgunicorn: arbiter [{}{second}]", self.current.config.proc_name()));
    }

    /// Where the pid file is, for as long as another arbiter has the one of that name.
    pub(super) fn pidfile_path(&self, config: &Config) -> Option<PathBuf> {
        let mut path = config.pidfile.clone()?.into_os_string();
        if self.inheritance.predecessor.is_some() {
            path.push(".2");
        }
        Some(path.into())
    }

    /// Loads the application into this process, where the settings ask for it and it wasn't done yet.
    pub(super) fn preload(&mut self, config: &Config, class: &dyn WorkerClass) -> Result<(), BootError> {
        if config.preload_app && !self.preloaded {
            class.prepare(config)?;
            self.hooks.preload(config)?;
            class.suits(config)?;
            self.preloaded = true;
        }
        Ok(())
    }

    /// Closes the listeners. Their socket files go, unless another arbiter has them as well.
    pub(super) fn stop_listening(&mut self) {
        let shared = self.shares_sockets();
        for generation in self.next.iter_mut().chain([&mut self.current]) {
            let listeners = std::mem::take(&mut generation.listeners);
            if !shared {
                unlink_all_but(&listeners, &[]);
            }
        }
    }

    /// Takes back what others can see of us: socket files, the pid file.
    pub(super) fn close(&mut self) {
        self.stop_listening();
        self.desk.close();
        if let Some(pidfile) = self.pidfile.take() {
            pidfile.unlink();
        }
    }
}

/// Loads the application, and nothing else.
pub(super) fn check(config: &Config, class: &dyn WorkerClass, hooks: &dyn Hooks) -> Result<(), BootError> {
    enter(&config.chdir).map_err(|error| BootError::Boot(error.to_string()))?;
    furnish(config);
    hooks.adopt(config).map_err(|error| BootError::Boot(error.to_string()))?;
    class.prepare(config)?;
    hooks.preload(config)?;
    class.suits(config)
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
