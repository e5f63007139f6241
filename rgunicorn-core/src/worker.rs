//! What a worker class is, and what a worker is given.
//!
//! A [`WorkerClass`] decides two things: who waits for the engine's descriptor, and where the application call runs.
//! The arbiter calls [`WorkerClass::check`] before it forks, and in each forked worker [`WorkerClass::boot`], then
//! [`Worker::run`].

use std::sync::Arc;

use thiserror::Error;

use crate::config::{Config, ConfigError};
use crate::scoreboard::Slot;
use crate::siblings::Siblings;
use crate::socket::Listener;

mod control;

pub(crate) use control::Lifeline;
pub use control::{Control, Stop};

/// The exit status of a worker that could not boot (gunicorn's `WORKER_BOOT_ERROR`).
pub const EXIT_BOOT: i32 = 3;
/// The exit status of a worker whose application could not be loaded (gunicorn's `APP_LOAD_ERROR`).
pub const EXIT_LOAD: i32 = 4;

/// A kind of worker, picked by `-k`.
pub trait WorkerClass: Send + Sync {
    /// The name that `-k` knows it by.
    fn name(&self) -> &str;

    /// Whether it can end a request that has had its `request_timeout`; with a class that can't, the setting is refused.
    fn ends_requests(&self) -> bool {
        false
    }

    /// Other names that `-k` knows it by.
    fn aliases(&self) -> &[&str] {
        &[]
    }

    /// Refuses settings that this class can't honour, before anything is forked.
    ///
    /// # Errors
    /// A [`ConfigError`] naming the setting and what would be right.
    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let _ = config;
        Ok(())
    }

    /// Makes the process ready for the application to be loaded, where this class asks for that (a library that patches
    /// the standard library, say). Called in the arbiter before it loads the application, with `preload_app`;
    /// [`boot`](Self::boot) does it in every worker.
    ///
    /// # Errors
    /// As for [`boot`](Self::boot).
    fn prepare(&self, config: &Config) -> Result<(), BootError> {
        let _ = config;
        Ok(())
    }

    /// Whether the application that was just loaded in this process, before there are workers, is one for this class.
    ///
    /// # Errors
    /// A [`BootError`] that says what it is, and what runs it.
    fn suits(&self, config: &Config) -> Result<(), BootError> {
        let _ = config;
        Ok(())
    }

    /// Makes the worker. Called in the forked process, once.
    ///
    /// # Errors
    /// [`BootError::Load`] if there is no such application (exit status 4), [`BootError::Boot`] for anything else, its
    /// code that can't be imported included (exit status 3).
    fn boot(&self, context: WorkerContext) -> Result<Box<dyn Worker>, BootError>;
}

/// A worker: the inside of one forked process.
pub trait Worker {
    /// Whether it loads its application only when it runs, and says by [`Slot::booted`] that it has: the arbiter counts
    /// it as booted then, and not before.
    fn boots_in_run(&self) -> bool {
        false
    }

    /// Serves until [`Control`] says stop, or the worker has had its `max_requests`.
    ///
    /// # Errors
    /// A [`WorkerError`]: the process exits with its code, and the arbiter starts another.
    fn run(&mut self) -> Result<Exit, WorkerError>;
}

/// Why a worker ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was told to, by a signal or by its arbiter's death.
    Stopped,
    /// It has had its `max_requests`.
    Recycled,
    /// Its application asked for it (`SystemExit`), with this status.
    Application(i32),
}

/// Why a worker could not boot.
#[derive(Debug, Error)]
pub enum BootError {
    /// The application could not be loaded; the message says why, a traceback included.
    #[error("{0}")]
    Load(String),
    /// Anything else.
    #[error("{0}")]
    Boot(String),
}

impl BootError {
    /// The exit status that tells the arbiter which it was.
    pub fn exit_status(&self) -> i32 {
        match self {
            BootError::Load(_) => EXIT_LOAD,
            BootError::Boot(_) => EXIT_BOOT,
        }
    }
}

/// Why a booted worker failed.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// The engine, or a system call, failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It could not boot, which it tried [when it ran](Worker::boots_in_run).
    #[error("{0}")]
    Boot(BootError),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// All that a worker is given.
#[derive(Debug)]
pub struct WorkerContext {
    /// The settings, as resolved for this generation.
    pub config: Arc<Config>,
    /// The listeners to accept from, non-blocking.
    pub listeners: Vec<Listener>,
    /// The other workers, to [share connections](crate::engine::Engine::join) with; none for a worker without an arbiter.
    pub siblings: Option<Siblings>,
    /// When to stop, and how.
    pub control: Control,
    /// This worker's slot of the scoreboard.
    pub slot: Slot,
    /// How many workers were started before this one, since the arbiter began.
    pub age: u64,
    /// The reload that this worker belongs to; 1 is the first.
    pub generation: u64,
}
