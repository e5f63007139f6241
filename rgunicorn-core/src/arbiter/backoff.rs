//! How long to wait before another try.

/// The first wait, in milliseconds.
const FIRST: u64 = 100;
/// The longest wait, in milliseconds.
const LONGEST: u64 = 30_000;

/// Waits that double with each failure, until something succeeds.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    wait: u64,
    not_before: u64,
}

impl Backoff {
    /// Notes a failure at `now`. Those that come while a wait is on count as one: four workers that die of one cause
    /// are one failure.
    pub(super) fn failed(&mut self, now: u64) {
        if now >= self.not_before {
            self.wait = (self.wait * 2).clamp(FIRST, LONGEST);
            self.not_before = now + self.wait;
        }
    }

    /// Notes a success.
    pub(super) fn reset(&mut self) {
        *self = Backoff::default();
    }

    /// Whether another try may be made at `now`.
    pub(super) fn allows(&self, now: u64) -> bool {
        now >= self.not_before
    }

    /// When the next try may be made, in the milliseconds that `failed` was told; 0 for at once.
    pub(super) fn not_before(&self) -> u64 {
        self.not_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_start_anew() {
        let mut backoff = Backoff::default();
        assert!(backoff.allows(0));
        let mut now = 1000;
        let waits: Vec<u64> = (0..11)
            .map(|_| {
                backoff.failed(now);
                let wait = backoff.not_before() - now;
                now = backoff.not_before();
                wait
            })
            .collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        backoff.reset();
        backoff.failed(now);
        assert_eq!(backoff.not_before(), now + 100);
    }

    #[test]
    fn failures_within_a_wait_are_one() {
        let mut backoff = Backoff::default();
        backoff.failed(1000);
        backoff.failed(1000);
        backoff.failed(1099);
        assert_eq!(backoff.not_before(), 1100);
        assert!(!backoff.allows(1099) && backoff.allows(1100));
    }
}
