//! A logger of the host's language, which takes the logs in the place of our own files: Python's `logging`.

use std::cell::Cell;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::format::AccessRecord;
use crate::config::LogLevel;

/// What takes the logs. Called in any thread, with any lock held: what may wait for one is not to be done in these calls.
pub trait HostLogger: Send + Sync + Debug {
    /// Takes a message. If it can't, it says so, and the message goes to the server's own error log.
    fn message(&self, level: LogLevel, message: &str) -> bool;

    /// Takes the access line of a request for which nobody else has called it.
    fn access(&self, record: &AccessRecord<'_>);

    /// Opens its files again by their names.
    fn reopen(&self);

    /// Whether it tells StatsD of messages and requests by itself.
    fn tells_statsd(&self) -> bool {
        false
    }
}

static HOST: RwLock<Option<Arc<dyn HostLogger>>> = RwLock::new(None);
/// Whether there is one: what everybody looks at first.
static THERE: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Whether this thread is in the host's logger: what is logged there is ours to write.
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// Has this logger take the logs from now on; with none, they are the server's own again.
pub fn set_host(logger: Option<Arc<dyn HostLogger>>) {
    THERE.store(logger.is_some(), Ordering::Release);
    *HOST.write().unwrap_or_else(PoisonError::into_inner) = logger;
}

fn host() -> Option<Arc<dyn HostLogger>> {
    if !THERE.load(Ordering::Acquire) || is_within() {
        return None;
    }
    HOST.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Runs the host's logger: what the server logs meanwhile, in this thread, goes to its own error log.
pub fn within<R>(work: impl FnOnce() -> R) -> R {
    let before = WITHIN.replace(true);
    let result = work();
    WITHIN.set(before);
    result
}

pub(super) fn is_within() -> bool {
    WITHIN.get()
}

/// Whether the host's logger has taken the message.
pub(super) fn message(level: LogLevel, message: &str) -> bool {
    host().is_some_and(|host| host.message(level, message))
}

pub(super) fn access(record: &AccessRecord<'_>) {
    if let Some(host) = host() {
        host.access(record);
    }
}

pub(super) fn reopen() {
    if let Some(host) = host() {
        host.reopen();
    }
}

/// Whether StatsD is told of messages and requests by the host's logger.
pub fn tells_statsd() -> bool {
    host().is_some_and(|host| host.tells_statsd())
}
