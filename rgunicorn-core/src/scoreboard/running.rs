//! The requests that a worker has in hand, as others can read them: what runs, since when, for whom.
//!
//! An entry has one writer, the worker. Text is kept in whole 64-bit numbers, so that writing it costs a few stores. A
//! reader that finds the entry's number changed meanwhile has read two requests at once, and takes neither.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, fence};

use crate::log::printable;
use crate::sys::memory::shared_struct;

/// How many bytes of text are kept.
const TEXT: usize = 224;
/// How many of them are the client's address at most.
const CLIENT: usize = 48;

shared_struct! {
    /// One request, in order.
    pub(super) struct Running {
        /// Counts the worker's requests; 0 for none. Written last, and first set to 0.
        number: AtomicU64,
        /// When it had arrived, in milliseconds of the monotonic clock.
        since: AtomicU64,
        /// Whether it is in the application, and not on its way to the client.
        inside: AtomicU64,
        /// The length of line (the lower half) and address in bytes.
        lengths: AtomicU64,
        /// The address, filled up to a whole number, and behind it the line.
        text: [AtomicU64; TEXT / 8],
    }
}

const _: () = assert!(size_of::<Running>() == 256);

/// A request that a worker has in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningRequest {
    /// Tells it from others of the same worker.
    pub number: u64,
    /// When it had arrived, in milliseconds of the monotonic clock.
    pub since: u64,
    /// Whether it is in the application, and not on its way to the client.
    pub inside: bool,
    /// `GET`
    pub method: String,
    /// The target as sent, cut if it is long.
    pub target: String,
    /// The client's address; empty on a Unix socket.
    pub client: String,
}

impl Running {
    /// `line` is method and target, as the request line has them; what doesn't fit is cut off.
    #[inline]
    pub(super) fn begin(&self, number: u64, since: u64, line: &[u8], client: &[u8]) {
        let client = client.get(..CLIENT).unwrap_or(client);
        let (for_client, for_line) = self.text.split_at(client.len().div_ceil(8).min(TEXT / 8));
        let line = line.get(..for_line.len() * 8).unwrap_or(line);
        self.number.store(0, Relaxed);
        // Before what follows, for those who look at `number` again after they have read it.
        fence(Release);
        self.lengths.store((line.len() | client.len() << 32) as u64, Relaxed);
        self.since.store(since, Relaxed);
        self.inside.store(1, Relaxed);
        put(for_client, client);
        put(for_line, line);
        self.number.store(number, Release);
    }

    #[inline]
    pub(super) fn set_inside(&self, inside: bool) {
        self.inside.store(u64::from(inside), Relaxed);
    }

    #[inline]
    pub(super) fn end(&self) {
        self.number.store(0, Relaxed);
    }

    pub(super) fn read(&self) -> Option<RunningRequest> {
        let number = self.number.load(Acquire);
        if number == 0 {
            return None;
        }
        let lengths = self.lengths.load(Relaxed);
        let client_length = ((lengths >> 32) as usize).min(CLIENT);
        let (of_client, of_line) = self.text.split_at(client_length.div_ceil(8));
        let text = take(of_line, lengths as u32 as usize);
        let space = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
        let (method, target) = text.split_at(space);
        let target = target.get(1..).unwrap_or_default();
        // Whatever the worker wrote there.
        let string = |bytes: &[u8]| printable::line(&String::from_utf8_lossy(bytes)).into_owned();
        let request = RunningRequest {
            number,
            since: self.since.load(Relaxed),
            inside: self.inside.load(Relaxed) != 0,
            method: string(method),
            target: string(target),
            client: string(&take(of_client, client_length)),
        };
        fence(Acquire);
        (self.number.load(Relaxed) == number).then_some(request)
    }
}

/// Writes `text` into the first of `words` that it needs.
fn put(words: &[AtomicU64], text: &[u8]) {
    let (whole, rest) = text.as_chunks::<8>();
    for (word, bytes) in words.iter().zip(whole) {
        word.store(u64::from_ne_bytes(*bytes), Relaxed);
    }
    if let (Some(word), false) = (words.get(whole.len()), rest.is_empty()) {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
        word.store(u64::from_ne_bytes(bytes), Relaxed);
    }
}

fn take(words: &[AtomicU64], length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        words.iter().take(length.div_ceil(8)).flat_map(|word| word.load(Relaxed).to_ne_bytes()).collect();
    bytes.truncate(length);
    bytes
}
