//! What takes too long: workers that give no sign of life, and requests. Said in the log with what was going on.

use super::Master;
use super::reports::For;
use super::workers::{Fate, Worker, Workers};
use crate::critical;
use crate::scoreboard::{Event, RunningRequest, Scoreboard};
use crate::sys::fork::Pid;
use crate::sys::signals::Signal;

/// How often running requests are looked at where slow ones are to be told, in milliseconds: at the most and the least.
const LOOK: (u64, u64) = (500, 20);

impl Master {
    /// Looks for slow requests, and for the tracebacks that workers were asked for.
    pub(super) fn see_what_hangs(&mut self, now: u64) {
        self.workers.note_slow(now, &self.scoreboard);
        for (pid, text, wanted) in self.workers.look_for_reports(now) {
            for who in wanted {
                match who {
                    For::Log => log(pid, &text),
                    For::Visitor(id) => self.desk.hand_in(id, pid.as_raw(), &text),
                }
            }
        }
    }

    /// What a worker that has ended still has to say.
    pub(super) fn take_last_words(&mut self, worker: &mut Worker) {
        let (text, wanted) = worker.reports.leave();
        if let Some(text) = text {
            log(worker.pid, &text);
        }
        for who in wanted {
            if let For::Visitor(id) = who {
                self.desk.hand_in(id, worker.pid.as_raw(), "It has ended meanwhile.");
            }
        }
    }
}

fn log(pid: Pid, text: &str) {
    match text {
        "" => tracing::error!("Worker (pid:{pid}) did not say what it was doing"),
        text => tracing::error!("Worker (pid:{pid}) was here:\n{text}"),
    }
}

impl Workers {
    /// Aborts those that should have given a sign of life, once they had a moment to say what they were doing.
    pub(super) fn abort_hung(&mut self, now: u64, scoreboard: &Scoreboard) {
        for worker in self.overdue(now, scoreboard) {
            critical!("WORKER TIMEOUT (pid:{})", worker.pid);
            scoreboard.count(Event::Timeout);
            for request in scoreboard.running(worker.slot).iter().filter(|request| request.inside) {
                tracing::error!("Worker (pid:{}) was in {}", worker.pid, described(request, now));
            }
            worker.hangs(now);
            worker.reports.ask(worker.pid, now, For::Log);
        }
    }

    /// Says which requests take longer than `slow_request`, each once.
    fn note_slow(&mut self, now: u64, scoreboard: &Scoreboard) {
        for worker in self.minding_slow() {
            let running = scoreboard.running(worker.slot);
            worker.slow_ones.retain(|number| running.iter().any(|request| request.number == *number));
            let is_slow = |request: &&RunningRequest| {
                request.inside && now.saturating_sub(request.since) >= worker.slow
            };
            let slow: Vec<_> =
                running.iter().filter(is_slow).filter(|it| !worker.slow_ones.contains(&it.number)).collect();
            for request in &slow {
                scoreboard.count(Event::SlowRequest);
                tracing::warn!("Slow request: worker (pid:{}) is in {}", worker.pid, described(request, now));
                worker.slow_ones.push(request.number);
            }
            if !slow.is_empty() {
                worker.reports.ask(worker.pid, now, For::Log);
            }
        }
    }

    fn look_for_reports(&mut self, now: u64) -> Vec<(Pid, String, Vec<For>)> {
        let mut found = Vec::new();
        for worker in self.all_mut() {
            let Some((text, wanted)) = worker.reports.look(worker.pid, now) else { continue };
            found.push((worker.pid, text, wanted));
            if matches!(worker.fate, Fate::Hangs { .. }) {
                worker.hangs(now);
                worker.send(Signal::SIGABRT);
            }
        }
        found
    }

    /// Asks workers for their tracebacks, for somebody at the desk.
    pub(super) fn ask_for_reports(&mut self, pids: &[i32], now: u64, visitor: u64) {
        for worker in self.all_mut().filter(|worker| pids.contains(&worker.pid.as_raw())) {
            worker.reports.ask(worker.pid, now, For::Visitor(visitor));
        }
    }

    /// When to look at these things again.
    pub(super) fn look_due(&mut self, now: u64) -> Option<u64> {
        let slow = self.minding_slow().map(|worker| now + (worker.slow / 4).clamp(LOOK.1, LOOK.0)).min();
        let reports = self.all_mut().filter_map(|worker| worker.reports.due(now)).min();
        slow.into_iter().chain(reports).min()
    }
}

fn described(request: &RunningRequest, now: u64) -> String {
    let RunningRequest { method, target, client, since, .. } = request;
    let tenths = now.saturating_sub(*since) / 100;
    let client = if client.is_empty() { "on a Unix socket" } else { client };
    format!("{method} {target} for {}.{} s, client {client}", tenths / 10, tenths % 10)
}
