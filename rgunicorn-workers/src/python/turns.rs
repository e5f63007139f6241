//! A worker's turns of its engine, for those whose event loop belongs to a Python library: what asyncio's callback and the
//! hubs of greenlets have in common.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rgunicorn_core::config::Config;
use rgunicorn_core::engine::{Engine, EngineConfig};
use rgunicorn_core::log::AccessLog;
use rgunicorn_core::scoreboard::Slot;
use rgunicorn_core::sync::lock;
use rgunicorn_core::sys::forks;
use rgunicorn_core::worker::{BootError, Exit, WorkerContext};

use crate::boot::{self, Recycling};
use crate::stand_in;
use crate::tenure::Tenure;

/// What a worker brings.
pub(crate) struct Serving {
    pub(crate) engine: Engine,
    pub(crate) tenure: Tenure,
    pub(crate) recycling: Recycling,
}

impl Serving {
    /// Makes the engine, and whatever else a worker brings.
    ///
    /// # Errors
    /// A listener that can't be used, or the system's.
    pub(crate) fn boot(
        mut context: WorkerContext,
        config: EngineConfig,
        access: Option<AccessLog>,
    ) -> Result<Serving, BootError> {
        let most = context.config.worker_connections.max(1);
        let engine = boot::engine(&mut context, config, access, most)?;
        engine
            .wake_on(context.control.descriptor())
            .map_err(|error| BootError::Boot(format!("cannot watch for signals: {error}")))?;
        let recycling = Recycling::new(&context);
        Ok(Serving { engine, tenure: Tenure::new(context), recycling })
    }
}

/// The engine of a worker, and how the worker fares. No Python code runs while it is locked.
pub(super) struct Turns {
    engine: Arc<Mutex<Engine>>,
    worker: Mutex<WorkerState>,
    slot: Slot,
    config: Arc<Config>,
    logs_access: bool,
}

struct WorkerState {
    tenure: Tenure,
    recycling: Recycling,
    /// When the alarm that is set goes off.
    alarm: Option<Instant>,
}

/// When the next turn is due without an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) at_once: bool,
    /// An alarm is to be set: [`Turns::ring`] says that it has gone off.
    pub(super) alarm: Option<Duration>,
}

impl Turns {
    pub(super) fn new(serving: Serving) -> Self {
        let Serving { mut engine, tenure, recycling } = serving;
        let logs_access = engine.access_log().is_some();
        let (slot, config) = (tenure.slot().clone(), Arc::clone(tenure.config()));
        let worker = WorkerState { tenure, recycling, alarm: None };
        let engine = Arc::new(Mutex::new(engine));
        stand_in::start_where_needed(&engine, &slot, &config);
        Turns { engine, worker: Mutex::new(worker), slot, config, logs_access }
    }

    pub(super) fn engine(&self) -> MutexGuard<'_, Engine> {
        // In a process that the application has forked, whoever had it will never give it back.
        forks::end_if_stray();
        lock(&self.engine)
    }

    fn worker(&self) -> MutexGuard<'_, WorkerState> {
        lock(&self.worker)
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// The descriptor to be watched for readability.
    pub(super) fn descriptor(&self) -> RawFd {
        self.engine().as_raw_fd()
    }

    /// Does all that sockets and timers ask for; says for how many exchanges the application is needed.
    ///
    /// # Errors
    /// When the engine fails.
    pub(super) fn begin(&self) -> std::io::Result<usize> {
        self.slot.notify();
        let mut engine = self.engine();
        engine.wait(Some(Duration::ZERO))?;
        engine.process();
        // What happens to an exchange that is lent out is told when it is given back.
        while engine.next_stirred().is_some() {}
        Ok(engine.queued())
    }

    /// Heeds signals and the number of requests; whether the worker has just been told to stop.
    pub(super) fn heed(&self) -> bool {
        let mut engine = self.engine();
        let mut worker = self.worker();
        self.slot.set_connections(engine.connections());
        worker.tenure.heed_signals(&mut engine);
        if worker.recycling.must_end(engine.requests()) {
            worker.tenure.end_for(Exit::Recycled);
        }
        worker.tenure.begin_to_leave(|answer_queue| engine.drain(answer_queue))
    }

    /// Whether the worker may leave. `tasks` run behind the engine's back.
    pub(super) fn is_done(&self, tasks: usize) -> bool {
        let engine = self.engine();
        self.worker().tenure.is_over(|| engine.is_drained() && tasks == 0)
    }

    /// Ends a turn: says when the next one is due.
    pub(super) fn end(&self) -> Next {
        let mut engine = self.engine();
        let mut worker = self.worker();
        let at_once = engine.prepare_wait(None) == Some(Duration::ZERO);
        let due = [engine.next_timer(), worker.tenure.leave_by()].into_iter().flatten().min();
        let due = due.filter(|due| worker.alarm.is_none_or(|alarm| *due < alarm));
        if due.is_some() {
            worker.alarm = due;
        }
        // A little more, as a timer that is not quite due would make us spin.
        let delay = |due: Instant| due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        Next { at_once, alarm: due.map(delay) }
    }

    /// The alarm has gone off.
    pub(super) fn ring(&self) {
        self.worker().alarm = None;
    }

    /// Whether there is something to do that no event will tell of, now that an exchange was given back between two turns.
    pub(super) fn needs_turn(&self, engine: &Engine) -> bool {
        self.logs_access || engine.has_work() || {
            let worker = self.worker();
            worker.recycling.is_due()
                || worker.tenure.is_leaving()
                || engine.next_timer().is_some_and(|due| worker.alarm.is_none_or(|alarm| due < alarm))
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.worker().tenure.is_leaving()
    }

    /// The application has asked for its worker's end.
    pub(super) fn exit_with(&self, code: i32) {
        self.worker().tenure.end_for(Exit::Application(code));
    }

    /// Ends the worker's turns; how it has ended.
    pub(super) fn exit(&self) -> Exit {
        self.engine().end();
        self.worker().tenure.exit()
    }

    /// The worker serves nobody any more.
    pub(super) fn cleans_up(&self) {
        self.slot.cleans_up();
    }

    /// The heartbeat.
    pub(super) fn beat(&self) {
        self.slot.notify();
    }

    /// How often the heart must beat, in seconds.
    pub(super) fn beat_interval(&self) -> f64 {
        let timeout = self.config.timeout;
        if timeout.is_zero() { 60.0 } else { (timeout / 2).min(Duration::from_secs(1)).as_secs_f64() }
    }
}
