//! `-k threads` (alias `gthread`): several requests at a time, each in a thread of its own while it runs.
//!
//! For applications that wait: for a database, a socket, a file. All threads share the one engine; which of them does
//! what is said in [`pool`]. The process's first thread heeds signals and gives the heartbeat, so that it is there for
//! Python's signal handlers, which run in no other.

mod pool;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rgunicorn_core::app::{AppError, SharedLoader};
use rgunicorn_core::config::{Config, ConfigError};
use rgunicorn_core::engine::{Bodies, EngineConfig};
use rgunicorn_core::worker::{BootError, Exit, Stop, Worker, WorkerClass, WorkerContext, WorkerError};

use crate::boot::{self, Recycling};
use crate::stand_in;
use pool::Pool;

/// The class behind `-k threads`.
pub struct Threads {
    loader: SharedLoader,
}

impl Threads {
    /// The class, for applications that `loader` makes.
    pub fn new(loader: SharedLoader) -> Self {
        Threads { loader }
    }
}

impl WorkerClass for Threads {
    fn name(&self) -> &str {
        "threads"
    }

    fn aliases(&self) -> &[&str] {
        &["gthread", "gunicorn.workers.gthread.ThreadWorker"]
    }

    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        if config.threads == 0 {
            return Err(ConfigError::setting("threads", "0 threads can't answer a request; 1 is the least"));
        }
        self.loader.check(config)
    }

    fn boot(&self, mut context: WorkerContext) -> Result<Box<dyn Worker>, BootError> {
        let config = EngineConfig { bodies: Bodies::Waited, ..EngineConfig::new(&context.config) };
        let threads = context.config.threads;
        let (application, engine) = boot::boot(&mut context, &*self.loader, config, threads)?;
        let recycling = Recycling::new(&context);
        let pool = Pool::new(application, engine, context.config.threads, recycling)
            .map_err(|error| BootError::Boot(format!("cannot make the thread pool: {error}")))?;
        let pool = Arc::new(pool);
        stand_in::start_where_needed(&pool, &context.slot, &context.config);
        Ok(Box::new(ThreadsWorker { pool, context, leaving: false, leave_by: None }))
    }
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}

/// A worker with a pool of threads; what the first thread does.
struct ThreadsWorker {
    pool: Arc<Pool>,
    context: WorkerContext,
    /// A graceful stop has begun.
    leaving: bool,
    /// When it ends, whatever is still held; none if the clock can't count up to that.
    leave_by: Option<Instant>,
}

impl Worker for ThreadsWorker {
    fn run(&mut self) -> Result<Exit, WorkerError> {
        self.pool.start()?;
        loop {
            self.context.slot.notify();
            self.context.slot.set_connections(self.pool.connections());
            self.context.control.poll();
            if self.context.control.take_reopen() {
                self.pool.reopen_log();
            }
            if self.pool.wants_to_end() {
                self.context.control.request_stop(Stop::Graceful);
            }
            match self.context.control.stop() {
                None => {}
                Some(Stop::Quick) => return Ok(self.pool.end()),
                Some(Stop::Graceful) => {
                    let limit = self.context.config.graceful_timeout;
                    if !std::mem::replace(&mut self.leaving, true) {
                        // Where the whole server stops, nobody else will answer what waits in the listen queue.
                        self.pool.drain(self.context.slot.arbiter_is_stopping());
                        self.leave_by = Instant::now().checked_add(limit);
                    }
                    if self.pool.is_drained() || self.leave_by.is_some_and(|by| by <= Instant::now()) {
                        return Ok(self.pool.end());
                    }
                }
            }
            self.wait()?;
        }
    }
}

impl ThreadsWorker {
    /// Waits for news from the arbiter or from the pool, without Python's lock.
    fn wait(&mut self) -> Result<(), WorkerError> {
        let timeout = self.context.config.timeout;
        let heartbeat = (!timeout.is_zero()).then(|| timeout / 2);
        let leave = self.leave_by.map(|by| by.saturating_duration_since(Instant::now()));
        let most = [heartbeat, leave].into_iter().flatten().min();
        let (pool, control) = (&self.pool, &self.context.control);
        let mut waited = Ok(());
        let idled = pool.application().while_idle(&mut || {
            waited = wait_for([pool.news(), control.as_fd()], most);
        });
        if let Err(AppError::Exit { code, report }) = idled {
            tracing::error!("The application ends its worker\n{report}");
            self.pool.end_for(Exit::Application(code));
        }
        Ok(waited?)
    }
}

/// Waits until one of the descriptors is readable, at most for `most`.
fn wait_for(descriptors: [BorrowedFd<'_>; 2], most: Option<Duration>) -> std::io::Result<()> {
    let mut polled = descriptors.map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
    // A millisecond more, so that what is not quite due doesn't make us spin.
    let milliseconds = most.map(|most| most.as_millis() + 1);
    let timeout = match milliseconds {
        None => PollTimeout::NONE,
        Some(milliseconds) => PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX),
    };
    match poll(&mut polled, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
