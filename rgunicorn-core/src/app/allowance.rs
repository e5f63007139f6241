//! What request bodies may take of a worker while they arrive: bytes in temporary files, and threads that wait for clients.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::sync::lock;

/// How much there is for the bodies of a worker, and how much of it they have.
#[derive(Debug, Default)]
pub struct Allowance {
    /// How many bytes may be in files; 0 for no limit.
    most: u64,
    files: Mutex<Files>,
    /// How many bodies are read by an application, which waits for what has not come.
    streams: AtomicUsize,
    /// Counts whatever could make room for a body that waits for it.
    released: AtomicU64,
}

#[derive(Debug, Default)]
struct Files {
    used: u64,
    /// The bodies that are still arriving, by age.
    arriving: BTreeSet<u64>,
    begun: u64,
}

/// Whether a body may have more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may.
    Yes,
    /// Not before others have gone.
    Wait,
    /// It has had as much as there is.
    TooLarge,
}

impl Allowance {
    /// So many bytes in files; 0 for no limit.
    pub fn new(most: u64) -> Self {
        Allowance { most, ..Allowance::default() }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        lock(&self.files)
    }

    /// How many bytes may be in files; 0 for no limit.
    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    /// Whether a body may have more bytes in its file; it has none yet if it has no charge. One at a time always may, or those
    /// that have only begun would wait for each other: the one that has been arriving for the longest time.
    pub(crate) fn admits(&self, charge: Option<&Charge>) -> Admission {
        if self.most == 0 {
            return Admission::Yes;
        }
        if charge.is_some_and(|charge| charge.bytes > self.most) {
            return Admission::TooLarge;
        }
        let files = self.files();
        let first = files.arriving.first();
        if files.used < self.most || first.is_none_or(|first| charge.is_some_and(|it| it.number == *first)) {
            Admission::Yes
        } else {
            Admission::Wait
        }
    }

    /// A body begins to go to a file.
    pub(crate) fn begin(self: &Arc<Self>) -> Charge {
        let mut files = self.files();
        files.begun += 1;
        let number = files.begun;
        files.arriving.insert(number);
        Charge { allowance: Arc::clone(self), number, bytes: 0 }
    }

    /// How many bodies are read by an application that may have to wait for them.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// One more is.
    pub(crate) fn stream(self: &Arc<Self>) -> Streaming {
        self.streams.fetch_add(1, Ordering::Relaxed);
        Streaming(Arc::clone(self))
    }

    /// Another number than before once there may be more room.
    pub(crate) fn released(&self) -> u64 {
        self.released.load(Ordering::Acquire)
    }

    fn release(&self) {
        self.released.fetch_add(1, Ordering::Release);
    }
}

/// What one body has in a file. Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    allowance: Arc<Allowance>,
    number: u64,
    bytes: u64,
}

impl Charge {
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.allowance.files().used += bytes as u64;
    }

    /// All of the body has come, or the rest goes elsewhere.
    pub(crate) fn arrived(&self) {
        if self.allowance.files().arriving.remove(&self.number) {
            self.allowance.release();
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut files = self.allowance.files();
        files.used = files.used.saturating_sub(self.bytes);
        files.arriving.remove(&self.number);
        drop(files);
        self.allowance.release();
    }
}

/// A body that is read by an application. It no longer is when this is dropped.
#[derive(Debug)]
pub(crate) struct Streaming(Arc<Allowance>);

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_all_is_used_up_the_oldest_goes_on() {
        let allowance = Arc::new(Allowance::new(10));
        assert_eq!(allowance.admits(None), Admission::Yes);
        let (mut first, mut second) = (allowance.begin(), allowance.begin());
        first.add(6);
        assert_eq!(allowance.admits(Some(&second)), Admission::Yes);
        second.add(6);
        assert_eq!(allowance.admits(Some(&first)), Admission::Yes);
        assert_eq!(allowance.admits(Some(&second)), Admission::Wait);
        assert_eq!(allowance.admits(None), Admission::Wait);
        let before = allowance.released();
        first.add(4);
        assert_eq!(allowance.admits(Some(&first)), Admission::Yes);
        first.add(1);
        assert_eq!(allowance.admits(Some(&first)), Admission::TooLarge);
        first.arrived();
        assert_ne!(allowance.released(), before);
        assert_eq!(allowance.admits(Some(&second)), Admission::Yes);
        drop(second);
        // Nobody arrives, though all is used up: one may.
        assert_eq!(allowance.admits(None), Admission::Yes);
        drop(first);
        let files = allowance.files();
        assert_eq!((files.used, files.arriving.len()), (0, 0));
    }

    #[test]
    fn none_is_no_limit() {
        let allowance = Arc::new(Allowance::new(0));
        let (mut first, second) = (allowance.begin(), allowance.begin());
        first.add(usize::MAX >> 1);
        assert_eq!(allowance.admits(Some(&first)), Admission::Yes);
        assert_eq!(allowance.admits(Some(&second)), Admission::Yes);
    }

    #[test]
    fn streams_are_counted() {
        let allowance = Arc::new(Allowance::default());
        let streaming = allowance.stream();
        assert_eq!(allowance.streams(), 1);
        drop(streaming);
        assert_eq!((allowance.streams(), allowance.released()), (0, 1));
    }
}
