//! `-k event`: one thread, many connections, keep-alive and pipelining.
//!
//! For applications that compute rather than wait: the application runs in the thread that owns the engine, one request
//! after the other, and nothing crosses threads.

use rgunicorn_core::app::SharedLoader;
use rgunicorn_core::config::{Config, ConfigError};
use rgunicorn_core::engine::EngineConfig;
use rgunicorn_core::worker::{BootError, Worker, WorkerClass, WorkerContext};

use crate::inline::Inline;

/// The class behind `-k event`.
pub struct Event {
    loader: SharedLoader,
}

impl Event {
    /// The class, for applications that `loader` makes.
    pub fn new(loader: SharedLoader) -> Self {
        Event { loader }
    }
}

impl WorkerClass for Event {
    fn name(&self) -> &str {
        "event"
    }

    fn suits(&self, config: &Config) -> Result<(), BootError> {
        self.loader.suits(config)
    }

    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        self.loader.check(config)
    }

    fn boot(&self, context: WorkerContext) -> Result<Box<dyn Worker>, BootError> {
        let engine = EngineConfig::new(&context.config);
        Ok(Box::new(Inline::boot(context, &*self.loader, engine)?))
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event").finish_non_exhaustive()
    }
}
