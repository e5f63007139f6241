//! Who waits at which address: for locks, semaphores, conditions and futexes, which any thread may signal.
//!
//! Like the kernel's futex queues. A coroutine enters the queue of an address, looks once more whether it must wait, and
//! waits; whoever changes what is at the address calls [`wake`] afterwards. In a process where nobody waits that costs one
//! load.
//!
//! Whoever signals may be an allocator. So nothing is allocated here: a waiter is a node on the stack of the coroutine that
//! waits, and is in one list or none.

use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::time::Instant;

use super::brief::Brief;
use super::{Coroutine, Scheduler, Token, Wake, here, remote};

/// How many coroutines wait in all queues.
static WAITING: AtomicUsize = AtomicUsize::new(0);
static LOT: Brief<Lot> = Brief::new(Lot { queues: [const { List::new() }; QUEUES], called: List::new() });

/// Queues of addresses that have the same hash are one list.
const QUEUES: usize = 4096;

struct Lot {
    queues: [List; QUEUES],
    /// Those that another thread has woken, for the thread of the coroutines.
    called: List,
}

// SAFETY: the nodes are touched with the lock only, and stay where they are until they are in no list.
unsafe impl Send for Lot {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Queue,
    Called,
}

/// One that waits.
struct Node {
    address: usize,
    token: Token,
    place: Place,
    before: *mut Node,
    behind: *mut Node,
}

struct List {
    first: *mut Node,
    last: *mut Node,
}

impl List {
    const fn new() -> Self {
        List { first: ptr::null_mut(), last: ptr::null_mut() }
    }

    /// # Safety
    /// The node is in no list, and stays in its place while it is in this one; as all of these, with the lock.
    unsafe fn push(&mut self, node: *mut Node) {
        // SAFETY: the caller's promise, which those in the list have had as well.
        unsafe {
            (*node).before = self.last;
            (*node).behind = ptr::null_mut();
            match self.last.as_mut() {
                Some(last) => last.behind = node,
                None => self.first = node,
            }
        }
        self.last = node;
    }

    /// # Safety
    /// The node is in this list.
    unsafe fn remove(&mut self, node: *mut Node) {
        // SAFETY: all in the list are in their places.
        unsafe {
            let (before, behind) = ((*node).before, (*node).behind);
            match before.as_mut() {
                Some(before) => before.behind = behind,
                None => self.first = behind,
            }
            match behind.as_mut() {
                Some(behind) => behind.before = before,
                None => self.last = before,
            }
        }
    }
}

impl Lot {
    fn queue(&mut self, address: usize) -> &mut List {
        // The lowest bits of addresses are alike; the highest of this product depend on all.
        let hash = ((address >> 2) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        &mut self.queues[(hash >> (64 - QUEUES.ilog2())) as usize]
    }

    /// Takes the first that waits at an address out of its queue.
    fn take(&mut self, address: usize) -> Option<*mut Node> {
        let queue = self.queue(address);
        let mut node = queue.first;
        // SAFETY: nodes in a list are in their places.
        unsafe {
            while !node.is_null() && (*node).address != address {
                node = (*node).behind;
            }
            if node.is_null() {
                return None;
            }
            queue.remove(node);
            (*node).place = Place::Nowhere;
        }
        Some(node)
    }

    /// Takes the first of those that were called.
    fn take_called(&mut self) -> Option<Token> {
        let node = self.called.first;
        if node.is_null() {
            return None;
        }
        // SAFETY: it is in this list, and in its place.
        unsafe {
            self.called.remove(node);
            (*node).place = Place::Nowhere;
            Some((*node).token)
        }
    }

    /// Takes a node out of whatever list it is in. Whether it was still in its queue: nobody has woken it.
    ///
    /// # Safety
    /// It is in a list of this lot, or in none.
    unsafe fn leave(&mut self, node: *mut Node) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            let place = std::mem::replace(&mut (*node).place, Place::Nowhere);
            match place {
                Place::Nowhere => {}
                Place::Queue => self.queue((*node).address).remove(node),
                Place::Called => self.called.remove(node),
            }
            place == Place::Queue
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
    let nobody = ptr::null_mut();
    let mut node = Node { address, token, place: Place::Queue, before: nobody, behind: nobody };
    let node = &raw mut node;
    // SAFETY: it leaves before this function does, which nothing in between unwinds: a coroutine that waits is never dropped.
    LOT.with(|lot| unsafe { lot.queue(address).push(node) });
    WAITING.fetch_add(1, Ordering::SeqCst);
    let woken = if must_wait() {
        before();
        coroutine.wait_for_lock(token, by, interruptibly)
    } else {
        coroutine.waiting.set(false);
        Wake::Ready
    };
    WAITING.fetch_sub(1, Ordering::SeqCst);
    // SAFETY: it was put into this lot.
    let was_called = !LOT.with(|lot| unsafe { lot.leave(node) });
    // Whoever has taken it out has woken us, and counts on it.
    if was_called && matches!(woken, Wake::TimedOut | Wake::Interrupted) { Wake::Ready } else { woken }
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
    let mut count = 0;
    if let Some(scheduler) = here() {
        while count < most
            // SAFETY: with the lock a node that was in a list is in its place.
            && let Some(token) = LOT.with(|lot| lot.take(address).map(|node| unsafe { (*node).token }))
        {
            scheduler.wake(token, Wake::Ready);
            count += 1;
        }
        return count;
    }
    LOT.with(|lot| {
        while count < most
            && let Some(node) = lot.take(address)
        {
            // SAFETY: it is in no list any more, and in its place while we have the lock.
            unsafe {
                (*node).place = Place::Called;
                lot.called.push(node);
            }
            count += 1;
        }
    });
    if count > 0 {
        remote::ring();
    }
    count
}

/// Ends the waits of those that other threads have woken.
pub(super) fn heed_calls(scheduler: &Scheduler) {
    while let Some(token) = LOT.with(Lot::take_called) {
        scheduler.wake(token, Wake::Ready);
    }
}

/// In a forked process: those who waited are not in it.
pub(super) fn forget() {
    WAITING.store(0, Ordering::SeqCst);
}
