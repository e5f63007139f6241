//! The text that Prometheus reads (exposition format 0.0.4).

use std::fmt::{Display, Write};

use super::Snapshot;
use crate::VERSION;
use crate::scoreboard::{BOUNDS, Cause, Histogram, WorkerState};

/// Writes one metric after the other. A `String` takes anything, so the results of `write!` say nothing.
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A line of the metric; `labels` without the braces.
    fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.line(name, "", value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let mut so_far = 0_u64;
        for (index, count) in histogram.counts.iter().enumerate() {
            so_far = count.wrapping_add(so_far);
            let bound = BOUNDS.get(index).map(|bound| (*bound as f64 / 1e6).to_string());
            let label = format!("le=\"{}\"", bound.as_deref().unwrap_or("+Inf"));
            self.line(&format!("{name}_bucket"), &label, so_far);
        }
        self.line(&format!("{name}_sum"), "", histogram.nanoseconds as f64 / 1e9);
        self.line(&format!("{name}_count"), "", so_far);
    }
}

/// A label's value: what has a meaning in one is escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

impl Snapshot {
    /// The media type of [`prometheus`](Self::prometheus).
    pub const PROMETHEUS: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// The metrics.
    pub fn prometheus(&self) -> String {
        let mut text = Text(String::with_capacity(8 * 1024));
        self.requests(&mut text);
        self.workers(&mut text);
        self.server(&mut text);
        text.0
    }

    fn requests(&self, text: &mut Text) {
        let totals = &self.totals;
        let name = "rgunicorn_requests_total";
        text.head(name, "counter", "Requests by the class of their answer; \"none\" got no answer.");
        for (class, count) in totals.answers.iter().enumerate() {
            let label = if class == 0 { "none".to_owned() } else { format!("{class}xx") };
            text.line(name, &format!("status=\"{label}\""), count);
        }
        text.histogram(
            "rgunicorn_request_duration_seconds",
            "From a request's arrival to the end of its answer.",
            &totals.duration,
        );
        text.histogram(
            "rgunicorn_request_queue_seconds",
            "From a request's arrival to the call of the application.",
            &totals.queued,
        );
        let all = |number: fn(&crate::scoreboard::SlotView) -> u64| -> u64 {
            self.workers.iter().map(|worker| number(&worker.view)).fold(0, u64::saturating_add)
        };
        text.one(
            "rgunicorn_requests_in_flight",
            "gauge",
            "Requests that the application was called for and whose answers are not out.",
            all(|view| view.in_flight),
        );
        text.one(
            "rgunicorn_connections",
            "gauge",
            "Open connections of clients.",
            all(|view| view.connections),
        );
        text.one("rgunicorn_connections_accepted_total", "counter", "Connections accepted.", totals.accepted);
        text.one(
            "rgunicorn_received_bytes_total",
            "counter",
            "Bytes received from clients.",
            totals.received,
        );
        text.one("rgunicorn_sent_bytes_total", "counter", "Bytes sent to clients.", totals.sent);
        text.head("rgunicorn_listen_queue", "gauge", "Connections that no worker has accepted yet.");
        for queue in &self.queues {
            let label = format!("listener=\"{}\"", escaped(&queue.address));
            text.line("rgunicorn_listen_queue", &label, queue.waiting);
        }
        text.head(
            "rgunicorn_listen_queue_limit",
            "gauge",
            "How many connections a listen queue has room for.",
        );
        for queue in &self.queues {
            let label = format!("listener=\"{}\"", escaped(&queue.address));
            text.line("rgunicorn_listen_queue_limit", &label, queue.room);
        }
        let (busy, capacity) = self.capacity();
        text.one(
            "rgunicorn_capacity",
            "gauge",
            "Requests that the application can be in at once: processes, threads or coroutines.",
            capacity,
        );
        text.one("rgunicorn_capacity_busy", "gauge", "How many of those it is in.", busy);
        let share = if capacity == 0 { 0.0 } else { busy as f64 / capacity as f64 };
        text.one("rgunicorn_capacity_used_ratio", "gauge", "The one divided by the other.", share);
    }

    fn workers(&self, text: &mut Text) {
        let name = "rgunicorn_workers";
        text.head(name, "gauge", "Worker processes by state.");
        for state in [WorkerState::Booting, WorkerState::Idle, WorkerState::Busy, WorkerState::Stopping] {
            let count = self.workers.iter().filter(|worker| worker.view.state == state).count();
            text.line(name, &format!("state=\"{}\"", state.name()), count);
        }
        text.one(
            "rgunicorn_workers_stuck",
            "gauge",
            "Worker processes all of whose requests hang.",
            self.workers.iter().filter(|worker| worker.stuck).count(),
        );
        text.one(
            "rgunicorn_workers_target",
            "gauge",
            "How many worker processes there should be.",
            self.arbiter.target,
        );
        text.one(
            "rgunicorn_workers_started_total",
            "counter",
            "Worker processes started.",
            self.arbiter.spawned,
        );
        let name = "rgunicorn_worker_exits_total";
        text.head(name, "counter", "Worker processes that have ended, by cause.");
        for (cause, count) in Cause::ALL.iter().zip(&self.arbiter.ended) {
            text.line(name, &format!("cause=\"{}\"", cause.name()), count);
        }
        text.one(
            "rgunicorn_worker_timeouts_total",
            "counter",
            "Workers that gave no sign of life for their timeout.",
            self.arbiter.timeouts,
        );
        text.one(
            "rgunicorn_slow_requests_total",
            "counter",
            "Requests that took longer than slow_request.",
            self.arbiter.slow_requests,
        );
        let each = |text: &mut Text, name: &str, value: &dyn Fn(&super::Usage) -> f64| {
            for worker in &self.workers {
                if let Some(usage) = &worker.usage {
                    text.line(name, &format!("worker=\"{}\"", worker.slot.index()), value(usage));
                }
            }
        };
        let name = "rgunicorn_worker_resident_memory_bytes";
        text.head(
            name,
            "gauge",
            "Resident memory of a worker process; a label is used again after its worker's end.",
        );
        each(text, name, &|usage| usage.resident as f64);
        let name = "rgunicorn_worker_cpu_seconds_total";
        text.head(name, "counter", "Processor time of a worker process.");
        each(text, name, &|usage| usage.processor);
    }

    fn server(&self, text: &mut Text) {
        let arbiter = &self.arbiter;
        let name = "rgunicorn_reloads_total";
        text.head(name, "counter", "Reloads by result.");
        text.line(name, "result=\"ok\"", arbiter.reloads);
        text.line(name, "result=\"failed\"", arbiter.failed_reloads);
        text.one(
            "rgunicorn_generation",
            "gauge",
            "The generation of workers that serves.",
            arbiter.generation,
        );
        text.one(
            "rgunicorn_up_seconds",
            "gauge",
            "For how long the arbiter has been running.",
            self.at.saturating_sub(arbiter.started) as f64 / 1000.0,
        );
        if let Some(usage) = &self.arbiter_usage {
            text.one(
                "rgunicorn_arbiter_resident_memory_bytes",
                "gauge",
                "Resident memory of the arbiter.",
                usage.resident,
            );
        }
        text.head("rgunicorn_info", "gauge", "The version.");
        text.line("rgunicorn_info", &format!("version=\"{VERSION}\""), 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::metrics::ListenQueue;
    use crate::scoreboard::{Ended, Event, Scoreboard};

    #[test]
    fn what_workers_have_counted_is_summed_dead_ones_included() {
        let board = Scoreboard::new().unwrap();
        for generation in 1..=2 {
            let id = board.claim(generation).unwrap();
            let slot = board.slot(id);
            slot.booted();
            slot.count_request(Ended { status: 200, took: Duration::from_millis(3) });
            slot.count_bytes(10, 20);
            if generation == 1 {
                board.free(id);
            } else {
                slot.set_capacity(4);
                slot.set_busy(1);
                slot.begin_request(0, 1, Instant::now(), b"GET /", b"");
            }
        }
        board.count(Event::Ended(Cause::Recycled));
        let queue = ListenQueue { address: "http://\"x\"".into(), waiting: 3, room: 7 };
        let text = Snapshot::take(&board, vec![queue]).prometheus();
        for line in [
            "rgunicorn_requests_total{status=\"2xx\"} 2",
            "rgunicorn_request_duration_seconds_bucket{le=\"0.002\"} 0",
            "rgunicorn_request_duration_seconds_bucket{le=\"0.005\"} 2",
            "rgunicorn_request_duration_seconds_bucket{le=\"+Inf\"} 2",
            "rgunicorn_request_duration_seconds_sum 0.006",
            "rgunicorn_request_duration_seconds_count 2",
            "rgunicorn_received_bytes_total 20",
            "rgunicorn_sent_bytes_total 40",
            "rgunicorn_workers{state=\"busy\"} 1",
            "rgunicorn_capacity_used_ratio 0.25",
            "rgunicorn_worker_exits_total{cause=\"recycled\"} 1",
            "rgunicorn_listen_queue{listener=\"http://\\\"x\\\"\"} 3",
        ] {
            assert!(text.lines().any(|has| has == line), "{line} is missing in\n{text}");
        }
        // Each name has its head once, and nothing is said before it.
        let mut heads = std::collections::HashSet::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("# HELP ") {
                assert!(heads.insert(name.split(' ').next().unwrap()), "{line}");
            }
        }
    }
}
