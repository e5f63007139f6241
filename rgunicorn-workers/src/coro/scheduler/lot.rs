//! Who waits at which address: for locks, semaphores, conditions and futexes, which any thread may signal.
//!
//! Like the kernel's futex queues. A coroutine enters the queue of an address, looks once more whether it must wait, and
//! waits; whoever changes what is at the address calls [`wake`] afterwards. In a process where nobody waits that costs one
//! load.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use rgunicorn_core::sync::lock;

use super::remote::{self, Message};
use super::{Coroutine, Token, Wake, here};

/// How many coroutines wait in all queues.
static WAITING: AtomicUsize = AtomicUsize::new(0);
static QUEUES: Mutex<Option<HashMap<usize, VecDeque<Token>>>> = Mutex::new(None);

/// Without waiting as a coroutine: the lock is held for a moment only.
struct Queues {
    queues: MutexGuard<'static, Option<HashMap<usize, VecDeque<Token>>>>,
    coroutine: Option<(*const Coroutine, bool)>,
}

fn queues() -> Queues {
    let coroutine = super::current().map(|coroutine| {
        let cooperative = coroutine.cooperative.replace(false);
        (std::ptr::from_ref(coroutine), cooperative)
    });
    Queues { queues: lock(&QUEUES), coroutine }
}

impl Queues {
    fn map(&mut self) -> &mut HashMap<usize, VecDeque<Token>> {
        self.queues.get_or_insert_default()
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        if let Some((coroutine, cooperative)) = self.coroutine {
            // SAFETY: the one that runs here, and has run here since.
            unsafe { (*coroutine).cooperative.set(cooperative) };
        }
    }
}

/// Waits at `address` until somebody wakes it, unless `must_wait`, asked when any later change will be noticed, says no.
/// `before` is called right before the wait, where it can't be missed any more.
pub(crate) fn wait(
    coroutine: &Coroutine,
    address: usize,
    by: Option<Instant>,
    must_wait: impl FnOnce() -> bool,
    before: impl FnOnce(),
) -> Wake {
    wait_as(coroutine, address, by, must_wait, before, false)
}

/// The same, where an interruption can be told.
pub(crate) fn wait_interruptibly(
    coroutine: &Coroutine,
    address: usize,
    by: Option<Instant>,
    must_wait: impl FnOnce() -> bool,
) -> Wake {
    wait_as(coroutine, address, by, must_wait, || (), true)
}

fn wait_as(
    coroutine: &Coroutine,
    address: usize,
    by: Option<Instant>,
    must_wait: impl FnOnce() -> bool,
    before: impl FnOnce(),
    interruptibly: bool,
) -> Wake {
    let token = coroutine.begin_wait();
    queues().map().entry(address).or_default().push_back(token);
    WAITING.fetch_add(1, Ordering::SeqCst);
    let woken = if must_wait() {
        before();
        coroutine.wait_for_lock(token, by, interruptibly)
    } else {
        coroutine.waiting.set(false);
        Wake::Ready
    };
    WAITING.fetch_sub(1, Ordering::SeqCst);
    // Whoever has taken it out has woken us, and counts on it.
    let was_called = !remove(address, token);
    if was_called && matches!(woken, Wake::TimedOut | Wake::Interrupted) { Wake::Ready } else { woken }
}

/// Takes a token out of its queue; false if it wasn't there any more.
fn remove(address: usize, token: Token) -> bool {
    let mut queues = queues();
    let map = queues.map();
    let Some(queue) = map.get_mut(&address) else { return false };
    let place = queue.iter().position(|other| *other == token);
    if let Some(place) = place {
        queue.remove(place);
    }
    if queue.is_empty() {
        map.remove(&address);
    }
    place.is_some()
}

/// Wakes up to `most` of those who wait at `address`, first come first. For any thread, after the change.
#[inline]
pub(crate) fn wake(address: usize, most: usize) -> usize {
    fence(Ordering::SeqCst);
    if WAITING.load(Ordering::SeqCst) == 0 {
        return 0;
    }
    wake_some(address, most)
}

#[cold]
fn wake_some(address: usize, most: usize) -> usize {
    let tokens: Vec<Token> = {
        let mut queues = queues();
        match queues.map().get_mut(&address) {
            None => return 0,
            Some(queue) => queue.drain(..most.min(queue.len())).collect(),
        }
    };
    for token in &tokens {
        match here() {
            Some(scheduler) => {
                scheduler.wake(*token, Wake::Ready);
            }
            None => remote::send(Message::Wake(*token)),
        }
    }
    tokens.len()
}

/// In a forked process: those who waited are not in it.
pub(super) fn forget() {
    WAITING.store(0, Ordering::SeqCst);
}
