//! An rgunicorn with a worker class of its own: `patient`, which answers one request after the other and never keeps a
//! connection, and counts on its own terms.
//!
//! ```sh
//! cargo run -p rgunicorn-example-custom-class -- -k patient --chdir examples run:app
//! ```

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rgunicorn_cli::Cli;
use rgunicorn_core::app::{Application, SharedLoader};
use rgunicorn_core::config::{Config, ConfigError};
use rgunicorn_core::engine::{Accept, Engine, EngineConfig};
use rgunicorn_core::log::AccessLog;
use rgunicorn_core::worker::{BootError, Exit, Stop, Worker, WorkerClass, WorkerContext, WorkerError};

/// The class: who waits for the engine, and where the application runs, is all it decides.
struct Patient {
    loader: SharedLoader,
}

impl WorkerClass for Patient {
    fn name(&self) -> &str {
        "patient"
    }

    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        if config.threads > 1 {
            return Err(ConfigError::setting("threads", "a patient worker has one thread; leave it at 1"));
        }
        self.loader.check(config)
    }

    fn boot(&self, mut context: WorkerContext) -> Result<Box<dyn Worker>, BootError> {
        let mut application = self.loader.load(&context)?;
        let config = EngineConfig {
            accept: Accept::WhileIdle,
            keepalive: Duration::ZERO,
            ..EngineConfig::new(&context.config)
        };
        let access = AccessLog::open(&context.config).map_err(|error| BootError::Boot(error.to_string()))?;
        if let Some(access) = &access {
            application.want_variables(access.variables());
        }
        let start = |error: std::io::Error| BootError::Boot(format!("cannot start the engine: {error}"));
        let engine = Engine::new(std::mem::take(&mut context.listeners), config, access).map_err(start)?;
        engine.wake_on(context.control.descriptor()).map_err(start)?;
        Ok(Box::new(PatientWorker { application, engine, context }))
    }
}

/// One process of the class.
struct PatientWorker {
    application: Box<dyn Application>,
    engine: Engine,
    context: WorkerContext,
}

impl Worker for PatientWorker {
    fn run(&mut self) -> Result<Exit, WorkerError> {
        loop {
            self.context.slot.notify();
            self.context.control.poll();
            match self.context.control.stop() {
                Some(Stop::Quick) => return Ok(Exit::Stopped),
                Some(Stop::Graceful) => self.engine.drain(self.context.slot.arbiter_is_stopping()),
                None => {}
            }
            if self.engine.is_drained() {
                println!("a patient worker has answered {} requests", self.engine.requests());
                return Ok(Exit::Stopped);
            }
            let engine = &mut self.engine;
            let mut waited = Ok(());
            let idle =
                self.application.while_idle(&mut || waited = engine.wait(Some(Duration::from_secs(1))));
            waited?;
            idle.map_err(|error| WorkerError::Failed(error.to_string()))?;
            self.engine.process();
            if let Some(mut exchange) = self.engine.next() {
                let advanced = exchange.advance(&*self.application);
                self.engine.give_back(exchange);
                if let Err(status) = advanced {
                    return Ok(Exit::Application(status));
                }
            }
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::new();
    let loader = cli.loader();
    cli.worker_class(Arc::new(Patient { loader })).run()
}
