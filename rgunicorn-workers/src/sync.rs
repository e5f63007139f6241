//! `-k sync`: one request at a time, one connection a request.
//!
//! What gunicorn's default class promises, without its weakness: a connection is accepted only while no request waits,
//! so that connections go to whichever worker is free, and is closed after its response. But the engine reads the
//! request and writes the response, so that a slow client costs a buffer and never the worker.

use std::time::Duration;

use rgunicorn_core::app::SharedLoader;
use rgunicorn_core::config::{Config, ConfigError};
use rgunicorn_core::engine::{Accept, EngineConfig};
use rgunicorn_core::worker::{BootError, Worker, WorkerClass, WorkerContext};

use crate::inline::Inline;

/// The class behind `-k sync`.
pub struct Sync {
    loader: SharedLoader,
}

impl Sync {
    /// The class, for applications that `loader` makes.
    pub fn new(loader: SharedLoader) -> Self {
        Sync { loader }
    }
}

impl WorkerClass for Sync {
    fn name(&self) -> &str {
        "sync"
    }

    fn aliases(&self) -> &[&str] {
        &["gunicorn.workers.sync.SyncWorker"]
    }

    fn suits(&self, config: &Config) -> Result<(), BootError> {
        self.loader.suits(config)
    }

    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        self.loader.check(config)
    }

    fn boot(&self, context: WorkerContext) -> Result<Box<dyn Worker>, BootError> {
        let engine = EngineConfig {
            accept: Accept::WhileIdle,
            keepalive: Duration::ZERO,
            ..EngineConfig::new(&context.config)
        };
        Ok(Box::new(Inline::boot(context, &*self.loader, engine)?))
    }
}

impl std::fmt::Debug for Sync {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sync").finish_non_exhaustive()
    }
}
