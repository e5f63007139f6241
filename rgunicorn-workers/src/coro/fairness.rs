//! No coroutine keeps the others from running: one that computes is asked to let go of its language's lock.
//!
//! CPython makes a thread that runs let go of the GIL once another has asked for it for `sys.getswitchinterval()`; letting
//! go waits for a condition of the C library's, which is interposed, and so lets other coroutines run. All that is missing
//! is somebody who asks: a thread that looks on, every few milliseconds while the worker isn't idle, and asks only if a
//! coroutine has run for a while and others could. An idle worker's watch sleeps.

use std::collections::HashSet;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use rgunicorn_core::sync::lock;

use super::interposed::real;
use super::runtime::Runtime;

/// How often is looked. A coroutine that has run this long lets all others go first the next time.
pub(super) const INTERVAL: Duration = Duration::from_millis(5);
/// How long a coroutine may run without being looked at.
pub(super) const LONG: Duration = Duration::from_millis(1);

/// How often the loop yields to the thread that asks before it naps, and for how long then.
const YIELDS: u32 = 8;
const NAP: Duration = Duration::from_micros(100);

/// What the loop says of itself, and the thread that looks.
#[derive(Debug)]
pub(super) struct Watch {
    begun: Instant,
    /// How many times a coroutine has gone on; odd numbers while one runs.
    turn: AtomicU64,
    /// When the last turn began, in nanoseconds since it all did.
    since: AtomicU64,
    /// Whether others are ready to run, as far as was known when the turn began.
    others: AtomicBool,
    /// When a timer is due, in nanoseconds since it all began; 0 for none.
    due: AtomicU64,
    /// The loop waits, or is about to.
    idle: AtomicBool,
    /// The alarm is set, or the thread is awake.
    armed: AtomicBool,
    /// The thread asks for the lock, or keeps it.
    asking: AtomicBool,
    /// The thread has the lock, and waits for the end of the turn.
    asked: AtomicBool,
    thread: OnceLock<Thread>,
    alarm: TimerFd,
    /// Readable when something has come that the loop would look at.
    news: RawFd,
    /// Who goes on.
    running: AtomicUsize,
    /// Who waits with the lock; 0 for nobody.
    keeper: AtomicUsize,
    lag: Option<Lag>,
}

/// Looks for those who don't make way for so long that it is worth a line in the log.
#[derive(Debug)]
struct Lag {
    most: Duration,
    /// Where that was seen.
    seen: Mutex<HashSet<String>>,
}

impl Lag {
    /// With the lock, after `waited` for it. The one who had it has just let go of it: it is still where it was.
    fn report(&self, waited: Duration, place: Option<(String, String)>) {
        let Some((place, all)) = place else { return };
        if lock(&self.seen).insert(place) {
            let waited = waited.as_millis();
            tracing::warn!(
                "A request has kept all others waiting for {waited} ms without letting go of the lock; it was here (said once \
                 for each place):\n{all}"
            );
        }
    }
}

impl Watch {
    /// Starts the thread. `news` is the scheduler's epoll instance.
    pub(super) fn start(
        runtime: Arc<dyn Runtime>,
        news: RawFd,
        lag: Option<Duration>,
    ) -> io::Result<Arc<Watch>> {
        let watch = Arc::new(Watch {
            begun: Instant::now(),
            turn: AtomicU64::new(0),
            since: AtomicU64::new(0),
            others: AtomicBool::new(false),
            due: AtomicU64::new(0),
            idle: AtomicBool::new(false),
            // Until the loop first waits it isn't idle, and may be in a request that computes.
            armed: AtomicBool::new(true),
            asking: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            thread: OnceLock::new(),
            alarm: TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?,
            news,
            running: AtomicUsize::new(0),
            keeper: AtomicUsize::new(0),
            lag: lag.map(|most| Lag { most, seen: Mutex::default() }),
        });
        watch.arm();
        let looking = Arc::clone(&watch);
        // Signals are the first thread's; a thread begins with the mask of the one that starts it.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
        let started =
            std::thread::Builder::new().name("coro-watch".into()).spawn(move || looking.live(&*runtime));
        if let Ok(mask) = mask {
            let _ = mask.thread_set_mask();
        }
        started.map(|_| watch)
    }

    /// Lets the thread have what it asks for, outside of all coroutines: whoever takes the lock before it takes back what
    /// it has asked for.
    pub(super) fn settle(&self) {
        let until = Instant::now() + 4 * INTERVAL;
        let mut tries = 0;
        while self.asking.load(Ordering::SeqCst) && Instant::now() < until {
            // It has what it asked for in a moment, unless it has no processor.
            match tries {
                0..YIELDS => std::thread::yield_now(),
                _ => std::thread::sleep(NAP),
            }
            tries += 1;
        }
    }

    fn arm(&self) {
        // It can't fail with a valid time.
        let _ = self.alarm.set(Expiration::OneShot(TimeSpec::from(INTERVAL)), TimerSetTimeFlags::empty());
    }

    /// A coroutine goes on.
    #[inline]
    pub(super) fn turn_begins(&self, now: Instant, others: bool, due: Option<Instant>, who: usize) {
        self.running.store(who, Ordering::Relaxed);
        let nanoseconds = |time: Instant| time.saturating_duration_since(self.begun).as_nanos() as u64;
        self.since.store(nanoseconds(now), Ordering::Relaxed);
        self.others.store(others, Ordering::Relaxed);
        self.due.store(due.map_or(0, nanoseconds), Ordering::Relaxed);
        self.turn.store(self.turn.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// A coroutine waits with the lock, or, where it is 0, does so no more.
    pub(super) fn keeps(&self, who: usize) {
        self.keeper.store(who, Ordering::SeqCst);
    }

    /// Others could go on, beside those who were known when this turn began.
    #[inline]
    pub(super) fn somebody_else_waits(&self) {
        self.others.store(true, Ordering::Relaxed);
    }

    /// It waits, or is over.
    #[inline]
    pub(super) fn turn_ends(&self) {
        self.turn.store(self.turn.load(Ordering::Relaxed) + 1, Ordering::SeqCst);
        if self.asked.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// With the lock that the coroutine of this turn has let go of: keeps it until the coroutine has found it taken and
    /// waits for it. Had it the lock again at once, nobody else would have had a turn.
    fn hold(&self, turn: u64) {
        self.asked.store(true, Ordering::SeqCst);
        let until = Instant::now() + INTERVAL;
        while self.turn.load(Ordering::SeqCst) == turn {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::park_timeout(left);
        }
        self.asked.store(false, Ordering::SeqCst);
        // It has had what it asked for. Letting go of it may take until another has taken it.
        self.asking.store(false, Ordering::SeqCst);
    }

    /// The loop is about to wait.
    pub(super) fn rest(&self) {
        self.idle.store(true, Ordering::SeqCst);
    }

    /// It has waited.
    pub(super) fn go_on(&self) {
        self.idle.store(false, Ordering::SeqCst);
        if !self.armed.swap(true, Ordering::SeqCst) {
            self.arm();
        }
    }

    fn live(&self, runtime: &dyn Runtime) {
        let _ = self.thread.set(std::thread::current());
        while self.alarm.wait().is_ok() {
            let turn = self.turn.load(Ordering::Acquire);
            let keeper = self.keeper.load(Ordering::SeqCst);
            if keeper != 0 || turn % 2 == 1 && self.is_long() && self.somebody_waits() {
                self.asking.store(true, Ordering::SeqCst);
                let asked = Instant::now();
                let who = if keeper != 0 { keeper } else { self.running.load(Ordering::Relaxed) };
                runtime.ask(&mut || {
                    let waited = asked.elapsed();
                    if let Some(lag) = self.lag.as_ref().filter(|lag| waited >= lag.most) {
                        lag.report(waited, runtime.place(who));
                    }
                    if keeper == 0 {
                        self.hold(turn);
                    }
                });
                self.asking.store(false, Ordering::SeqCst);
            }
            if !self.idle.load(Ordering::SeqCst) {
                self.arm();
                continue;
            }
            self.armed.store(false, Ordering::SeqCst);
            // The loop may have gone on in between, and have found the alarm set.
            if !self.idle.load(Ordering::SeqCst) && !self.armed.swap(true, Ordering::SeqCst) {
                self.arm();
            }
        }
    }

    /// Whether the turn has lasted for long enough to look at it: the lock's own interval comes on top.
    fn is_long(&self) -> bool {
        self.begun.elapsed().as_nanos() as u64 >= self.since.load(Ordering::Relaxed) + LONG.as_nanos() as u64
    }

    fn somebody_waits(&self) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        let is_due = due != 0 && due <= self.begun.elapsed().as_nanos() as u64;
        is_due || self.others.load(Ordering::Relaxed) || real::is_readable(self.news)
    }
}
