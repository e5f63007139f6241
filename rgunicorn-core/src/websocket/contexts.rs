//! What zlib needs to compress and decompress, shared by the WebSockets of a worker.
//!
//! A compressor has some 300 KiB and a decompressor 40: too much for each of ten thousand WebSockets, of which few do anything
//! at a time. So a WebSocket has one for a message, and finds it as it has left it if it was one of the last to need it. If
//! not it gets another one's, and tells it what may be referred to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use flate2::{Compress, Compression, Decompress};

use crate::sync::lock;

/// How many of each kind are kept.
const KEPT: usize = 16;

/// Compressors and decompressors.
#[derive(Debug, Clone, Default)]
pub struct Contexts(Arc<Mutex<Shelves>>);

/// A WebSocket, as far as contexts are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner(u64);

#[derive(Debug, Default)]
struct Shelves {
    owners: u64,
    compressors: Shelf<(u8, Compress)>,
    decompressors: Shelf<Decompress>,
}

/// Those that nobody uses at the moment, each with the one that was the last to use it; the longest unused first.
#[derive(Debug)]
struct Shelf<T>(VecDeque<(Owner, T)>);

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Shelf(VecDeque::new())
    }
}

impl<T> Shelf<T> {
    /// Its own if that is there, with `true`; another one's if there are enough.
    fn take(&mut self, owner: Owner) -> Option<(T, bool)> {
        if let Some(index) = self.0.iter().rposition(|(last, _)| *last == owner) {
            return self.0.remove(index).map(|(_, own)| (own, true));
        }
        let full = self.0.len() >= KEPT;
        if full { self.0.pop_front().map(|(_, other)| (other, false)) } else { None }
    }

    fn put(&mut self, owner: Owner, item: T) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back((owner, item));
    }
}

impl Contexts {
    pub(super) fn owner(&self) -> Owner {
        let mut shelves = lock(&self.0);
        shelves.owners += 1;
        Owner(shelves.owners)
    }

    /// A compressor with this window, and whether it is as its owner has left it.
    pub(super) fn compressor(&self, owner: Owner, bits: u8) -> (Compress, bool) {
        match lock(&self.0).compressors.take(owner) {
            Some(((found, compress), own)) if found == bits => (compress, own),
            _ => (Compress::new_with_window_bits(Compression::new(6), false, bits), false),
        }
    }

    pub(super) fn keep_compressor(&self, owner: Owner, bits: u8, compress: Compress) {
        lock(&self.0).compressors.put(owner, (bits, compress));
    }

    /// A decompressor, and whether it is as its owner has left it.
    pub(super) fn decompressor(&self, owner: Owner) -> (Decompress, bool) {
        lock(&self.0).decompressors.take(owner).unwrap_or_else(|| (Decompress::new(false), false))
    }

    pub(super) fn keep_decompressor(&self, owner: Owner, decompress: Decompress) {
        lock(&self.0).decompressors.put(owner, decompress);
    }
}
