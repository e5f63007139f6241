//! `-k asgi`: asynchronous applications (FastAPI, Starlette, Django under ASGI, ...) in one thread's event loop.
//!
//! The event loop, asyncio's or uvloop's, waits for the engine's descriptor among its own; each request is a task of it.
//! The other half is in [`python::asgi`](crate::python), which touches Python.

use rgunicorn_core::config::{Config, ConfigError};
use rgunicorn_core::engine::{Bodies, EngineConfig};
use rgunicorn_core::worker::{BootError, Exit, Worker, WorkerClass, WorkerContext, WorkerError};

use crate::boot;
use crate::python::WsgiLoader;
use crate::python::asgi::{self, AsgiApplication, EventLoop, Kind};
use crate::python::turns::Serving;

/// The classes behind `-k asgi` and `-k tornado`, whose loop is asyncio's as well.
#[derive(Debug)]
pub struct Asgi {
    loader: WsgiLoader,
    kind: Kind,
}

impl Asgi {
    /// Class `asgi`, for the applications that `loader` imports.
    pub fn new(loader: WsgiLoader) -> Self {
        Asgi { loader, kind: Kind::Asgi }
    }

    /// Class `tornado`: tornado's applications and those of WSGI, in tornado's loop.
    pub fn tornado(loader: WsgiLoader) -> Self {
        Asgi { loader, kind: Kind::Tornado }
    }
}

impl WorkerClass for Asgi {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Asgi => "asgi",
            Kind::Tornado => "tornado",
        }
    }

    fn aliases(&self) -> &[&str] {
        if self.kind == Kind::Tornado {
            return &["gunicorn.workers.gtornado.TornadoWorker"];
        }
        &[
            "uvicorn",
            "uvicorn.workers.UvicornWorker",
            "uvicorn.workers.UvicornH11Worker",
            "uvicorn_worker.UvicornWorker",
            "uvicorn_worker.UvicornH11Worker",
            // The same, as a configuration file has them that has imported them.
            "uvicorn_worker._workers.UvicornWorker",
            "uvicorn_worker._workers.UvicornH11Worker",
            "gunicorn.workers.gasgi.ASGIWorker",
        ]
    }

    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        rgunicorn_core::app::Loader::check(&self.loader, config)
    }

    fn suits(&self, config: &Config) -> Result<(), BootError> {
        match self.kind {
            Kind::Asgi => self.loader.with_preloaded(asgi::suits),
            Kind::Tornado => rgunicorn_core::app::Loader::suits(&self.loader, config),
        }
    }

    fn prepare(&self, config: &Config) -> Result<(), BootError> {
        self.loader.start(config)?;
        asgi::prepare(self.kind)
    }

    fn boot(&self, context: WorkerContext) -> Result<Box<dyn Worker>, BootError> {
        if context.config.threads > 1 {
            tracing::warn!(
                "The setting threads means nothing to class {}, which has one thread",
                self.name()
            );
        }
        self.loader.start(&context.config)?;
        let event_loop = EventLoop::make(&context.config)?;
        let application = self.loader.load_object(&context.config)?;
        let access = boot::access_log(&context)?;
        let mut application = AsgiApplication::boot(
            event_loop,
            &application,
            self.kind,
            &context.config,
            context.slot.clone(),
            |py| self.loader.request_hooks(py),
        )?;
        if let Some(access) = &access {
            application.want_variables(access.variables());
        }
        let mut engine_config = EngineConfig::new(&context.config);
        if !application.is_wsgi() {
            engine_config.bodies = Bodies::Polled;
        }
        // Not before: a worker that watches a listener is woken up in place of one that could answer.
        let serving = Serving::boot(context, engine_config, access)?;
        Ok(Box::new(AsgiWorker { application, serving: Some(serving) }))
    }
}

struct AsgiWorker {
    application: AsgiApplication,
    serving: Option<Serving>,
}

impl Worker for AsgiWorker {
    fn run(&mut self) -> Result<Exit, WorkerError> {
        match self.serving.take() {
            Some(serving) => self.application.serve(serving),
            None => Err(WorkerError::Failed("a worker runs once".into())),
        }
    }
}
