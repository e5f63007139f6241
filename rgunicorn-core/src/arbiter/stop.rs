//! The way out.

use super::Master;
use super::generation::unlink_all_but;
use crate::scoreboard::ArbiterState;
use crate::sys::clock::monotonic_ms;
use crate::worker::Stop;

/// That the arbiter is leaving, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    how: Stop,
    status: i32,
    reason: Option<&'static str>,
}

impl Master {
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
        for generation in self.next.iter_mut().chain([&mut self.current]) {
            unlink_all_but(&std::mem::take(&mut generation.listeners), &[]);
        }
        self.workers.stop(how, monotonic_ms(), |_| true);
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
        Some(status)
    }
}
