//! What there is to know of a mutex before it is taken.
//!
//! - **Momentary** ones are those that guard the application's lock itself. They are held for a moment, and never by a
//!   coroutine that waits: so they are taken as any thread takes them. If a coroutine waited for one as coroutines do, it
//!   could hold the other meanwhile, and with it the loop, which takes both for itself.
//! - **Owned** ones (recursive, or checking for errors) go by the owner's thread, which is the same for all coroutines: which
//!   of them has it is kept here.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::pthread_mutex_t;

use super::{Real, real};

/// How a mutex is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Owned,
}

/// glibc keeps a mutex's count and kind in its second and fifth word.
const COUNT: usize = 1;
const KIND: usize = 4;

unsafe fn word(mutex: *mut pthread_mutex_t, at: usize) -> c_int {
    *mutex.cast::<c_int>().add(at)
}

#[inline]
pub(super) unsafe fn kind(mutex: *mut pthread_mutex_t) -> Kind {
    match word(mutex, KIND) & 3 {
        libc::PTHREAD_MUTEX_RECURSIVE | libc::PTHREAD_MUTEX_ERRORCHECK => Kind::Owned,
        _ => Kind::Plain,
    }
}

macro_rules! real_call {
    ($(fn $name:ident = $symbol:literal;)*) => {$(
        pub(super) unsafe fn $name(mutex: *mut pthread_mutex_t) -> c_int {
            static REAL: Real = Real::new($symbol, None);
            type Call = unsafe extern "C" fn(*mut pthread_mutex_t) -> c_int;
            std::mem::transmute::<*mut c_void, Call>(REAL.get())(mutex)
        }
    )*};
}

real_call! {
    fn real_lock = c"pthread_mutex_lock";
    fn real_trylock = c"pthread_mutex_trylock";
    fn real_unlock = c"pthread_mutex_unlock";
}

static MOMENTARY: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
/// The thread whose mutexes are being noted.
static NOTING: AtomicUsize = AtomicUsize::new(0);

/// Notes the mutexes that `work`, which takes and lets go of the application's lock, takes in this thread.
#[cfg(feature = "python")]
pub(crate) fn note_momentary(work: impl FnOnce()) {
    NOTING.store(real::thread() as usize, Ordering::Relaxed);
    work();
    NOTING.store(0, Ordering::Relaxed);
}

#[inline]
pub(super) fn note_if_momentary(mutex: *mut pthread_mutex_t) {
    let noting = NOTING.load(Ordering::Relaxed);
    if noting != 0 && noting == real::thread() as usize {
        note(mutex as usize);
    }
}

#[cold]
fn note(mutex: usize) {
    let free = MOMENTARY
        .iter()
        .find(|place| matches!(place.load(Ordering::Relaxed), 0) || place.load(Ordering::Relaxed) == mutex);
    if let Some(place) = free {
        place.store(mutex, Ordering::Relaxed);
    }
}

pub(super) fn is_momentary(mutex: *mut pthread_mutex_t) -> bool {
    MOMENTARY.iter().any(|place| place.load(Ordering::Relaxed) == mutex as usize)
}

/// Which coroutine has which mutex.
pub(super) mod owners {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use super::*;
    use crate::coro::scheduler::Coroutine;

    thread_local! {
        /// Those of this thread's coroutines. What is in it of a mutex that is free, or was taken outside of coroutines,
        /// means nothing.
        static OWNERS: RefCell<HashMap<usize, usize>> = RefCell::default();
    }

    fn owner(mutex: *mut pthread_mutex_t) -> Option<usize> {
        OWNERS.with_borrow(|owners| owners.get(&(mutex as usize)).copied())
    }

    fn own(mutex: *mut pthread_mutex_t, coroutine: &Coroutine) {
        let identity = std::ptr::from_ref(coroutine) as usize;
        OWNERS.with_borrow_mut(|owners| owners.insert(mutex as usize, identity));
    }

    fn is_owner(mutex: *mut pthread_mutex_t, coroutine: &Coroutine) -> bool {
        owner(mutex) == Some(std::ptr::from_ref(coroutine) as usize)
    }

    /// Takes it if it is free, or the coroutine's own and recursive.
    pub(in super::super) unsafe fn try_lock(mutex: *mut pthread_mutex_t, coroutine: &Coroutine) -> c_int {
        let result = real_trylock(mutex);
        let recursive = word(mutex, KIND) & 3 == libc::PTHREAD_MUTEX_RECURSIVE;
        if result != 0 {
            return result;
        }
        if !recursive || word(mutex, COUNT) <= 1 {
            own(mutex, coroutine);
        } else if !is_owner(mutex, coroutine) {
            // The thread has it already: for another coroutine.
            real_unlock(mutex);
            return libc::EBUSY;
        }
        0
    }

    /// Takes it where the coroutine can't wait.
    pub(in super::super) unsafe fn lock(mutex: *mut pthread_mutex_t, coroutine: &Coroutine) -> c_int {
        match try_lock(mutex, coroutine) {
            libc::EBUSY => {}
            result => return result,
        }
        let result = real_lock(mutex);
        if result == 0 {
            own(mutex, coroutine);
        }
        result
    }

    /// It is about to be given back, once.
    pub(in super::super) unsafe fn before_unlock(mutex: *mut pthread_mutex_t) {
        if word(mutex, COUNT) <= 1 {
            OWNERS.with_borrow_mut(|owners| owners.remove(&(mutex as usize)));
        }
    }

    /// Whether to take it would be an error, for one that checks.
    pub(in super::super) unsafe fn is_mine(mutex: *mut pthread_mutex_t, coroutine: &Coroutine) -> bool {
        word(mutex, KIND) & 3 == libc::PTHREAD_MUTEX_ERRORCHECK
            && is_owner(mutex, coroutine)
            && word(mutex, 0) != 0
    }
}
