//! The loop of the worker's thread, outside of all coroutines. All waiting of the process is done here: for the engine,
//! for whatever coroutines wait for, and for signals.
//!
//! It is the process's first thread, and so Python's main thread: signal handlers of the application's run here, between
//! two waits.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use rgunicorn_core::app::{AppError, Loader};
use rgunicorn_core::engine::{Bodies, EngineConfig};
use rgunicorn_core::worker::{BootError, Exit, Worker, WorkerContext, WorkerError};

use super::interposed::real;
use super::most_at_once;
use super::runners::Runners;
use super::runtime::Runtime;
use super::scheduler::{Lists, Scheduler};
use crate::boot::{self, Recycling};
use crate::stand_in;
use crate::tenure::Tenure;

/// The number that the engine's descriptor is watched under.
const ENGINE: u32 = 0;
/// And the one that tells of signals of the application's.
const SIGNALS: u32 = 1;

/// How many coroutines go on, or requests begin, before the loop looks for what else has happened. More would be cheaper by
/// a system call now and then; but what has come for the first would wait for the last, and those that began together would
/// stay together.
const BATCH: usize = 16;

/// How long the application's handlers of signals may have to wait while the loop never does.
const HEED: Duration = Duration::from_millis(50);

/// How long the loop leaves the lock to the coroutines that wait for it before it looks for what has happened.
const PAUSE: Duration = Duration::from_micros(100);

/// A worker whose requests run in coroutines.
pub(super) struct CoroWorker {
    tenure: Tenure,
    scheduler: &'static Scheduler,
    runners: Rc<Runners>,
    /// A copy of the engine's descriptor, which is watched.
    _engine: OwnedFd,
    /// Readable when a signal has come that the application has a handler for.
    signals: OwnedFd,
    /// Whether one has come that was not heeded yet.
    told: bool,
    /// When signals of the application's were last looked for.
    heeded: Instant,
}

impl CoroWorker {
    pub(super) fn boot(
        mut context: WorkerContext,
        loader: &dyn Loader,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Self, BootError> {
        let failed = |what: &str, error: std::io::Error| BootError::Boot(format!("cannot {what}: {error}"));
        let most = most_at_once(&context.config);
        let config = EngineConfig { bodies: Bodies::waited(most), ..EngineConfig::new(&context.config) };
        let (application, engine) = boot::boot(&mut context, loader, config, most)?;
        runtime.start()?;
        if !context.config.request_timeout.is_zero() {
            runtime.prepare_limits()?;
        }
        engine.wake_on(context.control.descriptor()).map_err(|error| failed("watch for signals", error))?;
        let lag = Some(context.config.loop_lag).filter(|lag| !lag.is_zero());
        let lists = Lists {
            shared: context.config.coro_shared_locals.clone(),
            exchanged: context.config.coro_exchanged_locals.clone(),
        };
        let scheduler = Scheduler::new(runtime, super::stack_size(&context.config), lag, lists)
            .map_err(|error| failed("make the scheduler of coroutines", error))?;
        let descriptor = engine.descriptor().map_err(|error| failed("watch the engine", error))?;
        scheduler.watch(descriptor.as_raw_fd(), ENGINE).map_err(|error| failed("watch the engine", error))?;
        let engine = Arc::new(Mutex::new(engine));
        stand_in::start_where_needed(&engine, &context.slot, &context.config);
        let (signals, tell) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .map_err(|error| failed("make a pipe for signals", error.into()))?;
        // They may come as long as there is a process.
        scheduler.runtime().tell_of_signals(tell.into_raw_fd())?;
        scheduler.watch(signals.as_raw_fd(), SIGNALS).map_err(|error| failed("watch for signals", error))?;
        let runners = Runners::new(
            scheduler,
            application,
            engine,
            context.slot.clone(),
            &context.config,
            Recycling::new(&context),
        );
        Ok(CoroWorker {
            tenure: Tenure::new(context),
            scheduler,
            runners,
            _engine: descriptor,
            signals,
            told: false,
            heeded: Instant::now(),
        })
    }

    /// The loop, without the application's lock.
    fn serve(&mut self) -> Result<Exit, WorkerError> {
        loop {
            // Where nobody gets the lock any more the worker is as good as dead.
            if !self.scheduler.is_lock_kept() && !self.scheduler.is_coroutines_turn() {
                self.tenure.slot().notify();
            }
            // Each that waits makes way for the next of those that are queued; whatever else happens is looked for when all
            // have begun, or a good many.
            for _ in 0..BATCH {
                self.runners.call();
                self.scheduler.run_ready(BATCH);
                if !self.runners.has_work() {
                    break;
                }
            }
            // What a request has come to may be the last thing that was waited for.
            if self.is_done() {
                return Ok(self.tenure.exit());
            }
            self.wait()?;
        }
    }

    /// Takes in what has come for the engine and for coroutines; waits only if nobody can go on.
    fn wait(&mut self) -> Result<(), WorkerError> {
        if self.scheduler.is_coroutines_turn() {
            self.poll(Some(Duration::ZERO))?;
            if !self.scheduler.has_ready() {
                // What the engine has come by would keep a longer wait from being one.
                std::thread::sleep(PAUSE);
            }
            return Ok(());
        }
        let news = self.turn()?;
        if news || self.scheduler.has_ready() || self.runners.has_work() {
            if self.told || self.heeded.elapsed() >= HEED {
                self.heed();
            }
            return self.poll(Some(Duration::ZERO));
        }
        if !self.heed() {
            return Ok(());
        }
        let most = self.runners.until_next_turn(self.tenure.longest_wait());
        self.poll(most)?;
        self.turn()?;
        Ok(())
    }

    fn poll(&mut self, most: Option<Duration>) -> Result<(), WorkerError> {
        if self.scheduler.poll(most)? & 1 << SIGNALS != 0 {
            // Any number of them is as good as one.
            real::read(self.signals.as_raw_fd(), &mut [0; 64]);
            self.told = true;
        }
        Ok(())
    }

    /// Runs the application's handlers of signals, in the first thread; false if that ends the worker.
    fn heed(&mut self) -> bool {
        self.heeded = Instant::now();
        if self.scheduler.is_posing() {
            // Whoever passes for this thread has one to handle.
            return true;
        }
        self.told = false;
        self.scheduler.hold();
        let heeded = self.scheduler.runtime().heed();
        self.scheduler.release();
        match heeded {
            Err(AppError::Exit { code, report }) => {
                tracing::error!("The application ends its worker\n{report}");
                self.runners.end_for(Exit::Application(code));
                false
            }
            _ => true,
        }
    }

    /// A turn of the engine, without waiting. Whether it came to anything.
    fn turn(&mut self) -> Result<bool, WorkerError> {
        let mut engine = self.runners.engine();
        engine.wait(Some(Duration::ZERO))?;
        let news = engine.has_events();
        let due = engine.next_timer().is_some_and(|next| next <= Instant::now());
        if !news && !due && !engine.has_work() && !engine.holds_answers() {
            // Who asks for the lock for nothing takes it from the one that was to have it.
            return Ok(false);
        }
        drop(engine);
        // Under the lock: what it has sent to the end may be the application's bytes, which are dropped there.
        self.scheduler.hold();
        let mut engine = self.runners.engine();
        // Those of a runner that the application lets wait.
        engine.send_held();
        if self.runners.can_call() {
            engine.process();
        } else {
            engine.process_aside();
        }
        let connections = engine.connections();
        drop(engine);
        self.scheduler.release();
        self.tenure.slot().set_connections(connections);
        Ok(news)
    }

    /// Heeds signals; whether the worker is done.
    fn is_done(&mut self) -> bool {
        let mut engine = self.runners.engine();
        self.tenure.heed_signals(&mut engine);
        if let Some(exit) = self.runners.exit() {
            self.tenure.end_for(exit);
        }
        self.tenure.begin_to_leave(|answer_queue| engine.drain(answer_queue));
        self.tenure.is_over(|| engine.is_drained())
    }
}

impl Worker for CoroWorker {
    fn run(&mut self) -> Result<Exit, WorkerError> {
        let runners = Rc::clone(&self.runners);
        let mut result = Ok(Exit::Stopped);
        runners.application().attach(&mut || {
            let runtime = self.scheduler.runtime();
            runtime.release();
            result = self.serve();
            self.scheduler.hold();
        });
        self.runners.engine().end();
        result
    }
}
