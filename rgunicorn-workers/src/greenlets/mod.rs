//! `-k gevent` and `-k eventlet`: blocking applications made cooperative by these libraries, a greenlet a request.
//!
//! The hub watches the engine's descriptor; the standard library is monkey-patched before the application is imported, as
//! gunicorn does it. The other half is in [`python::greenlets`](crate::python).

use rgunicorn_core::app::Loader;
use rgunicorn_core::config::{Config, ConfigError};
use rgunicorn_core::engine::EngineConfig;
use rgunicorn_core::worker::{BootError, Exit, Worker, WorkerClass, WorkerContext, WorkerError};

use crate::boot;
use crate::python::greenlets::Hub;
use crate::python::turns::Serving;
use crate::python::{WsgiApplication, WsgiLoader};

/// The classes behind `-k gevent` and `-k eventlet`.
#[derive(Debug)]
pub struct Greenlets {
    loader: WsgiLoader,
    library: &'static str,
    aliases: &'static [&'static str],
}

impl Greenlets {
    /// Class `gevent`, for the applications that `loader` imports.
    pub fn gevent(loader: WsgiLoader) -> Self {
        let aliases = &[
            "gunicorn.workers.ggevent.GeventWorker",
            "gevent_wsgi",
            "gevent_pywsgi",
            "gunicorn.workers.ggevent.GeventPyWSGIWorker",
        ];
        Greenlets { loader, library: "gevent", aliases }
    }

    /// Class `eventlet`, for the applications that `loader` imports.
    pub fn eventlet(loader: WsgiLoader) -> Self {
        Greenlets { loader, library: "eventlet", aliases: &["gunicorn.workers.geventlet.EventletWorker"] }
    }
}

impl WorkerClass for Greenlets {
    fn name(&self) -> &str {
        self.library
    }

    fn aliases(&self) -> &[&str] {
        self.aliases
    }

    fn suits(&self, config: &Config) -> Result<(), BootError> {
        Loader::suits(&self.loader, config)
    }

    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        Loader::check(&self.loader, config)
    }

    /// The standard library is patched before the application is imported.
    fn prepare(&self, config: &Config) -> Result<(), BootError> {
        self.loader.start(config)?;
        Hub::prepare(self.library)
    }

    fn boot(&self, context: WorkerContext) -> Result<Box<dyn Worker>, BootError> {
        self.loader.start(&context.config)?;
        let hub = Hub::patch(self.library)?;
        let mut application = self.loader.load_wsgi(&context)?;
        let access = boot::access_log(&context)?;
        if let Some(access) = &access {
            rgunicorn_core::app::Application::want_variables(&mut application, access.variables());
        }
        let config = EngineConfig::new(&context.config);
        let serving = Serving::boot(context, config, access)?;
        Ok(Box::new(GreenletWorker { hub, parts: Some((application, serving)) }))
    }
}

struct GreenletWorker {
    hub: Hub,
    parts: Option<(WsgiApplication, Serving)>,
}

impl Worker for GreenletWorker {
    fn run(&mut self) -> Result<Exit, WorkerError> {
        match self.parts.take() {
            Some((application, serving)) => self.hub.serve(application, serving),
            None => Err(WorkerError::Failed("a worker runs once".into())),
        }
    }
}
