//! Answers that are kept back for a moment, to be sent with others.
//!
//! Where many requests wait and each is answered fast, a few answers are sent at once: a client, or a proxy, that has to be
//! woken up for every single one costs the worker more than the sending. None is kept for longer than [`HELD`], but for a
//! call that takes longer than those before it.

use std::time::{Duration, Instant};

use rgunicorn_core::engine::{Engine, Exchange};

/// A call of the application that takes less than this is a fast one: so, it is supposed, will be the next.
const FAST: Duration = Duration::from_micros(200);
/// How long an answer may be kept to be sent with others.
const HELD: Duration = Duration::from_micros(500);

/// What a turn keeps back.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    /// When the first of the answers that are kept was there; none where the last call was slow.
    since: Option<Instant>,
}

impl Holding {
    /// Has an exchange that is about to be advanced keep its answer back, if it should.
    pub(crate) fn prepare(&self, engine: &Engine, exchange: &mut Exchange) {
        if self.since.is_some() && engine.queued() > 0 {
            exchange.hold();
        }
    }

    /// An exchange that was taken at `before` was given back.
    pub(crate) fn given_back(&mut self, engine: &mut Engine, before: Instant) {
        let now = engine.now();
        let fast = now.duration_since(before) < FAST;
        let since = self.since.filter(|since| fast && now.duration_since(*since) < HELD);
        if since.is_none() {
            engine.send_held();
        }
        self.since = fast.then(|| since.unwrap_or(now));
    }
}
