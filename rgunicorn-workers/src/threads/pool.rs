//! The threads of a worker, and who does what.
//!
//! A thread is at any time one of these:
//!
//! - the **leader** waits for the engine's descriptor, without the application's lock (Python's GIL); there is at most one,
//!   and it naps while a runner does its work;
//! - the **standby** waits for that lock, since requests are queued; there is at most one;
//! - **runners** have taken a request each and are in the application, or wait there for whatever the application waits
//!   for; a runner that comes back takes the next request itself;
//! - the **others** sleep.
//!
//! So a request is run by the thread that has found it, or by one that runs already: it crosses threads only if it must.
//! The lock is fought over by two threads, not by all: as soon as a runner lets go of it (to wait for a database, say) the
//! standby has it, takes the next request, and sees to it that another stands by. While requests are quick, one thread
//! runs them all, batch by batch, as the class `event` would. CPython would make it drop the lock after 5 ms with the
//! standby waiting, in the middle of a request, which would then wait for its turn: a runner hands the lock over shortly
//! before that, between two requests; also where all threads are runners, of which some may wait for the lock in the middle
//! of a request: these would otherwise make each other drop it there, and a request could wait for all of them in turn.
//! Threads are started when a role is free and nobody sleeps.
//!
//! Where many runners come back at a time from what they waited for, the lock is what they wait for next, and CPython's lock
//! is the slower the more do. How long the standby has waited for it tells: if it was that long, runners that have ended their
//! requests leave the next ones to it. So no more requests are begun than the lock can bear, however many threads there may be.
//! What makes a crowd all the same is told to the application.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use rgunicorn_core::app::Application;
use rgunicorn_core::engine::Engine;
use rgunicorn_core::sync::lock;
use rgunicorn_core::sys::threads::default_stack_size;
use rgunicorn_core::worker::Exit;

use crate::boot::Recycling;
use crate::holding::Holding;
use crate::stand_in::{self, Post};

/// The threads and the engine that they share.
pub(super) struct Pool {
    application: Box<dyn Application>,
    shared: Mutex<Shared>,
    /// Where the others sleep.
    role_is_free: Condvar,
    /// The engine's descriptor, which the leader waits for.
    engine: OwnedFd,
    /// Makes the leader look again.
    recall: EventFd,
    /// Tells the first thread that something has changed.
    news: EventFd,
    /// How many threads there may be.
    most: usize,
    connections: AtomicUsize,
}

/// What the threads share under one lock, which nobody holds while waiting for anything.
struct Shared {
    engine: Engine,
    leading: bool,
    /// Since when the standby, if there is one, waits for the application's lock.
    standing_by: Option<Instant>,
    /// Whether a thread naps that would lead, were there not a runner that does the leader's work by the way.
    napping: bool,
    /// How many take one request after the other.
    running: usize,
    /// How many the application was last told that there are.
    crowd: usize,
    /// How many requests were quick, one after the other.
    streak: usize,
    /// Until when the leader waits if nothing happens; none for ever.
    leader_until: Option<Instant>,
    sleeping: usize,
    /// Those that were woken or started and have not come to take a role yet.
    coming: usize,
    threads: usize,
    recycling: Recycling,
    /// How to end, if one of the threads has found that the worker must.
    exit: Option<Exit>,
    over: bool,
}

impl Shared {
    /// So many quick requests make it likely that the next one is quick as well.
    const STREAK: usize = 32;

    /// So many runners are no crowd yet.
    const FEW: usize = 64;

    /// What to tell the application of the number of runners: powers of two, so that it is told seldom.
    fn new_crowd(&mut self) -> Option<usize> {
        let crowd = match self.running {
            more if more > self.crowd => more.next_power_of_two(),
            fewer if fewer < self.crowd / 4 && self.crowd > Self::FEW => self.crowd / 2,
            _ => return None,
        };
        self.crowd = crowd;
        Some(crowd)
    }

    /// Whether somebody sends the answers that a runner keeps back, should the application keep the runner: who naps, at
    /// the end of its nap, and who neither runs nor sleeps nor leads, as soon as it stands by and has the application's
    /// lock, or has taken another role.
    fn sends_what_is_held(&self) -> bool {
        let engaged = self.running + usize::from(self.leading) + self.sleeping;
        self.napping || self.coming > 0 || self.threads > engaged
    }

    /// Whether a runner leaves the next request to somebody else, now that its last one, which may have been slow, has ended.
    fn runner_leaves(&self, stint: &Stint, slow: bool) -> bool {
        match self.standing_by {
            // The lock was kept from the standby by this runner, or by so many others that no more requests should be begun.
            Some(since) => stint.now.saturating_duration_since(since) > Stint::LONGEST,
            // Whoever takes the next one asks for the lock after all that want it now, and sees how long that takes.
            None => self.running > 1 && (stint.is_over() || slow && self.engine.queued() > 0),
        }
    }

    /// Whether a leader had better nap.
    fn naps(&self) -> bool {
        !self.leading && !self.napping && self.running > 0 && self.streak >= Self::STREAK
    }
}

impl Pool {
    /// How long the sockets may go without being looked at should that be wrong.
    const NAP: Duration = Duration::from_millis(1);
    /// How long a thread keeps off the application's lock that has let go of it for others: until they are awake.
    const WAY: Duration = Duration::from_micros(50);

    pub(super) fn new(
        application: Box<dyn Application>,
        engine: Engine,
        most: usize,
        recycling: Recycling,
    ) -> io::Result<Pool> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Pool {
            application,
            engine: engine.descriptor()?,
            shared: Mutex::new(Shared {
                engine,
                leading: false,
                standing_by: None,
                napping: false,
                running: 0,
                crowd: Shared::FEW,
                streak: 0,
                leader_until: None,
                sleeping: 0,
                coming: 0,
                threads: 0,
                recycling,
                exit: None,
                over: false,
            }),
            role_is_free: Condvar::new(),
            recall: EventFd::from_flags(flags)?,
            news: EventFd::from_flags(flags)?,
            most,
            connections: AtomicUsize::new(0),
        })
    }

    /// Starts the first thread, which starts others as they are needed.
    pub(super) fn start(self: &Arc<Self>) -> io::Result<()> {
        // Which is when it sees what its threads are to have.
        self.application.attach(&mut || {});
        self.spawn(&mut self.lock())
    }

    fn spawn(self: &Arc<Self>, shared: &mut Shared) -> io::Result<()> {
        let pool = Arc::clone(self);
        let name = format!("rgunicorn-{}", shared.threads + 1);
        let mut builder = std::thread::Builder::new().name(name);
        // As much as a thread of the application's own would have, and not what Rust gives.
        if let Some(size) = self.application.stack_size().or_else(default_stack_size) {
            builder = builder.stack_size(size);
        }
        builder.spawn(move || {
            pool.application.live(&mut || pool.live());
        })?;
        shared.threads += 1;
        shared.coming += 1;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }

    /// The life of a thread, from one role to the next. Without the application's lock.
    fn live(self: &Arc<Self>) {
        let mut shared = self.lock();
        shared.coming = shared.coming.saturating_sub(1);
        while !shared.over {
            if shared.engine.queued() > 0 && shared.standing_by.is_none() {
                shared.standing_by = Some(Instant::now());
                drop(shared);
                let mut makes_way = false;
                self.application.attach(&mut || makes_way = self.run());
                if makes_way {
                    std::thread::sleep(Self::WAY);
                }
                shared = self.lock();
            } else if shared.naps() {
                shared = self.nap(shared);
            } else if !shared.leading {
                shared.leading = true;
                shared = self.lead(shared);
                shared.leading = false;
            } else {
                // The leader, who would do this before it waits, may be waiting already.
                if let Some(access) = shared.engine.access_log() {
                    access.flush();
                }
                shared.sleeping += 1;
                shared = self.role_is_free.wait(shared).unwrap_or_else(PoisonError::into_inner);
                shared.sleeping -= 1;
                shared.coming = shared.coming.saturating_sub(1);
            }
        }
    }

    /// While a runner has one quick request after the other, it looks at the sockets itself after each batch: a leader
    /// would be woken up for each of them, for nothing. If the runner doesn't get on, the lead is taken after all.
    fn nap<'a>(self: &'a Arc<Self>, mut shared: MutexGuard<'a, Shared>) -> MutexGuard<'a, Shared> {
        let before = shared.engine.requests();
        shared.napping = true;
        shared.sleeping += 1;
        let rested = self.role_is_free.wait_timeout(shared, Self::NAP);
        let (mut shared, _) = rested.unwrap_or_else(PoisonError::into_inner);
        shared.sleeping -= 1;
        shared.coming = shared.coming.saturating_sub(1);
        shared.napping = false;
        if shared.engine.requests() == before {
            shared.streak = 0;
            shared.engine.send_held();
        }
        shared
    }

    /// Waits until the engine has something to do, and has it done.
    fn lead<'a>(self: &'a Arc<Self>, mut shared: MutexGuard<'a, Shared>) -> MutexGuard<'a, Shared> {
        // Of a runner that may be in a slow request now.
        shared.engine.send_held();
        let most = shared.engine.prepare_wait(None);
        shared.leader_until = most.and_then(|most| Instant::now().checked_add(most));
        drop(shared);
        let waited = super::wait_for([self.engine.as_fd(), self.recall.as_fd()], most);
        let mut shared = self.lock();
        // It only says that there is something; that is looked at now.
        let _ = self.recall.read();
        self.turn(&mut shared, waited, Engine::process_aside);
        shared
    }

    fn turn(&self, shared: &mut Shared, waited: io::Result<()>, process: fn(&mut Engine)) {
        if let Err(error) = waited.and_then(|()| shared.engine.wait(Some(Duration::ZERO))) {
            tracing::error!("Cannot wait for connections: {error}");
            self.note_end(shared, Exit::Stopped);
            return;
        }
        process(&mut shared.engine);
        self.connections.store(shared.engine.connections(), Ordering::Relaxed);
        self.tell_if_drained(shared);
    }

    /// Runs the application for one request after the other, as long as there are any. With its lock. Returns whether
    /// somebody else must have it next, who may be in the middle of a request.
    fn run(self: &Arc<Self>) -> bool {
        let mut shared = self.lock();
        shared.standing_by = None;
        shared.running += 1;
        shared = self.tell_crowd(shared);
        // Those of a runner that has let go of the application's lock, and is slower than it seemed.
        shared.engine.send_held();
        let mut stint = Stint::begin();
        let mut holding = Holding::default();
        let mut makes_way = false;
        let mut slow = false;
        while !shared.over {
            if shared.runner_leaves(&stint, slow) {
                makes_way = shared.standing_by.is_none() && !slow;
                break;
            }
            if shared.engine.queued() == 0 {
                shared.engine.send_held();
                self.turn(&mut shared, Ok(()), Engine::process);
            }
            let Some(mut exchange) = shared.engine.next() else { break };
            self.fill_roles(&mut shared);
            if shared.sends_what_is_held() || self.most == 1 {
                holding.prepare(&shared.engine, &mut exchange);
            }
            drop(shared);
            let advanced = exchange.advance(&*self.application);
            let before = stint.now;
            let quick = stint.note_request();
            shared = self.lock();
            slow = !quick;
            shared.streak = if quick { shared.streak + 1 } else { 0 };
            shared.engine.give_back(exchange);
            holding.given_back(&mut shared.engine, before);
            if let Err(status) = advanced {
                self.note_end(&mut shared, Exit::Application(status));
            }
            self.recall_if_late(&shared);
            self.recycle(&mut shared);
            self.tell_if_drained(&shared);
        }
        shared.engine.send_held();
        shared.running -= 1;
        drop(self.tell_crowd(shared));
        makes_way
    }

    /// With the application's lock, so that what it is told last is true.
    fn tell_crowd<'a>(&'a self, mut shared: MutexGuard<'a, Shared>) -> MutexGuard<'a, Shared> {
        let Some(crowd) = shared.new_crowd() else { return shared };
        drop(shared);
        self.application.crowd(crowd);
        self.lock()
    }

    /// Before a thread goes into the application: whoever is needed meanwhile must be there.
    fn fill_roles(self: &Arc<Self>, shared: &mut Shared) {
        let needed = match shared.engine.queued() {
            0 => !shared.leading && !shared.napping,
            _ => shared.standing_by.is_none(),
        };
        if !needed || shared.coming > 0 {
            return;
        }
        if shared.sleeping > 0 {
            shared.coming += 1;
            self.role_is_free.notify_one();
        } else if shared.threads < self.most
            && let Err(error) = self.spawn(shared)
        {
            tracing::error!("Cannot start a thread, going on with {}: {error}", shared.threads);
        }
    }

    /// What was given back may have to time out before the leader would look.
    fn recall_if_late(&self, shared: &Shared) {
        let Some(next) = shared.engine.next_timer() else { return };
        if shared.leading && shared.leader_until.is_none_or(|until| next < until) {
            let _ = self.recall.write(1);
        }
    }

    fn recycle(&self, shared: &mut Shared) {
        if shared.recycling.must_end(shared.engine.requests()) {
            // Now, and not once the first thread has got around to it: others would answer many more meanwhile.
            shared.engine.drain(false);
            self.note_end(shared, Exit::Recycled);
        }
    }

    fn note_end(&self, shared: &mut Shared, exit: Exit) {
        shared.exit.get_or_insert(exit);
        self.tell();
    }

    fn tell_if_drained(&self, shared: &Shared) {
        if shared.engine.is_drained() {
            self.tell();
        }
    }

    fn tell(&self) {
        // Full means told.
        let _ = self.news.write(1);
    }
}

/// For how long a runner has held the application's lock, as far as it can tell.
struct Stint {
    since: Instant,
    now: Instant,
}

impl Stint {
    /// A little less than CPython's switch interval, 5 ms.
    const LONGEST: Duration = Duration::from_millis(4);
    /// A request that takes longer has waited for something, without the lock, or been made to drop it.
    const QUICK: Duration = Duration::from_millis(2);

    fn begin() -> Stint {
        let now = Instant::now();
        Stint { since: now, now }
    }

    /// Notes that a request has ended; whether it was quick.
    fn note_request(&mut self) -> bool {
        let before = std::mem::replace(&mut self.now, Instant::now());
        let quick = self.now - before <= Self::QUICK;
        if !quick {
            self.since = self.now;
        }
        quick
    }

    fn is_over(&self) -> bool {
        self.now - self.since > Self::LONGEST
    }
}

impl Post for Pool {
    fn with_engine(&self, patient: bool, work: &mut dyn FnMut(&mut Engine)) {
        if let Some(mut shared) = stand_in::lock(&self.shared, patient) {
            work(&mut shared.engine);
        }
    }
}

/// The first thread's side.
impl Pool {
    pub(super) fn application(&self) -> &dyn Application {
        &*self.application
    }

    /// Readable when [`exit`](Self::exit) or [`is_drained`](Self::is_drained) may have changed.
    pub(super) fn news(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    /// Why the worker must end, if one of the threads has found that it must. Takes in the news.
    pub(super) fn exit(&self) -> Option<Exit> {
        let _ = self.news.read();
        self.lock().exit
    }

    /// Makes the worker end, for this reason if there is none yet.
    pub(super) fn end_for(&self, exit: Exit) {
        self.note_end(&mut self.lock(), exit);
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn reopen_log(&self) {
        if let Some(access) = self.lock().engine.access_log() {
            access.reopen();
        }
    }

    /// See [`Engine::drain`].
    pub(super) fn drain(&self, answer_queue: bool) {
        self.lock().engine.drain(answer_queue);
        let _ = self.recall.write(1);
    }

    pub(super) fn is_drained(&self) -> bool {
        self.lock().engine.is_drained()
    }

    /// Sends the threads home, those that are not in the application, and says why it all ended.
    pub(super) fn end(&self) -> Exit {
        let mut shared = self.lock();
        shared.over = true;
        self.role_is_free.notify_all();
        let _ = self.recall.write(1);
        shared.engine.end();
        shared.exit.unwrap_or(Exit::Stopped)
    }
}
