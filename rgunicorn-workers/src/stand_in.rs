//! Stands in for a worker's own threads while the application keeps them from its connections.
//!
//! A worker with one thread, or one event loop, that is in a slow request can't look at its other connections, whose
//! requests would wait while other workers have nothing to do; nor can one whose threads are all in requests, or whose
//! threads wait for one that doesn't let go of the interpreter. So each worker that has siblings has one more thread, which
//! knows nothing of the application. Every few milliseconds it looks whether anything went on; if something waits and
//! nothing did, it does the sockets' part of a turn and [hands over](Engine::stand_in) what waits for the application.
//!
//! A thread that wants a processor and has none is no slow request: nothing is handed over for that, since the siblings are
//! no better off. When all has been quiet for a while the stand-in sleeps until somebody has a turn of the engine, or should.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use rgunicorn_core::config::Config;
use rgunicorn_core::engine::{Engine, Pulse};
use rgunicorn_core::scoreboard::Slot;
use rgunicorn_core::sync;
use rgunicorn_core::sys::signals::Blocked;
use rgunicorn_core::sys::threads::{others_runnable, processor_time};

/// How often a stand-in looks.
const TICK: Duration = Duration::from_millis(4);
/// So much time of a processor is no lack of one, and more than an event loop takes to answer all that came at once.
const COMPUTED: Duration = Duration::from_millis(8);
/// After so many ticks in which nothing happened it sleeps.
const QUIET: u32 = 32;

/// Where an engine is to be found.
pub(crate) trait Post: Send + Sync + 'static {
    /// Calls `work` with the engine. If somebody has it now this is waited for, or if not `patient` given up.
    fn with_engine(&self, patient: bool, work: &mut dyn FnMut(&mut Engine));
}

impl Post for Mutex<Engine> {
    fn with_engine(&self, patient: bool, work: &mut dyn FnMut(&mut Engine)) {
        if let Some(mut engine) = lock(self, patient) {
            work(&mut engine);
        }
    }
}

/// Locks a mutex, if not `patient` only if nobody has it now.
pub(crate) fn lock<T>(mutex: &Mutex<T>, patient: bool) -> Option<MutexGuard<'_, T>> {
    if patient {
        return Some(sync::lock(mutex));
    }
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Starts a stand-in where there are other workers, or may be; it ends when `post` is gone. Whether there is one: a worker
/// without one is what it would be alone.
pub(crate) fn start_where_needed(post: &Arc<impl Post>, slot: &Slot, config: &Config) -> bool {
    if slot.scoreboard().is_none() || config.workers.max(config.workers_max) < 2 {
        return false;
    }
    let started = start(post, slot.clone());
    if let Err(error) = &started {
        tracing::error!("Cannot start a thread that stands in for the worker's own: {error}");
    }
    started.is_ok()
}

fn start(post: &Arc<impl Post>, slot: Slot) -> io::Result<()> {
    // Signals are for the worker's own thread, which may have to be interrupted by them.
    let _blocked = Blocked::all()?;
    let mut news = Err(io::ErrorKind::NotFound.into());
    post.with_engine(true, &mut |engine| news = engine.descriptor());
    let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    let watch = Watch { post: Arc::downgrade(post), news: news?, bell, slot, last: Seen::default() };
    std::thread::Builder::new().name("rgunicorn-standin".into()).spawn(|| watch.run())?;
    Ok(())
}

/// What the stand-in does.
struct Watch<P> {
    post: Weak<P>,
    /// Readable when something has come for the engine that nobody has looked at.
    news: OwnedFd,
    /// Rung when somebody has looked, or will.
    bell: Arc<EventFd>,
    slot: Slot,
    last: Seen,
}

/// What was seen at the last tick.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    pulse: Pulse,
    /// Nothing has gone on since some earlier tick, and this was the processor time then.
    since: Duration,
    /// No thread wanted a processor.
    at_rest: bool,
    stuck: bool,
}

impl<P: Post> Watch<P> {
    fn run(mut self) {
        let mut quiet = 0;
        loop {
            std::thread::sleep(TICK);
            let Some(post) = self.post.upgrade() else { return };
            quiet = if self.look(&*post) { 0 } else { quiet + 1 };
            if quiet < QUIET {
                continue;
            }
            // A thread may keep the engine while it waits for events: then this is the sleep.
            let mut sleeps = false;
            post.with_engine(true, &mut |engine| {
                sleeps = !engine.pulse().waits();
                engine.ring(Arc::clone(&self.bell));
            });
            drop(post);
            if sleeps {
                self.sleep();
            }
            quiet = 0;
        }
    }

    /// Sleeps until somebody has a turn of the engine, or something has come that nobody looks at. A worker that ends doesn't
    /// wake anybody up: the process is about to end then, and this thread with it.
    fn sleep(&self) {
        let watched = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
        let mut polled = [watched(self.news.as_fd()), watched(self.bell.as_fd())];
        let _ = poll(&mut polled, PollTimeout::NONE);
        let _ = self.bell.read();
    }

    /// Looks, and stands in if need be. Whether anything is going on.
    fn look(&mut self, post: &P) -> bool {
        let (last, mut now) = (self.last, None);
        post.with_engine(false, &mut |engine| {
            let mut seen = Seen { pulse: engine.pulse(), ..last };
            if seen.pulse.stands_still_since(&last.pulse) {
                let computes = processor_time().saturating_sub(last.since) >= COMPUTED;
                seen.at_rest = !last.stuck && !computes && !others_runnable();
                // Once is not enough: a thread may be waiting for us, who have the engine.
                seen.stuck = last.stuck || computes || (last.at_rest && seen.at_rest);
            } else {
                seen = Seen { since: processor_time(), at_rest: false, stuck: false, ..seen };
            }
            if seen.stuck
                && let Err(error) = engine.stand_in()
            {
                tracing::error!("Cannot stand in for a worker's thread: {error}");
            }
            now = Some(seen);
        });
        // Who has the engine gets on with it, or waits for it to be needed.
        let seen = now.unwrap_or_default();
        if seen.stuck != last.stuck {
            self.slot.take_part(seen.stuck);
        }
        self.last = seen;
        seen.pulse.waits() || seen.pulse.beats_since(&last.pulse)
    }
}
