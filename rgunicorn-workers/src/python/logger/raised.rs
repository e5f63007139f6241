//! Exceptions that messages of the server are about: for handlers that want the exception itself (`exc_info`), not its text.
//!
//! The server passes a report on, as text; here the report finds its exception again.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use rgunicorn_core::sync::lock;

/// How many are kept: an exception holds all that its frames hold.
const MOST: usize = 16;

static WANTED: AtomicBool = AtomicBool::new(false);
static RAISED: Mutex<VecDeque<(String, PyErr)>> = Mutex::new(VecDeque::new());

/// From now on exceptions are kept, or no more.
pub(crate) fn want(wanted: bool) {
    WANTED.store(wanted, Ordering::Relaxed);
    let dropped = match wanted {
        true => VecDeque::new(),
        false => std::mem::take(&mut *lock(&RAISED)),
    };
    // Not under the lock: it may run Python code.
    drop(dropped);
}

/// Keeps the exception of which `report` tells, if there is a logger for it.
pub(crate) fn keep(py: Python<'_>, report: &str, error: &PyErr) {
    if WANTED.load(Ordering::Relaxed) {
        let kept = (report.to_owned(), error.clone_ref(py));
        let mut raised = lock(&RAISED);
        let oldest = if raised.len() >= MOST { raised.pop_front() } else { None };
        raised.push_back(kept);
        drop(raised);
        // Not under the lock: it may run Python code.
        drop(oldest);
    }
}

/// What a message says before the report of an exception, and that exception.
pub(super) fn of(message: &str) -> Option<(&str, PyErr)> {
    let mut raised = lock(&RAISED);
    let before = |report: &str| message.strip_suffix(report)?.strip_suffix('\n');
    let place = raised.iter().position(|(report, _)| before(report).is_some())?;
    let (report, error) = raised.remove(place)?;
    Some((before(&report)?, error))
}
