//! The values of `pthread_key_create(3)`'s keys, kept for each coroutine: the older way of libraries to keep something for
//! each thread, OpenSSL's and gRPC's among them. See [`thread_locals`](super::thread_locals).

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
#[cfg(feature = "python")]
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::coro::interposed::real;

/// More than there can be (`PTHREAD_KEYS_MAX`).
const MOST: usize = 1024;

/// All keys of this process, made by whichever thread: by key, which use of it this is, or 0. Allocators make keys as well,
/// before they can allocate; so this has room from the beginning, and no lock.
static SERIALS: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];
/// From where the key was made.
static MAKERS: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];
static LAST_SERIAL: AtomicUsize = AtomicUsize::new(0);
/// How often they have changed.
static CHANGES: AtomicUsize = AtomicUsize::new(0);

/// A library has made a key, from the place that is said.
pub(crate) fn made(key: libc::pthread_key_t, maker: usize) {
    if let Some(place) = MAKERS.get(key as usize) {
        place.store(maker, Ordering::Relaxed);
    }
    set(key, LAST_SERIAL.fetch_add(1, Ordering::Relaxed) + 1);
}

/// It is about to delete it.
pub(crate) fn deleting(key: libc::pthread_key_t) {
    set(key, 0);
}

/// This thread, or the coroutine that runs in it, has no values any more under the keys that were made from there.
#[cfg(feature = "python")]
pub(crate) fn forget_those_made_from(code: &Range<usize>) {
    for (key, (serial, maker)) in (0..).zip(SERIALS.iter().zip(&MAKERS)) {
        if serial.load(Ordering::Relaxed) != 0 && code.contains(&maker.load(Ordering::Relaxed)) {
            real::set_value(key, ptr::null_mut());
        }
    }
}

fn set(key: libc::pthread_key_t, serial: usize) {
    if let Some(place) = SERIALS.get(key as usize) {
        place.store(serial, Ordering::Relaxed);
        CHANGES.fetch_add(1, Ordering::Release);
    }
}

/// A key of a library's.
#[derive(Debug, Clone, Copy)]
struct Key {
    key: libc::pthread_key_t,
    /// Which use of it it is: values of an earlier one are nobody's. 0 where it is not in use.
    serial: usize,
}

/// The keys, as the thread of the coroutines knows them; each that ever was has its place for good.
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
            self.find();
        }
    }

    #[cold]
    fn find(&self) {
        let mut keys = self.keys.borrow_mut();
        for (key, serial) in (0..).zip(&SERIALS) {
            let serial = serial.load(Ordering::Relaxed);
            match keys.iter_mut().find(|known| known.key == key) {
                Some(known) => known.serial = serial,
                None if serial == 0 => {}
                None => keys.push(Key { key, serial }),
            }
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
            if known.serial == 0 {
                continue;
            }
            let own = if *serial == known.serial { *value } else { ptr::null_mut() };
            let present = real::value_of(known.key);
            if present != own {
                real::set_value(known.key, own);
            }
            (*serial, *value) = (known.serial, present);
        }
    }
}
