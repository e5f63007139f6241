//! `-k package.module.Class`: a worker class written in Python, with gunicorn's interface.
//!
//! Such a worker accepts connections and answers requests by itself: the engine has no part in it. The arbiter minds it
//! like any other. The other half is in [`python::hosted`](crate::python).

use std::sync::Arc;

use rgunicorn_core::app::Loader;
use rgunicorn_core::config::{Config, ConfigError};
use rgunicorn_core::worker::{BootError, Exit, Worker, WorkerClass, WorkerContext, WorkerError};

use crate::python::hosted::{self, Hosted};
use crate::python::{WsgiLoader, class_path};

/// The class behind the name of a Python class.
#[derive(Debug)]
pub struct PythonClass {
    loader: WsgiLoader,
    path: String,
}

impl PythonClass {
    /// The Python class that `name` is for `-k`, if it is one: a dotted path, one behind `python:` (also if we have a
    /// class by this name), or `egg:distribution#name`.
    pub fn named(name: &str, loader: &WsgiLoader) -> Option<Arc<dyn WorkerClass>> {
        let path = class_path(name)?.to_owned();
        Some(Arc::new(PythonClass { loader: loader.clone(), path }))
    }
}

impl WorkerClass for PythonClass {
    fn name(&self) -> &str {
        &self.path
    }

    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        Loader::check(&self.loader, config)?;
        let is_name = |part: &str| {
            part.chars().all(|c| c.is_alphanumeric() || c == '_')
                && !part.starts_with(char::is_numeric)
                && !part.is_empty()
        };
        let is_path = self.path.contains('.') && self.path.split('.').all(is_name);
        if !is_path && !self.path.starts_with("egg:") {
            let reason = format!("{:?} names no Python class; package.module.Class does", self.path);
            return Err(ConfigError::setting("worker_class", reason));
        }
        Ok(())
    }

    fn prepare(&self, config: &Config) -> Result<(), BootError> {
        self.loader.start(config)?;
        hosted::prepare(&self.path)
    }

    fn boot(&self, context: WorkerContext) -> Result<Box<dyn Worker>, BootError> {
        self.loader.start(&context.config)?;
        Ok(Box::new(HostedWorker(Hosted::boot(self.loader.clone(), &self.path, context)?)))
    }
}

struct HostedWorker(Hosted);

impl Worker for HostedWorker {
    fn boots_in_run(&self) -> bool {
        true
    }

    fn run(&mut self) -> Result<Exit, WorkerError> {
        self.0.run()
    }
}
