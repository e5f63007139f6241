//! How long things took, counted by magnitude.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::{add, sum};
use crate::sys::memory::shared_struct;

/// The upper bounds of the buckets, in microseconds, each included; what takes longer is in one more.
pub const BOUNDS: [u64; 19] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

shared_struct! {
    /// Counts and sum, in order.
    pub(super) struct SharedHistogram {
        /// In nanoseconds. Here it is in one cache line with the counts of what is quick.
        sum: AtomicU64,
        counts: [AtomicU64; BOUNDS.len() + 1],
    }
}

impl SharedHistogram {
    /// For the one writer.
    #[inline]
    pub(super) fn record(&self, took: Duration) {
        let nanoseconds = took.as_nanos() as u64;
        let microseconds = nanoseconds.div_ceil(1000);
        let bucket = BOUNDS.iter().position(|bound| microseconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.counts.get(bucket) {
            add(count, 1);
        }
        add(&self.sum, nanoseconds);
    }

    pub(super) fn read(&self) -> Histogram {
        let mut counts = [0; BOUNDS.len() + 1];
        counts.iter_mut().zip(&self.counts).for_each(|(copy, count)| *copy = count.load(Relaxed));
        Histogram { counts, nanoseconds: self.sum.load(Relaxed) }
    }
}

/// What a histogram says at some moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many fell under each of [`BOUNDS`] and over the bound before, and at last how many over all.
    pub counts: [u64; BOUNDS.len() + 1],
    /// All of them together.
    pub nanoseconds: u64,
}

impl Histogram {
    /// How many there are.
    pub fn count(&self) -> u64 {
        sum(self.counts)
    }

    /// Adds what another one has.
    pub fn add(&mut self, other: &Histogram) {
        self.counts
            .iter_mut()
            .zip(&other.counts)
            .for_each(|(count, more)| *count = count.wrapping_add(*more));
        self.nanoseconds = self.nanoseconds.wrapping_add(other.nanoseconds);
    }

    /// What has come since `before`.
    pub fn since(&self, before: &Histogram) -> Histogram {
        let mut counts = self.counts;
        counts.iter_mut().zip(&before.counts).for_each(|(count, old)| *count = count.wrapping_sub(*old));
        Histogram { counts, nanoseconds: self.nanoseconds.wrapping_sub(before.nanoseconds) }
    }

    /// The time that this share (of 1) took no longer than, estimated within its bucket; none if there is nothing.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = share * self.count() as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (index, count) in self.counts.iter().enumerate() {
            // Over the last bound nothing is known but that.
            let upper = BOUNDS.get(index).map_or(lower, |bound| *bound as f64);
            let count = *count as f64;
            if count > 0.0 && below + count >= rank {
                let microseconds = lower + (upper - lower) * ((rank - below) / count).clamp(0.0, 1.0);
                return Some(Duration::from_nanos((microseconds * 1000.0) as u64));
            }
            (below, lower) = (below + count, upper);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory::Shared;

    #[test]
    fn times_fall_into_their_buckets() {
        let shared = Shared::<SharedHistogram>::private();
        for (nanoseconds, bucket) in [
            (0, 0),
            (50_000, 0),
            (50_001, 1),
            (100_000, 1),
            (1_000_000, 4),
            (60_000_000_000, 18),
            (u64::MAX / 2, 19),
        ] {
            let before = shared.read();
            shared.record(Duration::from_nanos(nanoseconds));
            let new = shared.read().since(&before);
            assert_eq!((new.count(), new.counts[bucket], new.nanoseconds), (1, 1, nanoseconds));
        }
    }

    #[test]
    fn quantiles_are_estimated_within_a_bucket() {
        let shared = Shared::<SharedHistogram>::private();
        assert_eq!(shared.read().quantile(0.5), None);
        for _ in 0..99 {
            shared.record(Duration::from_micros(150));
        }
        shared.record(Duration::from_secs(3));
        let all = shared.read();
        let middle = all.quantile(0.5).unwrap();
        assert!(middle > Duration::from_micros(100) && middle < Duration::from_micros(200), "{middle:?}");
        assert!(all.quantile(0.999).unwrap() > Duration::from_secs(2));
    }
}
