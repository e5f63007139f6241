//! Coroutines with stacks of their own, all on one thread, and what they wait for. Knows no Python and no HTTP.
//!
//! | module | what it is |
//! | --- | --- |
//! | `stack` | a coroutine's stack, with a guard page |
//! | `descriptors` | who waits for which descriptor |
//! | `timers` | when a wait is over at the latest |
//! | `identity` | coroutines as threads |
//! | `mask` | coroutines' signal masks |
//! | `limits` | the time that a request has |
//! | `kept` | waiting with the language's lock |
//! | `brief` | a lock that may be taken anywhere |
//! | `remote` | news of other threads |
//! | `thread_locals`, `tables`, [`thread_keys`] | each coroutine's own of what native libraries keep for a thread |
//! | [`lot`] | who waits at which address: locks, semaphores, conditions |
//! | [`helpers`] | threads for calls that can be waited for in no other way |
//!
//! A coroutine that waits registers a [`Token`] with whatever may end its wait, and lets the thread go on with others. The
//! first that [wakes](Scheduler::wake) the token ends the wait; all others find that it is over. Other threads only say whom
//! they mean.
//!
//! Allocators call the interposed functions as well, in the midst of their work and of ours. So whatever another thread may
//! call, and whatever ends a wait, neither allocates nor takes a lock that is held by who allocates.

mod brief;
mod descriptors;
pub(crate) mod helpers;
mod identity;
mod kept;
mod limits;
pub(crate) mod lot;
mod mask;
mod remote;
mod stack;
mod tables;
pub(crate) mod thread_keys;
pub(crate) mod thread_locals;
mod timers;

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::ffi::c_void;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::RawFd;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use corosensei::{CoroutineResult, Yielder};
use slab::Slab;

pub(crate) use descriptors::CannotWait;
use descriptors::{Descriptors, Found};
pub(crate) use identity::{Who, who_is};
pub(crate) use kept::{held_up, lock_waiter};
use limits::Limit;
use mask::Mask;
use nix::sys::signal::SigSet;
use remote::Remote;
pub(crate) use stack::Bounds;
use stack::GuardedStack;
use thread_keys::{KeyValues, ThreadKeys};
pub(crate) use thread_locals::Lists;
use thread_locals::{ThreadLocals, Values};
use timers::Timers;

use super::fairness::{INTERVAL, LONG, Watch};
use super::interposed;
use super::runtime::{Runtime, State};

/// One wait of one coroutine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token {
    key: usize,
    serial: u64,
}

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// What was waited for may have come.
    Ready,
    /// The time is up.
    TimedOut,
    /// The descriptor was closed.
    Closed,
    /// The request has had its time.
    Interrupted,
}

thread_local! {
    /// The coroutine that runs in this thread.
    static CURRENT: Cell<*const Coroutine> = const { Cell::new(ptr::null()) };
    /// The scheduler of this thread.
    static HERE: Cell<*const Scheduler> = const { Cell::new(ptr::null()) };
}

type Body = corosensei::Coroutine<(), (), (), GuardedStack>;

/// A coroutine, as those see it who run in it.
pub(crate) struct Coroutine {
    scheduler: *const Scheduler,
    key: usize,
    /// What it passes for as a thread.
    identity: usize,
    bounds: Bounds,
    yielder: Cell<*const Yielder<(), ()>>,
    body: UnsafeCell<Option<Body>>,
    state: Cell<State>,
    values: Values,
    key_values: KeyValues,
    cooperative: Cell<bool>,
    /// May wait for locks with its language's lock.
    keeps: Cell<bool>,
    serial: Cell<u64>,
    waiting: Cell<bool>,
    woken: Cell<Wake>,
    /// Has computed for long the last time: others go first.
    late: Cell<bool>,
    mask: Mask,
    limit: Limit,
}

/// The coroutines of a thread.
pub(crate) struct Scheduler {
    runtime: Arc<dyn Runtime>,
    stack_size: usize,
    watch: Arc<Watch>,
    coroutines: RefCell<Slab<Rc<Coroutine>>>,
    ready: RefCell<VecDeque<usize>>,
    late: RefCell<VecDeque<usize>>,
    /// How often others have gone before those that are late.
    passed: Cell<u32>,
    /// How many turns are still to be measured by the thread's own time.
    measured: Cell<u32>,
    timers: RefCell<Timers>,
    limits: RefCell<Timers>,
    /// How many coroutines pass for the process's first thread.
    posing: Cell<usize>,
    descriptors: RefCell<Descriptors>,
    found: RefCell<Found>,
    thread_locals: ThreadLocals,
    thread_keys: ThreadKeys,
    remote: Arc<Remote>,
    /// A coroutine waits with the language's lock.
    kept: Cell<bool>,
    /// The loop takes the language's lock, outside of all coroutines.
    takes_lock: Cell<bool>,
    /// How many coroutines wait for the language's lock.
    wanting: Cell<usize>,
    /// When the loop has last had it, if it had to wait for it.
    took_it: Cell<Option<Instant>>,
    process: u32,
    /// The thread's own signal mask.
    mask: SigSet,
}

/// How many coroutines wait for descriptors, for threads that are about to close one.
static WATCHING: AtomicUsize = AtomicUsize::new(0);

/// How often others may go before those that are late.
const PATIENCE: u32 = 16;
/// How many turns are measured by the thread's own time after one that was long by the clock.
const MEASURED: u32 = 256;
/// The number under which news of other threads are watched.
const REMOTE: u32 = 15;

impl Scheduler {
    /// A scheduler for this thread, which has none yet. It is never dropped: what coroutines hold on their stacks could not
    /// be.
    pub(crate) fn new(
        runtime: Arc<dyn Runtime>,
        stack_size: usize,
        lag: Option<Duration>,
        lists: Lists,
    ) -> io::Result<&'static Scheduler> {
        let remote = Arc::new(Remote::new()?);
        let descriptors = Descriptors::new()?;
        descriptors.watch(remote.descriptor(), REMOTE)?;
        let watch = Watch::start(Arc::clone(&runtime), descriptors.descriptor(), lag)?;
        let word = runtime.word();
        let scheduler: &'static Scheduler = Box::leak(Box::new(Scheduler {
            runtime,
            stack_size,
            watch,
            coroutines: RefCell::default(),
            ready: RefCell::default(),
            late: RefCell::default(),
            passed: Cell::new(0),
            measured: Cell::new(0),
            timers: RefCell::default(),
            limits: RefCell::default(),
            posing: Cell::new(0),
            descriptors: RefCell::new(descriptors),
            found: RefCell::default(),
            thread_locals: ThreadLocals::new(word, lists),
            thread_keys: ThreadKeys::default(),
            remote,
            kept: Cell::new(false),
            takes_lock: Cell::new(false),
            wanting: Cell::new(0),
            took_it: Cell::new(None),
            process: std::process::id(),
            mask: SigSet::thread_get_mask()?,
        }));
        scheduler.thread_keys.look();
        interposed::find_allocator();
        HERE.set(scheduler);
        identity::begin()?;
        remote::serve(&scheduler.remote);
        forget_in_children();
        Ok(scheduler)
    }

    pub(crate) fn runtime(&self) -> &dyn Runtime {
        &*self.runtime
    }

    /// Who goes on now isn't the only one who could, though no other coroutine is ready.
    pub(crate) fn somebody_waits(&self) {
        self.watch.somebody_else_waits();
    }

    /// How many coroutines there are.
    pub(crate) fn len(&self) -> usize {
        self.coroutines.borrow().len()
    }

    /// Whether somebody can go on.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.borrow().is_empty() || !self.late.borrow().is_empty()
    }

    /// Makes a coroutine, which begins with the next turn. A panic in it ends it, and is logged.
    pub(crate) fn spawn(&self, work: impl FnOnce(&Coroutine) + 'static) -> io::Result<()> {
        let stack = GuardedStack::new(self.stack_size)?;
        self.make_room();
        let key = self.coroutines.borrow().vacant_key();
        let identity = identity::of(key).ok_or_else(|| io::Error::other("there are too many coroutines"))?;
        let coroutine = Rc::new(Coroutine {
            scheduler: self,
            key,
            identity,
            bounds: stack.bounds(),
            yielder: Cell::new(ptr::null()),
            body: UnsafeCell::new(None),
            state: Cell::new(0),
            values: Values::default(),
            key_values: KeyValues::default(),
            cooperative: Cell::new(false),
            keeps: Cell::new(false),
            serial: Cell::new(0),
            waiting: Cell::new(false),
            woken: Cell::new(Wake::Ready),
            late: Cell::new(false),
            mask: Mask::default(),
            limit: Limit::default(),
        });
        let me = Rc::as_ptr(&coroutine);
        let body = Body::with_stack(stack, move |yielder, ()| {
            // SAFETY: a coroutine stays in its place until its body has returned.
            let me = unsafe { &*me };
            me.yielder.set(yielder);
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(me))).is_err() {
                tracing::error!("A coroutine of the worker panicked");
            }
        });
        // SAFETY: nobody else knows it yet.
        unsafe { *coroutine.body.get() = Some(body) };
        self.coroutines.borrow_mut().insert(coroutine);
        self.ready.borrow_mut().push_back(key);
        Ok(())
    }

    /// Makes room for one more that is ready, if each is: nothing is allocated where a wait ends.
    fn make_room(&self) {
        let most = self.len() + 1;
        for queue in [&self.ready, &self.late] {
            let room = queue.borrow().capacity();
            if room < most {
                let mut larger = VecDeque::with_capacity(2 * most);
                larger.extend(queue.borrow().iter());
                // The old one is dropped when it is nobody's any more.
                drop(queue.replace(larger));
            }
        }
    }

    /// Lets coroutines that can go on do so, each once, up to `most`; one of those that run for long only when all others
    /// have, or have gone before it often enough.
    pub(crate) fn run_ready(&self, most: usize) {
        let mut began = Instant::now();
        let count = self.ready.borrow().len();
        for _ in 0..count.min(most) {
            let Some(key) = self.ready.borrow_mut().pop_front() else { break };
            began = self.resume(key, began);
        }
        self.passed.set(if count > most { self.passed.get() + 1 } else { PATIENCE });
        if self.passed.get() < PATIENCE {
            return;
        }
        self.passed.set(0);
        let late = self.late.borrow_mut().pop_front();
        if let Some(key) = late {
            self.resume(key, began);
        }
    }

    /// Goes on with a coroutine until it waits or ends. Answers when that was.
    fn resume(&self, key: usize, began: Instant) -> Instant {
        let Some(coroutine) = self.coroutines.borrow().get(key).cloned() else { return began };
        // SAFETY: bodies are touched only here, by the thread that is in none of them.
        let Some(body) = (unsafe { (*coroutine.body.get()).as_mut() }) else { return began };
        self.watch.turn_begins(began, self.has_ready(), self.next_timer(), coroutine.identity());
        let measured = self.measured.get();
        let computed = (measured > 0).then(thread_time);
        coroutine.mask.enter();
        CURRENT.set(Rc::as_ptr(&coroutine));
        self.thread_locals.enter(&coroutine.values);
        self.thread_keys.exchange(&coroutine.key_values);
        self.runtime.switched_to(coroutine.state.get());
        let result = body.resume(());
        self.thread_locals.leave(&coroutine.values);
        self.thread_keys.look();
        self.thread_keys.exchange(&coroutine.key_values);
        CURRENT.set(ptr::null());
        coroutine.mask.leave(self.mask);
        self.watch.turn_ends();
        if let CoroutineResult::Return(()) = result {
            self.coroutines.borrow_mut().remove(key);
        }
        let now = Instant::now();
        let is_long = now.duration_since(began) >= INTERVAL;
        self.measured.set(if is_long { MEASURED } else { measured.saturating_sub(1) });
        // One that was asked to make way lets all others go first, if it has computed at all: on a busy machine the clock goes
        // on while the thread does not. To ask for the thread's time is a system call; so it is left alone until a turn was
        // long, and that one has the benefit of the doubt.
        coroutine.late.set(is_long && computed.is_some_and(|before| thread_time() >= before + LONG));
        now
    }

    /// Ends a wait, unless it is over.
    pub(crate) fn wake(&self, token: Token, wake: Wake) -> bool {
        let live = {
            let coroutines = self.coroutines.borrow();
            coroutines.get(token.key).filter(|coroutine| coroutine.waits_with(token)).cloned()
        };
        let Some(coroutine) = live else { return false };
        coroutine.waiting.set(false);
        coroutine.woken.set(wake);
        let queue = if coroutine.late.get() { &self.late } else { &self.ready };
        queue.borrow_mut().push_back(token.key);
        // Whoever goes on now may have woken it, and go on for long.
        self.watch.somebody_else_waits();
        true
    }

    fn is_live(&self, token: Token) -> bool {
        self.coroutines.borrow().get(token.key).is_some_and(|coroutine| coroutine.waits_with(token))
    }

    /// Watches a descriptor from outside of all coroutines; [`poll`](Self::poll) tells of it by bit `number`, below 15.
    pub(crate) fn watch(&self, descriptor: RawFd, number: u32) -> io::Result<()> {
        self.descriptors.borrow().watch(descriptor, number)
    }

    /// Waits until a coroutine can go on, or a watched descriptor is readable, at most for `most`. Answers the bits of
    /// those descriptors.
    pub(crate) fn poll(&self, most: Option<Duration>) -> io::Result<u32> {
        let watched = self.collect(most)?;
        self.expire_limits();
        Ok(watched)
    }

    /// The same, without those who have had their time.
    fn collect(&self, most: Option<Duration>) -> io::Result<u32> {
        let mut most = if self.has_ready() { Some(Duration::ZERO) } else { most };
        if most != Some(Duration::ZERO)
            && let Some(next) = self.next_timer()
        {
            let until = next.saturating_duration_since(Instant::now());
            most = Some(most.map_or(until, |most| most.min(until)));
        }
        let mut found = self.found.borrow_mut();
        found.woken.clear();
        found.watched = 0;
        // Where a coroutine keeps the lock, others wait for it, though the loop has nothing to do.
        let waits = most != Some(Duration::ZERO) && !self.kept.get();
        if waits {
            self.watch.rest();
        }
        let waited = self.descriptors.borrow_mut().wait(most, |token| self.is_live(token), &mut found);
        if waits {
            self.watch.go_on();
        }
        waited?;
        for token in &found.woken {
            self.wake(*token, Wake::Ready);
        }
        let watched = found.watched;
        drop(found);
        if watched & 1 << REMOTE != 0 {
            self.heed_news();
        }
        self.expire();
        Ok(watched)
    }

    fn next_timer(&self) -> Option<Instant> {
        [self.timers.borrow().next(), self.limits.borrow().next()].into_iter().flatten().min()
    }

    fn expire(&self) {
        for token in timers::all_due(&self.timers) {
            self.wake(token, Wake::TimedOut);
        }
    }

    fn heed_news(&self) {
        let closing = self.remote.take();
        match closing.told() {
            Some(descriptors) => descriptors.iter().for_each(|descriptor| self.is_closing(*descriptor)),
            None => {
                let known = self.descriptors.borrow().known_in(0..=usize::MAX);
                known.into_iter().for_each(|descriptor| self.is_closing(descriptor));
            }
        }
        lot::heed_calls(self);
    }

    /// Another thread closes a descriptor: those who wait for it look whether it has.
    fn is_closing(&self, descriptor: RawFd) {
        let waiting = self.descriptors.borrow_mut().forget(descriptor);
        for token in waiting {
            self.wake(token, Wake::Ready);
        }
    }

    /// A descriptor is about to be closed, or to become another file's: those who wait for it get an error.
    pub(crate) fn closing(&self, descriptor: RawFd) {
        // A child made by vfork closes its own copy, in our memory.
        if !self.descriptors.borrow().knows(descriptor) || std::process::id() != self.process {
            return;
        }
        let waiting = self.descriptors.borrow_mut().forget(descriptor);
        for token in waiting {
            self.wake(token, Wake::Closed);
        }
    }

    /// The same for several at once.
    pub(crate) fn closing_range(&self, descriptors: RangeInclusive<usize>) {
        let known = self.descriptors.borrow().known_in(descriptors);
        for descriptor in known {
            self.closing(descriptor);
        }
    }
}

/// How long this thread has computed.
fn thread_time() -> Duration {
    interposed::now(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Tells the thread of the coroutines that another is about to close a descriptor.
pub(crate) fn closing_elsewhere(descriptor: RawFd) {
    if WATCHING.load(Ordering::Relaxed) > 0 {
        remote::closing(descriptor);
    }
}

/// Whether a variable is a coroutine's own, which runs in this thread, though it lies where the thread has its own.
pub(crate) fn is_a_coroutines(variable: *const c_void) -> bool {
    current().is_some_and(|coroutine| coroutine.scheduler().thread_locals.contain(variable))
}

/// The scheduler of this thread, if it has one.
pub(crate) fn here() -> Option<&'static Scheduler> {
    // SAFETY: schedulers are never dropped.
    unsafe { HERE.get().as_ref() }
}

/// The coroutine that runs in this thread, if one does.
#[inline]
pub(crate) fn current<'a>() -> Option<&'a Coroutine> {
    // SAFETY: it is there for as long as it runs, and whoever asks runs in it.
    unsafe { CURRENT.get().as_ref() }
}

/// The same, if it may wait now.
#[inline]
pub(crate) fn waiter<'a>() -> Option<&'a Coroutine> {
    current().filter(|coroutine| coroutine.may_wait())
}

/// This process was forked from one that has coroutines.
static FORKED: AtomicBool = AtomicBool::new(false);

/// Whether this process was forked by a coroutine (or another thread) of the one that the coroutines are in.
pub(crate) fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// In a forked process there is one thread, which goes on as what it was, and waits by itself.
fn forget_in_children() {
    extern "C" fn forget() {
        FORKED.store(true, Ordering::Relaxed);
        HERE.set(ptr::null());
        lot::forget();
        remote::forget();
        if let Some(coroutine) = current() {
            coroutine.cooperative.set(false);
        }
    }
    // SAFETY: `forget` touches nothing but this process's own memory, and no lock.
    unsafe { libc::pthread_atfork(None, None, Some(forget)) };
}

impl Coroutine {
    pub(crate) fn scheduler(&self) -> &Scheduler {
        // SAFETY: schedulers are never dropped.
        unsafe { &*self.scheduler }
    }

    /// What the runtime keeps for it.
    pub(crate) fn state(&self) -> State {
        self.state.get()
    }

    /// Has the runtime told this state with each switch.
    pub(crate) fn set_state(&self, state: State) {
        self.state.set(state);
        self.scheduler().runtime.switched_to(state);
    }

    /// Whether blocking calls in it wait as coroutines do, from now on.
    pub(crate) fn set_cooperative(&self, cooperative: bool) {
        self.cooperative.set(cooperative);
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The thread's signal mask was changed in it.
    pub(crate) fn has_changed_mask(&self) {
        self.mask.note_change();
    }

    #[inline]
    fn may_wait(&self) -> bool {
        self.cooperative.get() && self.scheduler().runtime.may_wait(self.state.get())
    }

    fn waits_with(&self, token: Token) -> bool {
        self.waiting.get() && self.serial.get() == token.serial
    }

    /// Begins a wait: the token is to be given to whatever may end it.
    pub(crate) fn begin_wait(&self) -> Token {
        self.serial.set(self.serial.get() + 1);
        self.waiting.set(true);
        Token { key: self.key, serial: self.serial.get() }
    }

    /// Waits for the token's end. Others run meanwhile.
    pub(crate) fn wait(&self, token: Token, by: Option<Instant>) -> Wake {
        debug_assert_eq!(self.serial.get(), token.serial);
        let scheduler = self.scheduler();
        if let Some(by) = by
            && self.waiting.get()
        {
            scheduler.timers.borrow_mut().add(by, token, |token| scheduler.is_live(token));
        }
        debug_assert!(ptr::eq(CURRENT.get(), self), "a coroutine waits where it doesn't run");
        // SAFETY: set when the body began, which has not returned; and this is called from within it.
        unsafe { (*self.yielder.get()).suspend(()) };
        self.woken.get()
    }

    /// Waits where an interruption can be told.
    fn wait_interruptibly(&self, token: Token, by: Option<Instant>) -> Wake {
        if self.limit.poses() {
            self.waiting.set(false);
            return Wake::Interrupted;
        }
        self.limit.interruptible.set(true);
        let woken = self.wait(token, by);
        self.limit.interruptible.set(false);
        woken
    }

    /// Waits for nothing but the time.
    pub(crate) fn sleep(&self, by: Option<Instant>) -> Wake {
        let token = self.begin_wait();
        self.wait_interruptibly(token, by)
    }

    /// Lets all others have a turn.
    pub(crate) fn yield_now(&self) {
        let token = self.begin_wait();
        self.scheduler().wake(token, Wake::Ready);
        self.wait(token, None);
    }

    /// Waits until one of the descriptors has one of its events.
    pub(crate) fn wait_for(
        &self,
        descriptors: impl IntoIterator<Item = (RawFd, u32)>,
        by: Option<Instant>,
    ) -> Result<Wake, CannotWait> {
        let scheduler = self.scheduler();
        let token = self.begin_wait();
        for (descriptor, events) in descriptors {
            let mut all = scheduler.descriptors.borrow_mut();
            if let Err(error) = all.add(descriptor, events, token, |token| scheduler.is_live(token)) {
                self.waiting.set(false);
                return Err(error);
            }
        }
        WATCHING.fetch_add(1, Ordering::Relaxed);
        let woken = self.wait_interruptibly(token, by);
        WATCHING.fetch_sub(1, Ordering::Relaxed);
        Ok(woken)
    }
}

impl std::fmt::Debug for Coroutine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coroutine").field("key", &self.key).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("coroutines", &self.len()).finish_non_exhaustive()
    }
}
