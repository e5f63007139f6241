//! What a language bridge may do around forks, and the server hooks that are written in its language.

use std::time::Duration;

use thiserror::Error;

use crate::config::{Config, ConfigError, SETTINGS, Value};
use crate::socket::Listener;
use crate::worker::BootError;

/// A server hook has failed, or asks for the server's end.
#[derive(Debug, Error)]
#[error("{report}")]
pub struct HookError {
    /// Which, and why: a traceback.
    pub report: String,
    /// The exit status that it asks for (`sys.exit`, `HaltServer`).
    pub exit: Option<i32>,
}

/// Calls that the arbiter makes so that an interpreter can live through its forks, and that hooks of the configuration
/// are called. All do nothing by default: an arbiter without `--preload` or hooks has no interpreter in it.
///
/// The ones that are called like settings are those server hooks, in gunicorn's order. A failure of one that can't be
/// answered with an error is logged by the implementation.
pub trait Hooks: Send + Sync {
    /// Checks what the configuration asks for, before anything is forked.
    ///
    /// # Errors
    /// A [`ConfigError`] naming the setting.
    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let _ = config;
        Ok(())
    }

    /// With `--preload`: loads the application into the arbiter, once, before the first fork.
    ///
    /// # Errors
    /// A [`BootError`]; the arbiter stops with exit status 1.
    fn preload(&self, config: &Config) -> Result<(), BootError> {
        let _ = config;
        Ok(())
    }

    /// From now on the hooks of `config` count, in the arbiter and in the workers that it forks.
    ///
    /// # Errors
    /// When there is one that can't be had; then those from before count.
    fn adopt(&self, config: &Config) -> Result<(), HookError> {
        let _ = config;
        Ok(())
    }

    /// What was [adopted](Self::adopt) last has proven itself.
    fn keep(&self) {}

    /// Takes back what was [adopted](Self::adopt) and not kept: a reload has failed.
    fn restore(&self) {}

    /// There are to be `new` workers now, and there were to be `old`.
    fn nworkers_changed(&self, new: usize, old: Option<usize>) {
        let _ = (new, old);
    }

    /// The arbiter starts.
    ///
    /// # Errors
    /// It is not to start.
    fn on_starting(&self) -> Result<(), HookError> {
        Ok(())
    }

    /// The arbiter has its signals from now on, whatever code has run in it until then.
    fn take_signals(&self) {}

    /// A signal has come to the arbiter that code in the host language has set a handler for, too.
    fn heed_signals(&self) {}

    /// The arbiter listens.
    ///
    /// # Errors
    /// It is not to start.
    fn when_ready(&self, listeners: &[&Listener]) -> Result<(), HookError> {
        let _ = listeners;
        Ok(())
    }

    /// Settings were read again.
    ///
    /// # Errors
    /// They are not to count.
    fn on_reload(&self) -> Result<(), HookError> {
        Ok(())
    }

    /// A worker is about to be forked. `age` is how many were before it.
    ///
    /// # Errors
    /// It is not to be forked now.
    fn pre_fork(&self, age: u64) -> Result<(), HookError> {
        let _ = age;
        Ok(())
    }

    /// Right before a fork, in the arbiter.
    fn before_fork(&self) {}

    /// Right after a fork, in the arbiter; none for a fork that failed.
    fn after_fork_in_arbiter(&self, worker: Option<i32>) {
        let _ = worker;
    }

    /// Right after a fork, in the new worker, before anything else.
    fn after_fork_in_worker(&self) {}

    /// In a new worker, before it gives up its privileges.
    ///
    /// # Errors
    /// It can't boot.
    fn post_fork(&self, listeners: &[Listener]) -> Result<(), BootError> {
        let _ = listeners;
        Ok(())
    }

    /// In a worker that has loaded its application.
    ///
    /// # Errors
    /// It can't boot.
    fn post_worker_init(&self) -> Result<(), BootError> {
        Ok(())
    }

    /// In a worker that was told to leave at once (SIGINT, SIGQUIT) and now does: for implementations that have not
    /// heard of the signal by themselves.
    fn worker_int(&self) {}

    /// In a worker that is about to end, however it came to that.
    fn worker_exit(&self) {}

    /// A worker is gone.
    fn child_exit(&self, worker: i32) {
        let _ = worker;
    }

    /// This process, forked from the arbiter, is about to become a new server.
    fn pre_exec(&self) {}

    /// The arbiter is about to end.
    fn on_exit(&self) {}

    /// As the last thing in the arbiter, as for [a worker](Self::before_exit).
    fn before_arbiter_exit(&self, limit: Duration, status: i32) {
        let _ = (limit, status);
    }

    /// As the last thing in a worker that ends properly: run exit handlers, end the interpreter, and with it whatever is
    /// buffered. If that takes longer than `limit`, the process is to exit with `status` all the same.
    fn before_exit(&self, limit: Duration, status: i32) {
        let _ = (limit, status);
    }
}

/// No hooks: for hosts without a language bridge.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {
    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        if config.has_host_logger() {
            let why =
                "or a setting logconfig*: this program was built without Python, whose loggers these are";
            return Err(ConfigError::setting("logger_class", why));
        }
        match named(config).next() {
            Some((name, _)) => {
                Err(ConfigError::setting(name, "this program was built without Python, which hooks need"))
            }
            None => Ok(()),
        }
    }
}

/// The hooks that a configuration has, each with what it is called there.
pub fn named(config: &Config) -> impl Iterator<Item = (&'static str, String)> {
    SETTINGS.iter().filter(|setting| setting.is_hook()).filter_map(|setting| match setting.get(config) {
        Value::Callable(name) => Some((setting.name, name)),
        _ => None,
    })
}
