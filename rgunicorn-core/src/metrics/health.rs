//! Whether the server lives, and is ready.

use std::fmt::Write as _;

use super::Snapshot;
use crate::scoreboard::{Scoreboard, WorkerState};
use crate::sys::clock::monotonic_ms;

/// The answer to a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Whether requests are welcome.
    pub ready: bool,
    /// Why, in a word.
    pub status: &'static str,
    /// Workers that could answer.
    pub workers: usize,
}

impl Health {
    /// How the server is.
    pub fn of(scoreboard: &Scoreboard) -> Health {
        let now = monotonic_ms();
        let workers: Vec<_> = scoreboard.views().collect();
        let serving: Vec<_> = workers
            .iter()
            .filter(|(_, view)| view.booted && matches!(view.state, WorkerState::Idle | WorkerState::Busy))
            .collect();
        let free = serving.iter().filter(|(slot, _)| !scoreboard.is_stuck(*slot, now)).count();
        let status = if !scoreboard.arbiter().running {
            "draining"
        } else if serving.is_empty() {
            "starting"
        } else if free == 0 {
            "stuck"
        } else {
            "ready"
        };
        Health { ready: status == "ready", status, workers: free }
    }

    /// The status line and the body, which is JSON, for a path below that of the health check: `/live` says that somebody
    /// answers, anything else whether requests are welcome.
    pub fn answer(scoreboard: &Scoreboard, below: &str) -> (&'static str, String) {
        let health = Health::of(scoreboard);
        let mut body = String::new();
        let live = below == "/live";
        let status = if live { "live" } else { health.status };
        let _ = writeln!(body, r#"{{"status": "{status}", "workers": {}}}"#, health.workers);
        (if live || health.ready { "200 OK" } else { "503 Service Unavailable" }, body)
    }
}

impl Snapshot {
    /// The share of what can run at once that runs: of threads, coroutines or processes.
    pub fn capacity(&self) -> (u64, u64) {
        let serving = self
            .workers
            .iter()
            .map(|worker| &worker.view)
            .filter(|view| view.booted && view.state != WorkerState::Stopping);
        serving.fold((0, 0), |(busy, all), view| {
            let own = view.busy.min(view.capacity);
            (u64::saturating_add(busy, own), u64::saturating_add(all, view.capacity))
        })
    }
}
