//! `-k threads` (alias `gthread`): several requests at a time, each in a thread of its own while it runs.
//!
//! For applications that wait: for a database, a socket, a file. All threads share the one engine; which of them does
//! what is said in [`pool`]. The process's first thread heeds signals and gives the heartbeat, so that it is there for
//! Python's signal handlers, which run in no other.

mod pool;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rgunicorn_core::app::{AppError, SharedLoader};
use rgunicorn_core::config::{Config, ConfigError};
use rgunicorn_core::engine::{Bodies, EngineConfig};
use rgunicorn_core::worker::{BootError, Exit, Worker, WorkerClass, WorkerContext, WorkerError};

use crate::boot::{self, Recycling};
use crate::stand_in;
use crate::tenure::Tenure;
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

    fn suits(&self, config: &Config) -> Result<(), BootError> {
        self.loader.suits(config)
    }

    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        if config.threads == 0 {
            return Err(ConfigError::setting("threads", "0 threads can't answer a request; 1 is the least"));
        }
        self.loader.check(config)
    }

    fn boot(&self, mut context: WorkerContext) -> Result<Box<dyn Worker>, BootError> {
        let threads = context.config.threads;
        let config = EngineConfig { bodies: Bodies::waited(threads), ..EngineConfig::new(&context.config) };
        let (application, engine) = boot::boot(&mut context, &*self.loader, config, threads)?;
        let recycling = Recycling::new(&context);
        let pool = Pool::new(application, engine, context.config.threads, recycling)
            .map_err(|error| BootError::Boot(format!("cannot make the thread pool: {error}")))?;
        let pool = Arc::new(pool);
        stand_in::start_where_needed(&pool, &context.slot, &context.config);
        Ok(Box::new(ThreadsWorker { pool, tenure: Tenure::new(context) }))
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
    tenure: Tenure,
}

impl Worker for ThreadsWorker {
    fn run(&mut self) -> Result<Exit, WorkerError> {
        self.pool.start()?;
        loop {
            self.tenure.slot().notify();
            self.tenure.slot().set_connections(self.pool.connections());
            if self.tenure.take_signals() {
                self.pool.reopen_log();
            }
            if let Some(exit) = self.pool.exit() {
                self.tenure.end_for(exit);
            }
            self.tenure.begin_to_leave(|answer_queue| self.pool.drain(answer_queue));
            if self.tenure.is_over(|| self.pool.is_drained()) {
                return Ok(self.pool.end());
            }
            self.wait()?;
        }
    }
}

impl ThreadsWorker {
    /// Waits for news from the arbiter or from the pool, without Python's lock.
    fn wait(&mut self) -> Result<(), WorkerError> {
        let most = self.tenure.longest_wait();
        let (pool, control) = (&self.pool, self.tenure.control());
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
