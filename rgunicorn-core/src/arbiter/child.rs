//! What a forked worker does, from its first breath to `_exit`.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Master;
use super::spawn::Birth;
use super::start::enter;
use crate::critical;
use crate::log;
use crate::scoreboard::{Scoreboard, Slot};
use crate::siblings::{Queue, Siblings};
use crate::sys::bell::Bell;
use crate::sys::environment::Overlay;
use crate::sys::fork::exit_now;
use crate::sys::signals::{self, Signal, SignalPipe};
use crate::sys::{forks, identity, orphans, title};
use crate::worker::{BootError, Control, Exit, Lifeline, Stop, Worker, WorkerContext, WorkerError};

/// The exit status of a worker that failed after it had booted, or panicked (gunicorn's -1).
const EXIT_FAILED: i32 = 255;

/// What a worker whose arbiter was killed gets beyond `graceful_timeout`, which it keeps itself, before it ends in any case:
/// there are hooks to be called, and buffers to be written.
const PARTING: Duration = Duration::from_secs(5);

/// Lives the life of a worker. `master` is what the fork left of the arbiter in this process.
pub(super) fn live(birth: Birth, master: Master) -> ! {
    // While it boots, a worker looks at no signal and has nothing to finish: if it hung, nobody would be left to abort it.
    orphans::die_with(birth.arbiter);
    let hooks = Arc::clone(&master.hooks);
    let graceful = birth.config.graceful_timeout;
    let proper = guarded(|| {
        hooks.after_fork_in_worker();
        work(birth, master)
    });
    if forks::is_stray() {
        // Whatever the worker ends with is the worker's.
        forks::end(proper.filter(|status| *status != EXIT_FAILED), "");
    }
    tracing::info!("Worker exiting (pid: {})", std::process::id());
    let status = match proper {
        Some(status) => guarded(|| {
            if signals::has_come(&[Signal::SIGINT, Signal::SIGQUIT]) {
                hooks.worker_int();
            }
            hooks.worker_exit();
            hooks.before_exit(Stop::time_left(graceful), status);
            status
        }),
        None => None,
    };
    exit_now(status.unwrap_or(EXIT_FAILED))
}

/// Calls `run`; a panic ends there, and is logged.
fn guarded(run: impl FnOnce() -> i32) -> Option<i32> {
    catch_unwind(AssertUnwindSafe(run))
        .map_err(|panic| critical!("Worker (pid:{}) panicked: {}", std::process::id(), message(&*panic)))
        .ok()
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("for no reason given")
}

/// Boots and runs; answers the exit status.
fn work(birth: Birth, master: Master) -> i32 {
    let (mut worker, slot) = match boot(birth, master) {
        Ok(booted) => booted,
        Err(error) => {
            tracing::error!("Exception in worker process\n{error}");
            return error.exit_status();
        }
    };
    title::state("");
    if !worker.boots_in_run() {
        slot.booted();
    }
    let status = match worker.run() {
        Ok(Exit::Stopped | Exit::Recycled) => 0,
        Ok(Exit::Application(0)) => 0,
        Ok(Exit::Application(status)) => {
            tracing::error!("The application asked its worker to exit with status {status}");
            status
        }
        Err(error) => {
            tracing::error!("Exception in worker process\n{error}");
            match error {
                WorkerError::Boot(error) => error.exit_status(),
                WorkerError::Io(_) | WorkerError::Failed(_) => EXIT_FAILED,
            }
        }
    };
    // Whatever it buffers (the access log) is written here.
    drop(worker);
    status
}

/// What a worker keeps of the arbiter's things, if only for a moment.
struct Kept {
    signals: SignalPipe,
    bell: Bell,
    lifeline: Lifeline,
    scoreboard: Scoreboard,
    queue: Queue,
    environment: Overlay,
    home: PathBuf,
}

/// Closes everything else.
fn keep(master: Master) -> Kept {
    let Master { signals, bell, lifeline, scoreboard, queue, environment, home, .. } = master;
    Kept { signals, bell, lifeline, scoreboard, queue, environment, home }
}

fn boot(birth: Birth, master: Master) -> Result<(Box<dyn Worker>, Slot), BootError> {
    let Birth { config, class, listeners, share, generation, age, slot, blocked, report, arbiter } = birth;
    let hooks = Arc::clone(&master.hooks);
    let Kept { signals, bell, lifeline, scoreboard, queue, mut environment, home } = keep(master);
    let failed = |what: &str, error: io::Error| BootError::Boot(format!("{what}: {error}"));
    drop(signals);
    drop(lifeline.hold);
    let mut control = Control::for_worker(lifeline.watch).map_err(|error| failed("signals", error))?;
    drop(blocked);
    log::write_reports_to(report);

    let pid = std::process::id();
    let slot = scoreboard.slot(slot).with_bell(bell.into_rope());
    slot.set_process(pid, age);
    control.take_log_level_from(slot.clone());
    drop(scoreboard);
    title::set(&format!("rgunicorn: worker [{}]", config.proc_name()));
    title::state("booting");
    tracing::info!("Booting worker with pid: {pid}");
    // A reload under way may have changed these in the arbiter.
    environment.replace(&config.raw_env);
    enter(&home.join(&config.chdir)).map_err(|error| BootError::Boot(error.to_string()))?;

    if let Err(error) = orphans::prepare(arbiter, config.graceful_timeout.saturating_add(PARTING)) {
        tracing::warn!(
            "Should the arbiter be killed, this worker may outlive it for as long as it hangs: {error}"
        );
    }
    let own = listeners.iter().map(|listener| listener.for_worker(share)).collect::<io::Result<Vec<_>>>();
    let own: Vec<_> = own.map_err(|error| failed("listeners", error))?.into_iter().flatten().collect();
    drop(listeners);
    hooks.post_fork(&own)?;
    identity::assume(config.user, config.group, config.initgroups)
        .map_err(|error| failed("Can't become the user or group that the settings name", error))?;

    // A change of user has undone it.
    orphans::die_with(arbiter);
    let siblings = Some(Siblings::new(queue, slot.clone()));
    let context =
        WorkerContext { config, listeners: own, siblings, control, slot: slot.clone(), age, generation };
    let worker = class.boot(context)?;
    if !worker.boots_in_run() {
        hooks.post_worker_init()?;
        orphans::outlive(None);
    }
    Ok((worker, slot))
}
