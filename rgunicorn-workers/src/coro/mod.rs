//! `-k coro`: thousands of requests at a time on one thread, each in a coroutine of its own while it runs.
//!
//! For applications that wait: for databases, other services, clocks. Unlike with threads, one more that waits costs a few
//! kilobytes and no switch by the kernel; unlike with gevent, nothing is patched: the blocking calls of the C library
//! are [`interposed`], so that Python's own and those of any C extension wait in their coroutine.
//!
//! | module | what it is |
//! | --- | --- |
//! | `worker` | the loop of the worker's thread, outside of all coroutines |
//! | `runners` | the coroutines, which take one request after the other |
//! | `fairness` | asks a coroutine that computes to let others run |
//! | `scheduler` | coroutines, and what they wait for; no HTTP in it |
//! | `interposed` | the C library's blocking calls |
//! | [`runtime`](Runtime) | what a language asks for around switches; CPython's is `python::Coroutines` |
//!
//! A program of one's own must export the interposed functions: `DEP_RGUNICORN_WORKERS_EXPORTS`, in the environment of its
//! build script if it depends on this crate, is the path of a list for the linker.
//!
//! ```no_run
//! // build.rs
//! let exports = std::env::var("DEP_RGUNICORN_WORKERS_EXPORTS").unwrap();
//! println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol-list={exports}");
//! ```

mod fairness;
mod interposed;
mod runners;
mod runtime;
mod scheduler;
mod worker;

use std::sync::Arc;

use rgunicorn_core::app::SharedLoader;
use rgunicorn_core::config::{Config, ConfigError};
use rgunicorn_core::worker::{BootError, Worker, WorkerClass, WorkerContext};

#[cfg(feature = "python")]
pub(crate) use interposed::{keep_threads, note_momentary, objects::library_code};
/// If the coroutine that runs here is to have an error raised in it, which is up to the caller then: what it passes for as a
/// thread.
#[cfg(feature = "python")]
pub(crate) fn take_interruption() -> Option<usize> {
    scheduler::current().filter(|me| me.take_interruption()).map(scheduler::Coroutine::identity)
}

pub use runtime::{Bare, Runtime, State, Word};
#[cfg(feature = "python")]
pub(crate) use scheduler::{thread_keys::forget_those_made_from, thread_locals::of_the_one_with};
use worker::CoroWorker;

/// The class behind `-k coro`.
pub struct Coro {
    loader: SharedLoader,
    runtime: Arc<dyn Runtime>,
}

impl Coro {
    /// The class, for applications that `loader` makes, written in the language of `runtime`.
    pub fn new(loader: SharedLoader, runtime: Arc<dyn Runtime>) -> Self {
        Coro { loader, runtime }
    }
}

impl WorkerClass for Coro {
    fn name(&self) -> &str {
        "coro"
    }

    fn suits(&self, config: &Config) -> Result<(), BootError> {
        self.loader.suits(config)
    }

    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let refused = |why: String| ConfigError::setting("worker_class", format!("coro can't be had: {why}"));
        interposed::check_in_force().map_err(refused)?;
        self.runtime.check().map_err(refused)?;
        if config.coro_stack < SMALLEST_STACK {
            let why = format!("a request needs a stack of {SMALLEST_STACK} bytes at least");
            return Err(ConfigError::setting("coro_stack", why));
        }
        self.loader.check(config)
    }

    fn ends_requests(&self) -> bool {
        true
    }

    fn boot(&self, context: WorkerContext) -> Result<Box<dyn Worker>, BootError> {
        Ok(Box::new(CoroWorker::boot(context, &*self.loader, Arc::clone(&self.runtime))?))
    }
}

impl std::fmt::Debug for Coro {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coro").finish_non_exhaustive()
    }
}

/// With less, not even an import works.
const SMALLEST_STACK: u64 = 256 * 1024;

fn stack_size(config: &Config) -> usize {
    usize::try_from(config.coro_stack.next_multiple_of(64 * 1024)).unwrap_or(usize::MAX)
}

/// How many requests may be under way at a time: `threads`, or where that is not set as many as there may be connections.
fn most_at_once(config: &Config) -> usize {
    if config.threads > 1 { config.threads } else { config.worker_connections.max(1) }
}
