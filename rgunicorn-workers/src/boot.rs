//! What every class does on its way to a running worker.

use std::hash::{BuildHasher, RandomState};

use rgunicorn_core::app::{Application, Loader};
use rgunicorn_core::engine::{Engine, EngineConfig};
use rgunicorn_core::log::AccessLog;
use rgunicorn_core::worker::{BootError, WorkerContext};

/// Loads the application, and makes the engine that will serve it.
///
/// # Errors
/// What the loader says; a log or a listener that can't be used.
pub(crate) fn boot(
    context: &mut WorkerContext,
    loader: &dyn Loader,
    config: EngineConfig,
) -> Result<(Box<dyn Application>, Engine), BootError> {
    let mut application = loader.load(context)?;
    let access = AccessLog::open(&context.config).map_err(|error| BootError::Boot(error.to_string()))?;
    if let Some(access) = &access {
        application.want_variables(access.variables());
    }
    let engine = Engine::new(std::mem::take(&mut context.listeners), config, access)
        .map_err(|error| BootError::Boot(format!("cannot start the engine: {error}")))?;
    Ok((application, engine))
}

/// How many requests a worker answers before it makes room for a fresh process: `max_requests`, and up to
/// `max_requests_jitter` more, so that workers don't all restart at once. None for no limit.
pub(crate) fn recycle_after(context: &WorkerContext) -> Option<u64> {
    let (most, jitter) = (context.config.max_requests, context.config.max_requests_jitter);
    let extra = match jitter.checked_add(1) {
        Some(range) => RandomState::new().hash_one(std::process::id()) % range,
        None => 0,
    };
    (most > 0).then(|| most.saturating_add(extra))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rgunicorn_core::config::Config;
    use rgunicorn_core::scoreboard::Slot;
    use rgunicorn_core::worker::Control;

    use super::*;

    fn after(max_requests: u64, max_requests_jitter: u64) -> Option<u64> {
        let config = Config { max_requests, max_requests_jitter, ..Config::default() };
        recycle_after(&WorkerContext {
            config: Arc::new(config),
            listeners: Vec::new(),
            control: Control::detached().unwrap(),
            slot: Slot::default(),
            age: 0,
            generation: 1,
        })
    }

    #[test]
    fn jitter_stays_within_its_bounds() {
        assert_eq!(after(0, 50), None);
        for _ in 0..100 {
            assert!((200..=250).contains(&after(200, 50).unwrap()));
        }
        assert_eq!(after(7, 0), Some(7));
        assert_eq!(after(7, u64::MAX), Some(7));
    }
}
