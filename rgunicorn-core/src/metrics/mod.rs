//! What the server says about itself: metrics for Prometheus, and whether it is well.
//!
//! All of it is read from the [scoreboard](crate::scoreboard), at the moment somebody asks, by whoever is asked: the arbiter
//! (`metrics_bind`) or any worker (`metrics_path`, `health_path`). Nobody's work is interrupted for it.
//!
//! | module | what it is |
//! | --- | --- |
//! | `prometheus` | the text that Prometheus reads |
//! | `health` | whether the server lives, and is ready |
//! | `process` | memory and processor time of a process, as the kernel tells |

mod health;
mod process;
mod prometheus;

use crate::scoreboard::{ArbiterView, Counters, Scoreboard, SlotId, SlotView};
use crate::sys::clock::monotonic_ms;

pub use health::Health;
pub use process::Usage;

/// What is known of the connections that no worker has accepted yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenQueue {
    /// The listener's address.
    pub address: String,
    /// How many connections wait.
    pub waiting: u32,
    /// How many there is room for.
    pub room: u32,
}

/// A worker at some moment.
#[derive(Debug, Clone)]
pub struct WorkerView {
    /// Its slot.
    pub slot: SlotId,
    /// What it says.
    pub view: SlotView,
    /// What the kernel says; none if it is gone.
    pub usage: Option<Usage>,
    /// Whether all that it can run hangs.
    pub stuck: bool,
}

/// All that metrics are made from, as it was at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When, in milliseconds of the monotonic clock.
    pub at: u64,
    /// The arbiter.
    pub arbiter: ArbiterView,
    /// What the kernel says of the arbiter.
    pub arbiter_usage: Option<Usage>,
    /// What all workers that are, and that were, have counted.
    pub totals: Counters,
    /// The workers that are.
    pub workers: Vec<WorkerView>,
    /// The listen queues, as far as the kernel tells.
    pub queues: Vec<ListenQueue>,
}

impl Snapshot {
    /// Takes one.
    pub fn take(scoreboard: &Scoreboard, queues: Vec<ListenQueue>) -> Snapshot {
        let (at, arbiter) = (monotonic_ms(), scoreboard.arbiter());
        let worker = |(slot, view): (SlotId, SlotView)| WorkerView {
            slot,
            view,
            usage: Usage::of(view.pid),
            stuck: scoreboard.is_stuck(slot, at),
        };
        Snapshot {
            at,
            arbiter,
            arbiter_usage: Usage::of(arbiter.pid),
            totals: scoreboard.totals(),
            workers: scoreboard.views().map(worker).collect(),
            queues,
        }
    }
}
