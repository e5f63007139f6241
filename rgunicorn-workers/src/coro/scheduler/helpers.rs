//! Threads for calls that can be waited for in no other way: name resolution, file locks, children that may be any.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};
use rgunicorn_core::sync::lock;

use super::{Coroutine, lot};

/// What a thread is to do, and whether that [may last](run_lasting).
struct Work {
    lasting: bool,
    job: Box<dyn FnOnce() + Send>,
}

/// How many threads there may be for what doesn't last; what comes on top waits for one of them.
const MOST: usize = 64;
/// How long a thread waits for more to do.
const LINGER: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Shared {
    work: VecDeque<Work>,
    threads: usize,
    idle: usize,
    /// How many have something to do that may last.
    lasting: usize,
}

static SHARED: Mutex<Shared> = Mutex::new(Shared { work: VecDeque::new(), threads: 0, idle: 0, lasting: 0 });
static NEWS: Condvar = Condvar::new();

/// Has another thread do the work, and waits for it as a coroutine. None if there is no thread to be had; the work is then
/// not begun. The result comes with the thread's `errno`.
pub(crate) fn run<T: Send + 'static>(
    coroutine: &Coroutine,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<(T, c_int)> {
    run_as(coroutine, false, work)
}

/// The same, for work that ends only when others do something: if that needed a thread as well, and all waited for it, none
/// would ever come. So there may be as many of these threads as there are coroutines.
pub(crate) fn run_lasting<T: Send + 'static>(
    coroutine: &Coroutine,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<(T, c_int)> {
    run_as(coroutine, true, work)
}

fn run_as<T: Send + 'static>(
    coroutine: &Coroutine,
    lasting: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<(T, c_int)> {
    let outcome = Arc::new(Outcome { is_there: AtomicBool::new(false), of: Mutex::new(None) });
    let place = Arc::clone(&outcome);
    let job = Box::new(move || {
        let value = work();
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        *lock(&place.of) = Some((value, errno));
        place.is_there.store(true, Ordering::SeqCst);
        lot::wake(Arc::as_ptr(&place) as usize, 1);
    });
    // Without waiting as a coroutine: the lock is held for a moment only.
    let cooperative = coroutine.cooperative.replace(false);
    let handed = hand_out(Work { lasting, job });
    coroutine.cooperative.set(cooperative);
    if !handed {
        return None;
    }
    // Whoever else wakes it: what the other thread works with is ours to keep until it is done.
    while !outcome.is_there.load(Ordering::SeqCst) {
        let must_wait = || !outcome.is_there.load(Ordering::SeqCst);
        lot::wait(coroutine, Arc::as_ptr(&outcome) as usize, None, must_wait, || ());
    }
    lock(&outcome.of).take()
}

/// What comes of work, with the thread's `errno`.
struct Outcome<T> {
    /// Nobody has the lock any more.
    is_there: AtomicBool,
    of: Mutex<Option<(T, c_int)>>,
}

fn hand_out(work: Work) -> bool {
    let mut shared = lock(&SHARED);
    let more = work.lasting || shared.threads - shared.lasting < MOST;
    if shared.idle <= shared.work.len() && more {
        // Signals are the first thread's; a thread begins with the mask of the one that starts it.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
        let started = std::thread::Builder::new().name("coro-helper".into()).spawn(live);
        if let Ok(mask) = mask {
            let _ = mask.thread_set_mask();
        }
        match started {
            Ok(_) => shared.threads += 1,
            Err(_) if work.lasting || shared.threads == 0 => return false,
            Err(_) => {}
        }
    }
    shared.work.push_back(work);
    drop(shared);
    NEWS.notify_one();
    true
}

fn live() {
    let mut shared = lock(&SHARED);
    loop {
        if let Some(work) = shared.work.pop_front() {
            shared.lasting += usize::from(work.lasting);
            drop(shared);
            (work.job)();
            shared = lock(&SHARED);
            shared.lasting -= usize::from(work.lasting);
            continue;
        }
        shared.idle += 1;
        let (again, waited) = NEWS.wait_timeout(shared, LINGER).unwrap_or_else(PoisonError::into_inner);
        shared = again;
        shared.idle -= 1;
        if waited.timed_out() && shared.work.is_empty() {
            shared.threads -= 1;
            return;
        }
    }
}
