//! What every class does on its way to a running worker.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use rgunicorn_core::app::{Application, Loader};
use rgunicorn_core::engine::{Engine, EngineConfig};
use rgunicorn_core::log::statsd::Statsd;
use rgunicorn_core::log::{AccessLog, host};
use rgunicorn_core::scoreboard::Slot;
use rgunicorn_core::worker::{BootError, WorkerContext};

/// Loads the application, and makes the engine that will serve it; it can be in `capacity` requests at once.
///
/// # Errors
/// What the loader says; a log or a listener that can't be used.
pub(crate) fn boot(
    context: &mut WorkerContext,
    loader: &dyn Loader,
    config: EngineConfig,
    capacity: usize,
) -> Result<(Box<dyn Application>, Engine), BootError> {
    let mut application = loader.load(context)?;
    let access = access_log(context)?;
    if let Some(access) = &access {
        application.want_variables(access.variables());
    }
    Ok((application, engine(context, config, access, capacity)?))
}

/// Opens the access log that the settings ask for.
pub(crate) fn access_log(context: &WorkerContext) -> Result<Option<AccessLog>, BootError> {
    AccessLog::open(&context.config).map_err(|error| BootError::Boot(error.to_string()))
}

/// Makes the engine that serves an application which can be in `capacity` requests at once.
pub(crate) fn engine(
    context: &mut WorkerContext,
    config: EngineConfig,
    access: Option<AccessLog>,
    capacity: usize,
) -> Result<Engine, BootError> {
    // One worker's word is enough.
    if context.age == 0
        && let Some(complaint) = config.spool.scratch.complaint()
    {
        tracing::warn!("{complaint}");
    }
    let mut engine = Engine::new(std::mem::take(&mut context.listeners), config, access)
        .map_err(|error| BootError::Boot(format!("cannot start the engine: {error}")))?;
    context.slot.set_capacity(capacity);
    engine.count_in(context.slot.clone());
    if !host::tells_statsd() {
        engine.tell(Statsd::open(&context.config).map_err(BootError::Boot)?);
    }
    if let Some(siblings) = context.siblings.take() {
        engine.join(siblings).map_err(|error| {
            BootError::Boot(format!("cannot watch for the other workers' connections: {error}"))
        })?;
    }
    Ok(engine)
}

/// Sees to it that a worker makes room for a fresh process after `max_requests`, and up to `max_requests_jitter` more, so
/// that workers don't all restart at once.
#[derive(Debug)]
pub(crate) struct Recycling {
    /// How many requests it answers; none for no limit, or once it was reached.
    after: Cell<Option<u64>>,
    slot: Slot,
}

impl Recycling {
    pub(crate) fn new(context: &WorkerContext) -> Recycling {
        let (most, jitter) = (context.config.max_requests, context.config.max_requests_jitter);
        let extra = match jitter.checked_add(1) {
            Some(range) => RandomState::new().hash_one(std::process::id()) % range,
            None => 0,
        };
        let after = (most > 0).then(|| most.saturating_add(extra));
        Recycling { after: Cell::new(after), slot: context.slot.clone() }
    }

    /// Whether the worker must end by itself, having answered so many requests. Where there is an arbiter, it is asked for
    /// another worker first, and says when this one may leave.
    #[inline]
    pub(crate) fn must_end(&self, answered: u64) -> bool {
        self.after.get().is_some_and(|most| answered >= most) && self.ask(answered)
    }

    #[cold]
    fn ask(&self, answered: u64) -> bool {
        self.after.set(None);
        tracing::info!("Worker has answered {answered} requests; making room for another");
        !self.slot.ask_for_relief()
    }

    /// Whether there is a limit that wasn't reached.
    #[cfg(feature = "python")]
    pub(crate) fn is_due(&self) -> bool {
        self.after.get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rgunicorn_core::config::Config;
    use rgunicorn_core::worker::Control;

    use super::*;

    fn recycling(max_requests: u64, max_requests_jitter: u64) -> Recycling {
        let config = Config { max_requests, max_requests_jitter, ..Config::default() };
        Recycling::new(&WorkerContext {
            config: Arc::new(config),
            listeners: Vec::new(),
            siblings: None,
            control: Control::detached().unwrap(),
            slot: Slot::default(),
            age: 0,
            generation: 1,
        })
    }

    #[test]
    fn jitter_stays_within_its_bounds() {
        let after = |most, jitter| recycling(most, jitter).after.get();
        assert_eq!(after(0, 50), None);
        for _ in 0..100 {
            assert!((200..=250).contains(&after(200, 50).unwrap()));
        }
        assert_eq!(after(7, 0), Some(7));
        assert_eq!(after(7, u64::MAX), Some(7));
    }

    #[test]
    fn a_worker_without_an_arbiter_ends_by_itself() {
        let recycling = recycling(7, 0);
        assert!(!recycling.must_end(6));
        assert!(recycling.must_end(7));
        assert!(!recycling.must_end(8), "it is said once");
    }
}
