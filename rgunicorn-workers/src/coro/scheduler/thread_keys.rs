//! The values of `pthread_key_create(3)`'s keys, kept for each coroutine: the older way of libraries to keep something for
//! each thread, OpenSSL's and gRPC's among them. See [`thread_locals`](super::thread_locals).

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rgunicorn_core::sync::lock;

use crate::coro::interposed::real;

/// A key of a library's.
#[derive(Debug, Clone, Copy)]
struct Key {
    key: Option<libc::pthread_key_t>,
    /// Which use of this place it is: values of an earlier one are nobody's.
    serial: usize,
}

/// All keys of this process, made by whichever thread.
static KEYS: Mutex<Vec<Key>> = Mutex::new(Vec::new());
/// How often they have changed.
static CHANGES: AtomicUsize = AtomicUsize::new(0);

/// A library has made a key.
pub(crate) fn made(key: libc::pthread_key_t) {
    let mut keys = lock(&KEYS);
    let serial = CHANGES.fetch_add(1, Ordering::Release) + 1;
    let new = Key { key: Some(key), serial };
    match keys.iter_mut().find(|old| old.key.is_none()) {
        Some(free) => *free = new,
        None => keys.push(new),
    }
}

/// It is about to delete it.
pub(crate) fn deleting(key: libc::pthread_key_t) {
    let mut keys = lock(&KEYS);
    if let Some(known) = keys.iter_mut().find(|known| known.key == Some(key)) {
        known.key = None;
        CHANGES.fetch_add(1, Ordering::Release);
    }
}

/// The keys, as the thread of the coroutines knows them.
#[derive(Debug, Default)]
pub(super) struct ThreadKeys {
    keys: RefCell<Vec<Key>>,
    changes: Cell<usize>,
}

/// A coroutine's values, or the thread's while the coroutine runs; each with the serial number of its key.
#[derive(Debug, Default)]
pub(super) struct KeyValues(RefCell<Vec<(usize, *mut c_void)>>);

impl ThreadKeys {
    /// Takes note of keys that were made or deleted.
    #[inline]
    pub(super) fn look(&self) {
        let changes = CHANGES.load(Ordering::Acquire);
        if changes != self.changes.get() {
            self.changes.set(changes);
            self.keys.borrow_mut().clone_from(&lock(&KEYS));
        }
    }

    /// Exchanges the thread's values for those in `values`.
    #[inline]
    pub(super) fn exchange(&self, values: &KeyValues) {
        let keys = self.keys.borrow();
        let mut values = values.0.borrow_mut();
        if values.len() < keys.len() {
            values.resize(keys.len(), (0, ptr::null_mut()));
        }
        for (known, (serial, value)) in keys.iter().zip(values.iter_mut()) {
            let Some(key) = known.key else { continue };
            let own = if *serial == known.serial { *value } else { ptr::null_mut() };
            let present = real::value_of(key);
            if present != own {
                real::set_value(key, own);
            }
            (*serial, *value) = (known.serial, present);
        }
    }
}
