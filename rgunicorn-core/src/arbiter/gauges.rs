//! What the arbiter tells StatsD: how many workers there are and, if wanted, how many connections wait.

use super::Master;
use crate::log;

/// From one telling to the next, in milliseconds; gunicorn's.
const PAUSE: u64 = 1000;

impl Master {
    /// When StatsD is told again, in milliseconds; none if it never is.
    pub(super) fn next_gauges(&self) -> Option<u64> {
        self.current.config.statsd_host.is_some().then_some(self.told + PAUSE)
    }

    pub(super) fn tell_gauges(&mut self, now: u64) {
        if self.next_gauges().is_none_or(|next| now < next) {
            return;
        }
        self.told = now;
        let workers = self.workers.pids().len() as u64;
        let waiting = self.current.config.enable_backlog_metric.then(|| {
            let queues = self.current.listeners.iter().filter_map(|listener| listener.queue());
            queues.map(|queue| u64::from(queue.waiting)).sum()
        });
        log::with_statsd(|statsd| {
            statsd.gauge("gunicorn.workers", workers);
            if let Some(waiting) = waiting {
                // As gunicorn has it, and on purpose: how it varies is what counts.
                statsd.histogram("gunicorn.backlog", waiting);
            }
        });
    }
}
