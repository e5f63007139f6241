//! Stands in for a worker's own thread while the application keeps that from its connections.
//!
//! A worker with one thread, or one event loop, that is in a slow request can't look at its other connections, whose requests would wait while
//! other workers have nothing to do. So each such worker that has siblings has a second thread, which knows nothing of the
//! application. Every few milliseconds it looks whether anything went on; if something waits and nothing did, it does the
//! sockets' part of a turn and [hands over](Engine::stand_in) what waits for the application.
//!
//! A thread that wants a processor and has none is no slow request: nothing is handed over for that, since the siblings are
//! no better off. While the worker is idle its stand-in sleeps, and is woken up with it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, TryLockError, Weak};
use std::thread::Thread;
use std::time::Duration;

use rgunicorn_core::config::Config;
use rgunicorn_core::engine::Engine;
use rgunicorn_core::scoreboard::Slot;
use rgunicorn_core::sys::signals::Blocked;
use rgunicorn_core::sys::threads::{others_runnable, processor_time};

/// How often a stand-in looks.
const TICK: Duration = Duration::from_millis(4);
/// So much time of a processor is no lack of one.
const COMPUTED: Duration = Duration::from_millis(3);
/// After so many ticks in which nothing happened it sleeps.
const QUIET: u32 = 32;

/// Where an engine is to be found.
pub(crate) trait Post: Send + Sync + 'static {
    /// Calls `work` with the engine, unless somebody has it now.
    fn try_engine(&self, work: &mut dyn FnMut(&mut Engine));
}

impl Post for Mutex<Engine> {
    fn try_engine(&self, work: &mut dyn FnMut(&mut Engine)) {
        match self.try_lock() {
            Ok(mut engine) => work(&mut engine),
            Err(TryLockError::Poisoned(poisoned)) => work(&mut poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
    }
}

/// A worker's stand-in, as the worker sees it.
pub(crate) struct StandIn {
    bed: Arc<Bed>,
    thread: Thread,
}

/// How the worker's own thread and its stand-in tell each other who sleeps.
#[derive(Default)]
struct Bed {
    asleep: AtomicBool,
    /// How often the worker has been woken up.
    wakes: AtomicU64,
}

impl StandIn {
    /// Starts a stand-in where there are other workers, or may be. Without one the worker is what it would be alone.
    pub(crate) fn where_needed(post: &Arc<impl Post>, slot: &Slot, config: &Config) -> Option<StandIn> {
        if slot.scoreboard().is_none() || config.workers.max(config.workers_max) < 2 {
            return None;
        }
        StandIn::start(post, slot.clone())
            .inspect_err(|error| {
                tracing::error!("Cannot start a thread that stands in for this one: {error}")
            })
            .ok()
    }

    /// Starts a stand-in, which ends when `post` is gone.
    ///
    /// # Errors
    /// When there is no room for another thread.
    fn start(post: &Arc<impl Post>, slot: Slot) -> io::Result<StandIn> {
        // Signals are for the worker's own thread, which may have to be interrupted by them.
        let _blocked = Blocked::all()?;
        let bed = Arc::new(Bed::default());
        let watch = Watch { post: Arc::downgrade(post), bed: Arc::clone(&bed), slot, last: Seen::default() };
        let thread = std::thread::Builder::new().name("rgunicorn-standin".into()).spawn(|| watch.run())?;
        Ok(StandIn { bed, thread: thread.thread().clone() })
    }

    /// The worker has been woken up, or is about to call its application.
    #[inline]
    pub(crate) fn rouse(&self) {
        // Of the two, one sees what the other has said: see `Watch::sleep`.
        self.bed.wakes.fetch_add(1, SeqCst);
        if self.bed.asleep.load(SeqCst) {
            self.bed.asleep.store(false, SeqCst);
            self.thread.unpark();
        }
    }
}

/// What the stand-in does.
struct Watch<P> {
    post: Weak<P>,
    bed: Arc<Bed>,
    slot: Slot,
    last: Seen,
}

/// What was seen at the last tick.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    steps: u64,
    /// Something waited.
    waits: bool,
    /// Nothing has gone on since some earlier tick, and this was the processor time then.
    since: Duration,
    stuck: bool,
}

impl<P: Post> Watch<P> {
    fn run(mut self) {
        let mut quiet = 0;
        let mut wakes = 0;
        loop {
            std::thread::sleep(TICK);
            let Some(post) = self.post.upgrade() else { return };
            let woken = self.bed.wakes.load(SeqCst);
            let idle = !self.look(&*post) && woken == wakes;
            drop(post);
            quiet = if idle { quiet + 1 } else { 0 };
            wakes = woken;
            if quiet >= QUIET {
                self.sleep(wakes);
                quiet = 0;
            }
        }
    }

    /// Sleeps until the worker is woken up, unless that has happened since `wakes` was read.
    fn sleep(&self, wakes: u64) {
        self.bed.asleep.store(true, SeqCst);
        if self.bed.wakes.load(SeqCst) != wakes {
            self.bed.asleep.store(false, SeqCst);
        }
        while self.bed.asleep.load(SeqCst) {
            // A worker that ends doesn't call: the process is about to end then, and this thread with it.
            std::thread::park();
        }
    }

    /// Looks, and stands in if need be. Whether anything is going on.
    fn look(&mut self, post: &P) -> bool {
        let (last, mut now) = (self.last, None);
        post.try_engine(&mut |engine| {
            let mut seen = Seen { steps: engine.steps(), waits: engine.is_held_up(), ..last };
            if seen.steps != last.steps || !last.waits || !seen.waits {
                seen.since = processor_time();
                seen.stuck = false;
            } else if last.stuck
                || processor_time().saturating_sub(last.since) >= COMPUTED
                || !others_runnable()
            {
                seen.stuck = true;
                if let Err(error) = engine.stand_in() {
                    tracing::error!("Cannot stand in for a worker's thread: {error}");
                }
            }
            now = Some(seen);
        });
        // Who has the engine gets on with it.
        let seen = now.unwrap_or(Seen { waits: false, stuck: false, ..last });
        if seen.stuck != last.stuck {
            self.slot.take_part(seen.stuck);
        }
        self.last = seen;
        seen.waits || seen.steps != last.steps
    }
}
