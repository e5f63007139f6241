//! CPython's switch interval where many threads wait for its lock.
//!
//! Each thread that waits for the lock wakes up once an interval to ask for it. A thousand that wait 5 ms at a time wake up
//! 200,000 times a second: the processor does nothing else, and the one that has the lock doesn't get on. So the interval
//! grows with the threads, and the number of those awakenings does not.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

/// CPython's own interval, in microseconds.
const USUAL: u64 = 5000;
/// Up to so many threads keep the usual one, by which quick requests get their turn beside those that compute.
const FEW: u64 = 128;

/// What the interval was last set to.
#[derive(Debug)]
pub(super) struct Switching {
    ours: AtomicU64,
}

impl Switching {
    pub(super) fn new() -> Self {
        Switching { ours: AtomicU64::new(USUAL) }
    }

    /// Suits the interval to so many threads. One that somebody else has set is left alone.
    ///
    /// # Errors
    /// A Python exception, such as that of an application that has replaced the functions.
    pub(super) fn suit(&self, py: Python<'_>, threads: usize) -> PyResult<()> {
        let sys = py.import("sys")?;
        let seconds: f64 = sys.call_method0("getswitchinterval")?.extract()?;
        // A whole number of microseconds to CPython, which tells it in seconds.
        if (seconds * 1e6).round() as u64 != self.ours.load(Ordering::Relaxed) {
            return Ok(());
        }
        let suited = USUAL * (threads as u64).max(FEW) / FEW;
        sys.call_method1("setswitchinterval", (suited as f64 / 1e6,))?;
        self.ours.store(suited, Ordering::Relaxed);
        Ok(())
    }
}
