//! More workers while those there are are busy, fewer once they aren't (`workers_max`, `workers_idle`).
//!
//! Twice a second the arbiter looks how much of what the workers can run at once is in use, connections that nobody has
//! accepted included, and how much of a processor they take. Over 80 % of either, on average over some two seconds, there is
//! one worker more, until it has booted no second one; when one fewer would have been half busy at most for
//! `workers_idle`, there is one fewer.

use std::collections::HashMap;

use super::Master;
use crate::metrics::Usage;
use crate::scoreboard::WorkerState;

/// How often workers are looked at, in milliseconds.
const EVERY: u64 = 500;
/// How much a look counts in the average.
const WEIGHT: f64 = 0.25;
/// From here on they are busy.
const BUSY: f64 = 0.8;
/// Up to here they would have time.
const CALM: f64 = 0.5;

/// What the looks so far have come to.
#[derive(Debug, Default)]
pub(super) struct Adaptation {
    looked: u64,
    average: f64,
    /// Since when one worker fewer would do; in milliseconds.
    calm_since: Option<u64>,
    /// Processor time by process, in seconds, as of the last look.
    processor: HashMap<i32, f64>,
}

/// How many workers there should be, and between which numbers that may be.
#[derive(Debug, Clone, Copy)]
struct Range {
    now: usize,
    least: usize,
    most: usize,
    /// For how long they must be calm, in milliseconds.
    idle: u64,
}

impl Adaptation {
    /// Takes in the share in use at `now`; answers how many workers there should be.
    fn look(&mut self, used: f64, now: u64, range: Range) -> usize {
        self.average += (used - self.average) * WEIGHT;
        let with_one_less = self.average * range.now as f64 / (range.now.saturating_sub(1)) as f64;
        if self.average > BUSY {
            self.calm_since = None;
            return range.now.saturating_add(1).min(range.most.max(range.now));
        }
        if range.now <= range.least || with_one_less > CALM {
            self.calm_since = None;
            return range.now;
        }
        let since = *self.calm_since.get_or_insert(now);
        if now.saturating_sub(since) < range.idle {
            return range.now;
        }
        self.calm_since = Some(now);
        range.now - 1
    }
}

impl Master {
    /// When workers are looked at next, in milliseconds; none if their number doesn't change by itself.
    pub(super) fn next_look(&self) -> Option<u64> {
        let config = &self.current.config;
        (config.workers_max > config.workers).then_some(self.adaptation.looked + EVERY)
    }

    /// Has the number of workers follow what there is to do.
    pub(super) fn adapt(&mut self, now: u64) {
        if self.next_look().is_none_or(|due| now < due) || self.next.is_some() {
            return;
        }
        let passed = now.saturating_sub(self.adaptation.looked);
        self.adaptation.looked = now;
        let Some(used) = self.used(passed) else { return };
        let config = &self.current.config;
        let idle = config.workers_idle.as_millis().try_into().unwrap_or(u64::MAX);
        let range = Range { now: self.current.target, least: config.workers, most: config.workers_max, idle };
        let wanted = self.adaptation.look(used, now, range);
        if wanted != range.now {
            let percent = (self.adaptation.average * 100.0).round();
            tracing::info!("Workers are {percent} % busy: {wanted} workers, instead of {}", range.now);
            if wanted > range.now {
                // It is to be seen first what that comes to.
                self.adaptation.average = CALM;
            }
            self.resize(|_| wanted);
        }
    }

    /// The share of what the workers can do that they do; none while one of them boots.
    fn used(&mut self, passed: u64) -> Option<f64> {
        let (mut busy, mut capacity, mut processor, mut count) = (0_u64, 0_u64, 0.0, 0);
        let mut times = HashMap::new();
        for (_, view) in self.scoreboard.views() {
            if view.generation != self.current.number || view.state == WorkerState::Stopping {
                continue;
            }
            if !view.booted {
                return None;
            }
            (busy, capacity) = (busy.saturating_add(view.busy), capacity.saturating_add(view.capacity));
            count += 1;
            let pid = i32::try_from(view.pid).unwrap_or(0);
            if let Some(time) = Usage::of(view.pid).map(|usage| usage.processor) {
                let before = self.adaptation.processor.get(&pid).copied().unwrap_or(time);
                processor += time - before;
                times.insert(pid, time);
            }
        }
        self.adaptation.processor = times;
        if capacity == 0 || count == 0 || passed == 0 {
            return None;
        }
        let waiting: u64 = self
            .current
            .listeners
            .iter()
            .filter_map(|listener| listener.queue())
            .map(|queue| u64::from(queue.waiting))
            .sum();
        let in_use = busy.saturating_add(waiting) as f64 / capacity as f64;
        let computing = processor / (passed as f64 / 1000.0) / f64::from(count);
        Some(in_use.max(computing).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks for so many seconds at the same share; answers the number of workers after each second.
    fn watch(
        adaptation: &mut Adaptation,
        from: u64,
        seconds: u64,
        used: impl Fn(usize) -> f64,
        mut now: usize,
    ) -> Vec<usize> {
        let mut counts = Vec::new();
        for tick in 1..=seconds * 2 {
            let range = Range { now, least: 2, most: 5, idle: 10_000 };
            now = adaptation.look(used(now), from + tick * EVERY, range);
            if tick % 2 == 0 {
                counts.push(now);
            }
        }
        counts
    }

    #[test]
    fn they_grow_to_the_most_and_shrink_to_the_least() {
        let mut adaptation = Adaptation::default();
        let grown = watch(&mut adaptation, 0, 10, |_| 1.0, 2);
        assert_eq!(grown[0], 2, "not at the first look: {grown:?}");
        assert_eq!(grown.last(), Some(&5), "{grown:?}");
        let shrunk = watch(&mut adaptation, 10_000, 60, |_| 0.0, 5);
        assert!(shrunk.is_sorted_by(|a, b| a >= b) && shrunk[5] == 5, "{shrunk:?}");
        assert_eq!(shrunk.last(), Some(&2), "{shrunk:?}");
    }

    #[test]
    fn a_steady_load_comes_to_rest() {
        for load in [0.5, 1.0, 1.9, 2.5, 3.1] {
            let mut adaptation = Adaptation::default();
            let counts = watch(&mut adaptation, 0, 200, |workers| (load / workers as f64).min(1.0), 2);
            let rest = &counts[100..];
            assert!(rest.iter().all(|count| *count == rest[0]), "{load}: {counts:?}");
            assert!(
                rest[0] as f64 * BUSY >= load.min(5.0 * BUSY) - 0.01 || rest[0] == 5,
                "{load}: {counts:?}"
            );
        }
    }

    #[test]
    fn more_than_the_most_may_be_asked_for_by_signal() {
        let mut adaptation = Adaptation { average: 1.0, ..Adaptation::default() };
        let range = Range { now: 7, least: 2, most: 5, idle: 10_000 };
        assert_eq!(adaptation.look(1.0, 500, range), 7);
    }
}
