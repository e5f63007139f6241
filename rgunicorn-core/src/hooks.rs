//! What a language bridge may do around forks.

use crate::config::{Config, ConfigError};
use crate::worker::BootError;

/// Calls that the arbiter makes so that an interpreter can live through its forks. All do nothing by default: an arbiter
/// without `--preload` has no interpreter in it.
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

    /// Right before a fork, in the arbiter.
    fn before_fork(&self) {}

    /// Right after a fork, in the arbiter.
    fn after_fork_in_arbiter(&self) {}

    /// Right after a fork, in the new worker, before anything else.
    fn after_fork_in_worker(&self) {}

    /// As the last thing in a worker that ends properly: run exit handlers, flush what is buffered.
    fn before_exit(&self) {}
}

/// No hooks: for hosts without a language bridge.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {}
