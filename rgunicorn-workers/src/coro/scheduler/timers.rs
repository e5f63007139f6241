//! When a waiting coroutine is to be woken up at the latest.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::Token;

/// The deadlines of waits. Those of waits that are over stay until they are due, or until they are too many.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Token)>>,
    /// How many there may be before those of waits that are over are swept out.
    sweep_at: usize,
}

impl Timers {
    const FEW: usize = 256;

    /// Adds one. `is_live` says which of the others still matter.
    pub(super) fn add(&mut self, due: Instant, token: Token, is_live: impl Fn(Token) -> bool) {
        if self.heap.len() >= self.sweep_at.max(Self::FEW) {
            self.heap.retain(|Reverse((_, token))| is_live(*token));
            self.sweep_at = self.heap.len() * 2;
        }
        self.heap.push(Reverse((due, token)));
    }

    /// When the first is due, be its wait over or not.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    /// Takes out one that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Token> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, token))| token)
    }
}

/// Takes out those that are due now, one after the other, so that others may be set meanwhile. Where none is set it doesn't
/// ask for the time.
pub(super) fn all_due(timers: &RefCell<Timers>) -> impl Iterator<Item = Token> {
    let now = timers.borrow().next().map(|_| Instant::now());
    std::iter::from_fn(move || timers.borrow_mut().pop_due(now?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn they_come_in_order_and_not_before_they_are_due() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        for key in [3, 1, 2] {
            timers.add(now + Duration::from_secs(key), Token { key: key as usize, serial: key }, |_| true);
        }
        assert_eq!(timers.pop_due(now), None);
        let due = |timers: &mut Timers, seconds| timers.pop_due(now + Duration::from_secs(seconds));
        assert_eq!(due(&mut timers, 2).map(|token| token.key), Some(1));
        assert_eq!(due(&mut timers, 2).map(|token| token.key), Some(2));
        assert_eq!(due(&mut timers, 2), None);
    }

    #[test]
    fn those_of_waits_that_are_over_do_not_pile_up() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        for serial in 0..100_000 {
            let due = now + Duration::from_secs(3600);
            timers.add(due, Token { key: 0, serial }, |token| token.serial + 10 > serial);
        }
        assert!(timers.heap.len() <= Timers::FEW, "{}", timers.heap.len());
    }
}
