//! A logger in Python that takes the logs in the place of our own files (`logger_class`, `logconfig`, `logconfig_dict`,
//! `logconfig_json`).
//!
//! The logger itself is the `server.log` of [`server_hooks`](super::server_hooks), made in the arbiter and inherited by the
//! workers. Here is the way of the server's own messages to it, and of the access lines of requests that no application has
//! answered. Lines of all others are written where the application runs, by [`RequestHooks`](super::server_hooks::RequestHooks).
//!
//! While a process has one thread that does everything (the arbiter; a worker that boots or ends), messages go straight to
//! the logger. In a worker that serves, they may come from any thread, with the engine locked, with or without the GIL: there
//! a [courier](courier) brings them.

mod courier;
pub(super) mod raised;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyList;
use rgunicorn_core::config::LogLevel;
use rgunicorn_core::log::host::{HostLogger, within};
use rgunicorn_core::log::{self, AccessRecord};
use rgunicorn_core::sync::lock;

use self::courier::{Courier, Item, Unseen};
use super::wsgi::latin1;
use super::{failure, load, package};

/// How long a worker that ends waits for its last messages to be logged.
const LAST_MESSAGES: Duration = Duration::from_secs(5);

/// The logger. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct PythonLogger {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `gunicorn.glogging.Logger`, or what is derived from it.
    log: Py<PyAny>,
    /// `Messages` of `logger.py`.
    messages: Py<PyAny>,
    /// Names the thread that calls it.
    name_thread: Py<PyAny>,
    /// `log_unseen` of `requests.py`.
    unseen: Py<PyAny>,
    /// The least severe level that it takes.
    least: u32,
    tells_statsd: bool,
    /// In a worker that serves.
    courier: Mutex<Option<Courier>>,
    /// Whether the courier has not come back: nobody is to call the logger any more.
    stuck: AtomicBool,
    /// Whether it was said that the logger fails.
    complained: AtomicBool,
}

impl PythonLogger {
    /// For the logger `log`. `unseen` logs requests that no application has
    /// answered.
    ///
    /// # Errors
    /// An exception of Python's own.
    pub(crate) fn new(log: &Bound<'_, PyAny>, unseen: &Bound<'_, PyAny>) -> PyResult<Self> {
        let helper = load::helper(log.py(), include_str!("logger.py"), "rgunicorn_logger")?;
        Ok(PythonLogger {
            shared: Arc::new(Shared {
                log: log.clone().unbind(),
                least: helper.getattr("least")?.call1((log,))?.extract()?,
                name_thread: helper.getattr("name_thread")?.unbind(),
                messages: helper.getattr("Messages")?.call1((log,))?.unbind(),
                unseen: unseen.clone().unbind(),
                tells_statsd: helper.getattr("is_statsd")?.call1((log,))?.is_truthy()?,
                courier: Mutex::default(),
                stuck: AtomicBool::new(false),
                complained: AtomicBool::new(false),
            }),
        })
    }

    /// Has everything be logged that it takes, and nothing else.
    pub(crate) fn set_level(&self) {
        log::set_level(package::log_level(self.shared.least));
    }

    /// The process is about to end: handlers write what they hold back.
    pub(crate) fn end(&self) {
        Python::attach(|py| {
            if let Err(error) = within(|| self.shared.messages.call_method0(py, "end")) {
                within(|| log::message(LogLevel::Error, &failure::report(py, &error)));
            }
        });
    }

    /// From now on a courier brings messages, as they may come from anywhere.
    pub(crate) fn begin_serving(&self) {
        match Courier::start(&self.shared) {
            Ok(courier) => *self.shared.courier() = Some(courier),
            Err(error) => tracing::error!("No thread for the logger, messages go to the error log: {error}"),
        }
    }

    /// Waits for messages that are on their way, but not for ever: then they go to the server's own error log. Those that
    /// still come go straight to the logger.
    pub(crate) fn end_serving(&self) {
        let courier = self.shared.courier().take();
        let Some(Err(left)) = courier.map(|courier| courier.finish(LAST_MESSAGES)) else { return };
        // It may be holding the lock of a handler.
        self.shared.stuck.store(true, Ordering::Relaxed);
        for item in left {
            if let Item::Message(level, text) = item {
                log::message(level, &text);
            }
        }
    }
}

impl Shared {
    fn courier(&self) -> std::sync::MutexGuard<'_, Option<Courier>> {
        lock(&self.courier)
    }

    /// Hands it to the courier; gives it back where there is none.
    fn send(&self, item: Item) -> Result<(), Item> {
        match &*self.courier() {
            Some(courier) => courier.send(item),
            None => Err(item),
        }
    }

    /// Has the logger take it, in this thread. What fails then is said, once, in the server's own error log, and so is the
    /// message itself.
    fn deliver(&self, py: Python<'_>, item: &Item) {
        let done = within(|| match item {
            Item::Message(level, text) => self.take(py, *level, text),
            Item::Unseen(unseen) => self.log_unseen(py, unseen),
            Item::Reopen => self.messages.call_method0(py, "reopen").map(drop),
        });
        let Err(error) = done else { return };
        within(|| {
            if let Item::Message(level, text) = item {
                log::message(*level, text);
            }
            if !self.complained.swap(true, Ordering::Relaxed) {
                let report = failure::report(py, &error);
                log::message(LogLevel::Error, &format!("Error in the logger, said once\n{report}"));
            }
        });
    }

    fn take(&self, py: Python<'_>, level: LogLevel, text: &str) -> PyResult<()> {
        let (text, raised) = match raised::of(text) {
            Some((text, error)) => {
                let (value, traceback) = (error.value(py).clone(), error.traceback(py));
                if let Some(traceback) = traceback {
                    // CPython 3.11 keeps it apart.
                    value.setattr("__traceback__", traceback)?;
                }
                (text, Some(value))
            }
            None => (text, None),
        };
        self.messages.call_method1(py, "take", (level.name(), text, raised)).map(drop)
    }

    fn log_unseen(&self, py: Python<'_>, unseen: &Unseen) -> PyResult<()> {
        let text = |bytes: &[u8]| latin1(py, bytes);
        let pairs = |pairs: &[(Vec<u8>, Vec<u8>)], upper: bool| {
            let list = PyList::empty(py);
            for (name, value) in pairs {
                let name = if upper { name.to_ascii_uppercase() } else { name.clone() };
                list.append((text(&name)?, text(value)?))?;
            }
            PyResult::Ok(list)
        };
        let facts = (
            text(&unseen.method)?,
            text(&unseen.target)?,
            text(&unseen.path)?,
            text(&unseen.query)?,
            unseen.version,
            "http",
            pairs(&unseen.request_headers, true)?,
            (&unseen.remote_addr, (!unseen.remote_addr.is_empty()).then_some(0)),
            py.None(),
        );
        let headers = pairs(&unseen.response_headers, false)?;
        let micros = unseen.elapsed.as_micros() as u64;
        self.unseen.call1(py, (&self.log, facts, unseen.status, headers, unseen.sent, micros)).map(drop)
    }
}

impl HostLogger for PythonLogger {
    fn message(&self, level: LogLevel, message: &str) -> bool {
        match self.shared.send(Item::Message(level, message.to_owned())) {
            Ok(()) => true,
            Err(item) => self.deliver_here(&item),
        }
    }

    fn access(&self, record: &AccessRecord<'_>) {
        let Some(unseen) = Unseen::of(record) else { return };
        if let Err(item) = self.shared.send(Item::Unseen(Box::new(unseen))) {
            self.deliver_here(&item);
        }
    }

    fn reopen(&self) {
        if let Err(item) = self.shared.send(Item::Reopen) {
            self.deliver_here(&item);
        }
    }

    fn tells_statsd(&self) -> bool {
        self.shared.tells_statsd
    }
}

impl PythonLogger {
    /// Has the logger take it in this thread, unless a courier is there that can take no more, or was.
    fn deliver_here(&self, item: &Item) -> bool {
        if self.shared.courier().is_some() || self.shared.stuck.load(Ordering::Relaxed) {
            return false;
        }
        Python::attach(|py| self.shared.deliver(py, item));
        true
    }
}
