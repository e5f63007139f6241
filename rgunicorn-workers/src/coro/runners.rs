//! The coroutines that requests run in.
//!
//! A runner takes one request after the other from the engine and runs the application, with its lock held from one to the
//! next, as the class `event` would. Only when the application waits the thread goes on elsewhere, and another runner
//! takes what is queued. A runner that comes back from its request takes the next itself; one that finds nothing rests
//! until it is called. There are as many as ever were needed at once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rgunicorn_core::app::{AppError, Application, Request, Response};
use rgunicorn_core::config::Config;
use rgunicorn_core::engine::Engine;
use rgunicorn_core::scoreboard::Slot;
use rgunicorn_core::sync::lock;
use rgunicorn_core::worker::{Control, Exit};

use super::most_at_once;
use super::runtime::Runtime;
use super::scheduler::{Coroutine, Scheduler, Token, Wake, current};
use crate::boot::Recycling;
use crate::holding::Holding;

/// How many requests a runner answers before it lets the loop look for what else has become ready.
const TURN: usize = 64;

/// The runners of a worker, and what they share.
pub(super) struct Runners {
    scheduler: &'static Scheduler,
    application: Box<dyn Application>,
    /// Locked for moments only: a stand-in looks at it, too.
    engine: Arc<Mutex<Engine>>,
    slot: Slot,
    most: usize,
    /// How long a request may take.
    limit: Option<Duration>,
    /// Those that rest, the last first: its stack is the warmest.
    resting: RefCell<Vec<Token>>,
    /// How many have been called, or have let others go first, and will take what is queued.
    coming: Cell<usize>,
    recycling: Recycling,
    /// How the worker is to end, if that was found.
    exit: Cell<Option<Exit>>,
}

impl Runners {
    pub(super) fn new(
        scheduler: &'static Scheduler,
        application: Box<dyn Application>,
        engine: Arc<Mutex<Engine>>,
        slot: Slot,
        config: &Config,
        recycling: Recycling,
    ) -> Rc<Self> {
        Rc::new(Runners {
            scheduler,
            application,
            engine,
            slot,
            most: most_at_once(config),
            limit: (!config.request_timeout.is_zero()).then_some(config.request_timeout),
            resting: RefCell::default(),
            coming: Cell::new(0),
            recycling,
            exit: Cell::new(None),
        })
    }

    /// The engine, not to be kept while anything is waited for or the application has its turn.
    pub(super) fn engine(&self) -> MutexGuard<'_, Engine> {
        lock(&self.engine)
    }

    pub(super) fn application(&self) -> &dyn Application {
        &*self.application
    }

    /// Whether requests are queued that somebody can take.
    pub(super) fn has_work(&self) -> bool {
        self.engine().queued() > 0 && (self.coming.get() > 0 || self.can_call())
    }

    /// Whether a request that comes now would begin.
    pub(super) fn can_call(&self) -> bool {
        !self.resting.borrow().is_empty() || self.scheduler.len() < self.most
    }

    /// How long to wait at most: until the engine's next timer, and no longer than `most`.
    pub(super) fn until_next_turn(&self, most: Option<Duration>) -> Option<Duration> {
        let mut engine = self.engine();
        let until = engine.prepare_wait(most);
        // What is queued, and nobody is free for, is no reason not to wait.
        match engine.next_timer() {
            _ if engine.queued() == 0 => until,
            None => most,
            Some(next) => {
                let until = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                Some(most.map_or(until, |most| most.min(until)))
            }
        }
    }

    /// Calls a runner if requests are queued and none is on its way.
    pub(super) fn call(self: &Rc<Self>) {
        if self.engine().queued() == 0 || self.coming.get() > 0 {
            return;
        }
        let rested = self.resting.borrow_mut().pop();
        let called = match rested {
            Some(token) => self.scheduler.wake(token, Wake::Ready),
            None if self.scheduler.len() < self.most => self.start(),
            None => false,
        };
        if called {
            self.coming.set(self.coming.get() + 1);
        }
    }

    fn start(self: &Rc<Self>) -> bool {
        let runners = Rc::clone(self);
        let started = self.scheduler.spawn(move |coroutine| runners.live(coroutine));
        if let Err(error) = &started {
            tracing::error!("Cannot make a coroutine, going on with {}: {error}", self.scheduler.len());
        }
        started.is_ok()
    }

    /// The life of a runner. It ends only if it can't begin.
    fn live(&self, me: &Coroutine) {
        let runtime = self.scheduler.runtime();
        me.set_cooperative(runtime.has_lock());
        if let Err(error) = runtime.begin(&|state| me.set_state(state)) {
            tracing::error!("Cannot make what a coroutine needs: {error}");
            self.coming.set(self.coming.get() - 1);
            return self.end_for(Exit::Stopped);
        }
        loop {
            self.coming.set(self.coming.get() - 1);
            let more = self.run(me, runtime);
            runtime.leave(me.state());
            let token = me.begin_wait();
            if more {
                self.coming.set(self.coming.get() + 1);
                self.scheduler.wake(token, Wake::Ready);
            } else {
                self.resting.borrow_mut().push(token);
            }
            me.wait(token, None);
            runtime.enter(me.state());
        }
    }

    /// Answers requests. Whether there are more, to be taken after others have had their turn.
    fn run(&self, me: &Coroutine, runtime: &dyn Runtime) -> bool {
        // Those of a runner that the application lets wait.
        self.engine().send_held();
        let more = self.run_some(me, runtime);
        self.engine().send_held();
        more
    }

    fn run_some(&self, me: &Coroutine, runtime: &dyn Runtime) -> bool {
        let mut holding = Holding::default();
        for _ in 0..TURN {
            let (next, others, taken) = {
                let mut engine = self.engine();
                let mut next = engine.next();
                if let Some(exchange) = &mut next {
                    holding.prepare(&engine, exchange);
                }
                (next, engine.queued() > 0, engine.now())
            };
            let Some(mut exchange) = next else { return false };
            if others {
                self.scheduler.somebody_waits();
            }
            me.set_cooperative(true);
            if let Some(limit) = self.limit {
                me.begin_limit(limit);
            }
            let advanced = exchange.advance(&InCoroutine(&*self.application));
            me.end_limit();
            me.set_cooperative(runtime.has_lock());
            let answered = {
                let mut engine = self.engine();
                engine.give_back(exchange);
                holding.given_back(&mut engine, taken);
                engine.requests()
            };
            me.set_keeps(true);
            runtime.renew(me.state(), &|state| me.set_state(state));
            me.set_keeps(false);
            self.slot.notify();
            if let Err(status) = advanced {
                self.end_for(Exit::Application(status));
            }
            if self.recycling.must_end(answered) {
                self.end_for(Exit::Recycled);
            }
            // Others that can go on go on; a stop is heeded between two requests.
            if self.scheduler.has_ready() || self.exit.get().is_some() || Control::stop_has_come() {
                break;
            }
        }
        self.engine().queued() > 0
    }

    /// Has the worker end, for this reason if there is none yet.
    pub(super) fn end_for(&self, exit: Exit) {
        self.exit.set(Some(self.exit.get().unwrap_or(exit)));
    }

    /// How the worker is to end, if one of them has found that it must.
    pub(super) fn exit(&self) -> Option<Exit> {
        self.exit.get()
    }
}

/// The application, called in a coroutine.
struct InCoroutine<'a>(&'a dyn Application);

impl Application for InCoroutine<'_> {
    fn call(&self, request: Request<'_>, response: &mut Response) -> Result<(), AppError> {
        if request.header("upgrade").is_some() {
            // A connection of its own may last.
            current().inspect(|me| me.lift_limit());
        }
        let result = keeping(|| self.0.call(request, response));
        let (hit, raised) = current().map_or((false, false), Coroutine::limit_was_hit);
        match result {
            Err(AppError::Failed { report }) if hit => Err(AppError::TimedOut { report }),
            // It has made an answer of what it took for the failure of a call.
            Ok(()) if hit && !raised && !response.head_sent() => Err(AppError::TimedOut {
                report: "It has answered, after a call of it was interrupted".to_string(),
            }),
            result => result,
        }
    }
}

/// Has the coroutine wait for locks wherever it comes upon them in `work`, the application's: it has none of ours.
fn keeping<T>(work: impl FnOnce() -> T) -> T {
    let set = |keeps| current().inspect(|me| me.set_keeps(keeps));
    set(true);
    let result = work();
    set(false);
    result
}
