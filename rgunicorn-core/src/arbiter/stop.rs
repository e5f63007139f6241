//! The way out.

use std::time::Duration;

use super::Master;
use crate::scoreboard::ArbiterState;
use crate::sys::clock::monotonic_ms;
use crate::sys::title;
use crate::worker::Stop;

/// That the arbiter is leaving, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    how: Stop,
    status: i32,
    reason: Option<&'static str>,
}

impl Master {
    /// Begins to leave: at once, or after having served for `stop_delay`, in which time whoever sends clients here can learn
    /// that it had better not.
    pub(super) fn end_later(&mut self) {
        let delay = self.current.config.stop_delay;
        if delay.is_zero() || self.serves_until.is_some() || self.ending.is_some() {
            return self.end(Stop::Graceful, 0, None);
        }
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX / 4);
        tracing::info!("Serving on for {:?} before stopping (stop_delay)", self.current.config.stop_delay);
        self.serves_until = Some(monotonic_ms() + delay);
        self.scoreboard.set_state(ArbiterState::Draining);
    }

    /// Begins to leave if that time is over.
    pub(super) fn end_if_due(&mut self, now: u64) {
        if self.serves_until.take_if(|until| now >= *until).is_some() {
            self.end(Stop::Graceful, 0, None);
        }
    }

    /// Begins to leave: stops listening, tells the workers. A quick end overtakes a graceful one; otherwise the first
    /// reason counts.
    pub(super) fn end(&mut self, how: Stop, status: i32, reason: Option<&'static str>) {
        match &mut self.ending {
            None => self.ending = Some(Ending { how, status, reason }),
            Some(ending) if how > ending.how => {
                tracing::info!("Quick shutdown requested");
                ending.how = how;
            }
            Some(_) => return,
        }
        self.scoreboard.set_state(ArbiterState::Stopping);
        title::state("stopping");
        match self.heir {
            Some(heir) => self.service.hands_over(heir),
            None => self.service.stops(),
        }
        self.stop_listening();
        self.workers.stop(how, monotonic_ms(), |_| true);
    }

    /// How long what is left in this process may still take once its workers are gone.
    pub(super) fn time_to_end(&self) -> Duration {
        match self.ending {
            Some(Ending { how: Stop::Graceful, .. }) => self.current.config.graceful_timeout.max(Stop::QUICK),
            _ => Stop::QUICK,
        }
    }

    /// The exit status, once all workers are gone.
    pub(super) fn over(&mut self, now: u64) -> Option<i32> {
        let Ending { status, reason, .. } = self.ending?;
        if !self.workers.is_empty() && !self.workers.hopeless(now) {
            return None;
        }
        let log = |line: &str| if status == 0 { tracing::info!("{line}") } else { tracing::error!("{line}") };
        log("Shutting down: Master");
        if let Some(reason) = reason {
            log(&format!("Reason: {reason}"));
        }
        self.close();
        self.hooks.on_exit();
        Some(status)
    }
}
