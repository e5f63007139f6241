//! The thread that brings messages to the logger.

use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::SigSet;
use pyo3::prelude::*;
use rgunicorn_core::config::LogLevel;
use rgunicorn_core::log::AccessRecord;
use rgunicorn_core::sync::lock;

use super::Shared;
use crate::python::interpreter;

/// How many messages may wait for a slow handler; what comes then goes to the server's own error log.
const MOST: usize = 10_000;

/// What is brought.
#[derive(Debug)]
pub(super) enum Item {
    /// A message of the server's.
    Message(LogLevel, String),
    /// A request that no application has answered.
    Unseen(Box<Unseen>),
    /// Files are to be opened again.
    Reopen,
}

/// A request for the access log, on its own.
#[derive(Debug)]
pub(super) struct Unseen {
    pub(super) remote_addr: String,
    pub(super) method: Vec<u8>,
    pub(super) target: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) query: Vec<u8>,
    pub(super) version: (u8, u8),
    pub(super) request_headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) response_headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) status: u16,
    pub(super) sent: u64,
    pub(super) elapsed: Duration,
}

impl Unseen {
    /// None where it isn't known what was asked for.
    pub(super) fn of(record: &AccessRecord<'_>) -> Option<Unseen> {
        let line = record.request.as_ref()?;
        let (mut request_headers, mut response_headers) = (Vec::new(), Vec::new());
        (record.request_headers)(&mut |name, value| request_headers.push((name.to_vec(), value.to_vec())));
        (record.response_headers)(&mut |name, value| response_headers.push((name.to_vec(), value.to_vec())));
        Some(Unseen {
            remote_addr: record.remote_addr.to_owned(),
            method: line.method.to_vec(),
            target: line.target.to_vec(),
            path: line.path.to_vec(),
            query: line.query.to_vec(),
            version: (line.version.major, line.version.minor),
            request_headers,
            response_headers,
            status: record.status,
            sent: record.sent,
            elapsed: record.elapsed,
        })
    }
}

/// The thread, as those see it who have something for it.
#[derive(Debug)]
pub(super) struct Courier {
    items: SyncSender<Item>,
    /// Locked by the thread while it waits for more.
    received: Arc<Mutex<Receiver<Item>>>,
    /// Says that all was brought.
    done: Receiver<()>,
    /// The process that it lives in: one forked from that has none.
    process: u32,
}

impl Courier {
    /// Starts it.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Courier> {
        let (items, received) = mpsc::sync_channel(MOST);
        let received = Arc::new(Mutex::new(received));
        let (ended, done) = mpsc::channel();
        let (shared, waiting) = (Arc::clone(shared), Arc::clone(&received));
        std::thread::Builder::new().name("logger".into()).spawn(move || {
            // Signals are for others.
            let _ = SigSet::all().thread_block();
            bring(&shared, &waiting);
            let _ = ended.send(());
        })?;
        Ok(Courier { items, received, done, process: std::process::id() })
    }

    /// Gives it something, or back what it can't take.
    pub(super) fn send(&self, item: Item) -> Result<(), Item> {
        if self.process != std::process::id() {
            return Err(item);
        }
        self.items.try_send(item).map_err(|error| match error {
            TrySendError::Full(item) | TrySendError::Disconnected(item) => item,
        })
    }

    /// Lets it bring what it has, if that takes no longer than `most`, and ends it. On failure, it is stuck, and this is what
    /// it could not bring. Lets go of the GIL meanwhile.
    pub(super) fn finish(self, most: Duration) -> Result<(), Vec<Item>> {
        let Courier { items, received, done, process } = self;
        drop(items);
        if process != std::process::id() {
            return Ok(());
        }
        Python::attach(|py| {
            interpreter::detached(py, || {
                done.recv_timeout(most).map_err(|_| {
                    received.try_lock().map_or_else(|_| Vec::new(), |received| received.try_iter().collect())
                })
            })
        })
    }
}

/// Attached once, for all of the thread's life: so it is one thread for Python, too.
fn bring(shared: &Shared, items: &Mutex<Receiver<Item>>) {
    Python::attach(|py| {
        // By which handlers may show it; no reason to bring nothing.
        let _ = shared.name_thread.call0(py);
        while let Ok(item) = interpreter::detached(py, || lock(items).recv()) {
            shared.deliver(py, &item);
        }
    });
}
