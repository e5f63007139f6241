//! How long a worker serves: until it is told to stop, or has come to an end of its own; then until all that it holds is
//! answered, or `graceful_timeout` is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rgunicorn_core::config::Config;
use rgunicorn_core::engine::Engine;
use rgunicorn_core::scoreboard::Slot;
use rgunicorn_core::sys::forks;
use rgunicorn_core::worker::{Control, Exit, Stop, WorkerContext};

/// A worker's time.
pub(crate) struct Tenure {
    control: Control,
    slot: Slot,
    config: Arc<Config>,
    /// Why it ends, as far as that is the worker's own affair.
    exit: Exit,
    /// Whether the stop has begun.
    leaving: bool,
    /// When a graceful stop ends, whatever is still held; none if the clock can't count up to that.
    leave_by: Option<Instant>,
}

impl Tenure {
    /// It begins, when the worker has booted with this.
    pub(crate) fn new(context: WorkerContext) -> Tenure {
        let WorkerContext { config, control, slot, .. } = context;
        Tenure { control, slot, config, exit: Exit::Stopped, leaving: false, leave_by: None }
    }

    #[cfg(feature = "python")]
    pub(crate) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// The worker is to end, for this reason if there is none yet.
    pub(crate) fn end_for(&mut self, exit: Exit) {
        if self.exit == Exit::Stopped {
            self.exit = exit;
        }
        self.control.request_stop(Stop::Graceful);
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Takes in the signals that have come, without waiting; whether the access log is to be opened again.
    pub(crate) fn take_signals(&mut self) -> bool {
        forks::end_if_stray();
        self.control.poll();
        self.control.take_reopen()
    }

    /// Heeds the signals that the engine has been woken up for.
    pub(crate) fn heed_signals(&mut self, engine: &mut Engine) {
        if engine.take_wake()
            && self.take_signals()
            && let Some(access) = engine.access_log()
        {
            access.reopen();
        }
    }

    /// Begins to stop, if that is due: has [`Engine::drain`] called. Whether it has just begun.
    pub(crate) fn begin_to_leave(&mut self, drain: impl FnOnce(bool)) -> bool {
        if self.control.stop().is_none() || std::mem::replace(&mut self.leaving, true) {
            return false;
        }
        self.leave_by = Instant::now().checked_add(self.config.graceful_timeout);
        // Where the whole server stops, nobody else will answer what waits in the listen queue.
        drain(self.slot.arbiter_is_stopping());
        true
    }

    /// Whether the stop has begun.
    #[cfg(feature = "python")]
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// When it ends at the latest, once it has begun.
    #[cfg(feature = "python")]
    pub(crate) fn leave_by(&self) -> Option<Instant> {
        self.leave_by
    }

    /// Whether it is over: nothing is held any more, or it is to end anyway.
    pub(crate) fn is_over(&self, is_drained: impl FnOnce() -> bool) -> bool {
        match self.control.stop() {
            None => false,
            Some(Stop::Quick) => true,
            Some(Stop::Graceful) => is_drained() || self.leave_by.is_some_and(|by| by <= Instant::now()),
        }
    }

    /// For how long the worker may wait: the heartbeat must come twice in each `timeout`, and a graceful stop ends on time.
    pub(crate) fn longest_wait(&self) -> Option<Duration> {
        let timeout = self.config.timeout;
        let heartbeat = (!timeout.is_zero()).then(|| timeout / 2);
        let leave = self.leave_by.map(|by| by.saturating_duration_since(Instant::now()));
        [heartbeat, leave].into_iter().flatten().min()
    }
}
