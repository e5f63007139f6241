//! The loop of the one-thread classes: the thread that waits for the engine calls the application as well.

use std::time::{Duration, Instant};

use rgunicorn_core::app::{AppError, Application, Loader};
use rgunicorn_core::engine::{Engine, EngineConfig};
use rgunicorn_core::worker::{BootError, Control, Exit, Stop, Worker, WorkerContext, WorkerError};

use crate::boot::{self, Recycling};
use crate::holding::Holding;

/// A worker whose only thread does everything.
pub(crate) struct Inline {
    application: Box<dyn Application>,
    engine: Engine,
    context: WorkerContext,
    recycling: Recycling,
    exit: Exit,
    /// When a graceful stop ends, whatever is still held.
    leave_by: Option<Instant>,
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
        Ok(Inline {
            application,
            engine,
            recycling: Recycling::new(&context),
            exit: Exit::Stopped,
            leave_by: None,
            context,
        })
    }

    /// Waits for the engine, letting go of the application's lock only if there really is nothing to do.
    fn wait(&mut self) -> Result<(), WorkerError> {
        self.engine.wait(Some(Duration::ZERO))?;
        if self.engine.has_events() || self.engine.has_work() {
            return Ok(());
        }
        let most = self.longest_wait();
        let (engine, mut waited) = (&mut self.engine, Ok(()));
        let idled = self.application.while_idle(&mut || waited = engine.wait(most));
        if let Err(AppError::Exit { code, report }) = idled {
            tracing::error!("The application ends its worker\n{report}");
            self.end_for(Exit::Application(code));
        }
        Ok(waited?)
    }

    /// The heartbeat must come twice in each `timeout`, and a graceful stop ends on time.
    fn longest_wait(&self) -> Option<Duration> {
        let timeout = self.context.config.timeout;
        let heartbeat = (!timeout.is_zero()).then(|| timeout / 2);
        let leave = self.leave_by.map(|by| by.saturating_duration_since(Instant::now()));
        [heartbeat, leave].into_iter().flatten().min()
    }

    /// Gives each connection that waits for the application its turn.
    fn answer(&mut self) {
        let mut holding = Holding::default();
        for _ in 0..self.engine.queued() {
            let Some(mut exchange) = self.engine.next() else { break };
            holding.prepare(&self.engine, &mut exchange);
            let before = self.engine.now();
            let advanced = exchange.advance(&*self.application);
            self.engine.give_back(exchange);
            holding.given_back(&mut self.engine, before);
            self.context.slot.notify_at(self.engine.now());
            if let Err(code) = advanced {
                self.end_for(Exit::Application(code));
            }
            if self.recycling.must_end(self.engine.requests()) {
                self.end_for(Exit::Recycled);
            }
            // The others keep their places; a stop is heeded between two of them.
            if Control::stop_has_come() {
                break;
            }
        }
        self.engine.send_held();
    }

    fn end_for(&mut self, exit: Exit) {
        if self.exit == Exit::Stopped {
            self.exit = exit;
        }
        self.context.control.request_stop(Stop::Graceful);
    }

    fn heed_signals(&mut self) {
        if self.engine.take_wake() {
            self.context.control.poll();
            if self.context.control.take_reopen()
                && let Some(access) = self.engine.access_log()
            {
                access.reopen();
            }
        }
        if self.context.control.stop().is_some() && self.leave_by.is_none() {
            self.leave_by = Instant::now().checked_add(self.context.config.graceful_timeout);
            // Where the whole server stops, nobody else will answer what waits in the listen queue.
            self.engine.drain(self.context.slot.arbiter_is_stopping());
        }
    }

    fn is_done(&self) -> bool {
        match self.context.control.stop() {
            None => false,
            Some(Stop::Quick) => true,
            Some(Stop::Graceful) => {
                self.engine.is_drained() || self.leave_by.is_some_and(|by| by <= Instant::now())
            }
        }
    }
}

impl Worker for Inline {
    fn run(&mut self) -> Result<Exit, WorkerError> {
        loop {
            self.context.slot.notify();
            self.heed_signals();
            if self.is_done() {
                return Ok(self.exit);
            }
            self.wait()?;
            self.engine.process();
            self.answer();
            self.context.slot.set_connections(self.engine.connections());
        }
    }
}
