//! The loop of the one-thread classes: the thread that waits for the engine calls the application as well.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rgunicorn_core::app::{AppError, Application, Loader};
use rgunicorn_core::engine::{Engine, EngineConfig};
use rgunicorn_core::sync::lock;
use rgunicorn_core::worker::{BootError, Control, Exit, Worker, WorkerContext, WorkerError};

use crate::boot::{self, Recycling};
use crate::holding::Holding;
use crate::stand_in;
use crate::tenure::Tenure;

/// A worker whose only thread does everything.
pub(crate) struct Inline {
    application: Box<dyn Application>,
    /// Locked but while the application is called, and not even then where nobody stands in.
    engine: Arc<Mutex<Engine>>,
    /// Whether somebody stands in for this thread: not where there is no other worker.
    stood_in_for: bool,
    recycling: Recycling,
    tenure: Tenure,
}

impl Inline {
    pub(crate) fn boot(
        mut context: WorkerContext,
        loader: &dyn Loader,
        engine: EngineConfig,
    ) -> Result<Self, BootError> {
        let (application, engine) = boot::boot(&mut context, loader, engine, 1)?;
        engine
            .wake_on(context.control.descriptor())
            .map_err(|error| BootError::Boot(format!("cannot watch for signals: {error}")))?;
        let engine = Arc::new(Mutex::new(engine));
        let stood_in_for = stand_in::start_where_needed(&engine, &context.slot, &context.config);
        let recycling = Recycling::new(&context);
        Ok(Inline { application, engine, stood_in_for, recycling, tenure: Tenure::new(context) })
    }

    /// Waits for the engine, letting go of the application's lock only if there really is nothing to do.
    fn wait(&mut self, engine: &mut Engine) -> Result<(), WorkerError> {
        engine.wait(Some(Duration::ZERO))?;
        if engine.has_events() || engine.has_work() {
            return Ok(());
        }
        let (most, mut waited) = (self.tenure.longest_wait(), Ok(()));
        let idled = self.application.while_idle(&mut || waited = engine.wait(most));
        if let Err(AppError::Exit { code, report }) = idled {
            tracing::error!("The application ends its worker\n{report}");
            self.tenure.end_for(Exit::Application(code));
        }
        Ok(waited?)
    }

    /// Gives each connection that waits for the application its turn.
    fn answer<'a>(
        &mut self,
        shared: &'a Mutex<Engine>,
        mut engine: MutexGuard<'a, Engine>,
    ) -> MutexGuard<'a, Engine> {
        let mut holding = Holding::default();
        for _ in 0..engine.queued() {
            let Some(mut exchange) = engine.next() else { break };
            holding.prepare(&engine, &mut exchange);
            let before = engine.now();
            let advanced = if self.stood_in_for {
                drop(engine);
                let advanced = exchange.advance(&*self.application);
                engine = lock(shared);
                advanced
            } else {
                exchange.advance(&*self.application)
            };
            engine.give_back(exchange);
            holding.given_back(&mut engine, before);
            self.tenure.slot().notify_at(engine.now());
            if let Err(code) = advanced {
                self.tenure.end_for(Exit::Application(code));
            }
            if self.recycling.must_end(engine.requests()) {
                self.tenure.end_for(Exit::Recycled);
            }
            // The others keep their places; a stop is heeded between two of them.
            if Control::stop_has_come() {
                break;
            }
        }
        engine.send_held();
        engine
    }
}

impl Worker for Inline {
    fn run(&mut self) -> Result<Exit, WorkerError> {
        let shared = Arc::clone(&self.engine);
        let mut engine = lock(&shared);
        loop {
            self.tenure.slot().notify();
            self.tenure.heed_signals(&mut engine);
            self.tenure.begin_to_leave(|answer_queue| engine.drain(answer_queue));
            if self.tenure.is_over(|| engine.is_drained()) {
                engine.end();
                return Ok(self.tenure.exit());
            }
            self.wait(&mut engine)?;
            engine.process();
            engine = self.answer(&shared, engine);
            self.tenure.slot().set_connections(engine.connections());
        }
    }
}
