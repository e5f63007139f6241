//! No class was asked for: a worker is of the class that serves WSGI applications, or of class `asgi` where its application
//! turns out to be one of ASGI.

use std::sync::Arc;

use pyo3::prelude::*;
use rgunicorn_core::config::{Config, ConfigError};
use rgunicorn_core::worker::{BootError, Worker, WorkerClass, WorkerContext};

use crate::Asgi;
use crate::python::{WsgiLoader, failure, protocol};

/// The class that fits the application, which is known once it was loaded.
#[derive(Clone)]
pub struct Fitting {
    wsgi: Arc<dyn WorkerClass>,
    asgi: Arc<Asgi>,
    loader: WsgiLoader,
}

impl Fitting {
    /// `wsgi`, whose applications `loader` loads, or `asgi`.
    pub fn new(wsgi: Arc<dyn WorkerClass>, loader: &WsgiLoader) -> Self {
        Fitting { wsgi, asgi: Arc::new(Asgi::new(loader.clone())), loader: loader.clone() }
    }
}

impl std::fmt::Debug for Fitting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Fitting").field(&self.wsgi.name()).finish()
    }
}

impl WorkerClass for Fitting {
    fn name(&self) -> &str {
        self.wsgi.name()
    }

    fn ends_requests(&self) -> bool {
        self.wsgi.ends_requests()
    }

    fn aliases(&self) -> &[&str] {
        self.wsgi.aliases()
    }

    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        self.wsgi.check(config)
    }

    fn prepare(&self, config: &Config) -> Result<(), BootError> {
        self.wsgi.prepare(config)
    }

    fn boot(&self, context: WorkerContext) -> Result<Box<dyn Worker>, BootError> {
        let application = self.loader.find(&context.config)?;
        let is_asgi = Python::attach(|py| {
            protocol::is_asgi(application.bind(py))
                .map_err(|error| BootError::Boot(failure::report(py, &error)))
        })?;
        self.loader.keep_object(application);
        if !is_asgi {
            return self.wsgi.boot(context);
        }
        tracing::info!(
            "The application is one of ASGI, and no worker class was asked for: it is served by class asgi (-k asgi)"
        );
        self.asgi.boot(context)
    }
}
