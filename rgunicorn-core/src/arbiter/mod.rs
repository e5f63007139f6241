//! The process that forks, minds, reloads and stops the workers.
//!
//! It is one loop: wait until a signal has come or something is due, handle the signals, see to what is due. It has no
//! threads, and holds no language's interpreter unless `--preload` asks for it.
//!
//! | module | what it is |
//! | --- | --- |
//! | `start` | from the settings to a running arbiter: checks, daemon, logs, pid file, listeners |
//! | `generation` | what one reading of the settings brought: class, listeners, how many workers |
//! | `spawn` | how a worker process is made |
//! | `child` | what the new process does, from its first breath to `_exit` |
//! | `workers` | the table of children, and what is due for each |
//! | `reap` | what the end of a child means |
//! | `inheritance` | what it is born with: sockets from the arbiter before it, or from systemd |
//! | `upgrade` | another arbiter beside this one |
//! | `service` | what systemd is told |
//! | `succession` | who leaves when |
//! | `desk` | who comes to the arbiter itself: for metrics and health checks, with commands |
//! | `gauges` | what StatsD is told |
//! | `hung` | what takes too long, and what is said about it |
//! | `reports` | the tracebacks of workers |
//! | `reload` | from one generation to the next, or back |
//! | `stop` | the way out |
//! | `adaptation` | more workers while they are busy, fewer once they aren't |
//! | `backoff` | how long to wait before another try |
//! | `pidfile`, `daemon` | what their names say |

mod adaptation;
mod backoff;
mod child;
mod daemon;
mod desk;
mod gauges;
mod generation;
mod hung;
mod inheritance;
mod pidfile;
mod reap;
mod reload;
mod reports;
mod service;
mod spawn;
mod start;
mod stop;
mod succession;
mod upgrade;
mod workers;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, ConfigError};
use crate::hooks::{Hooks, NoHooks};
use crate::log;
use crate::scoreboard::Scoreboard;
use crate::siblings::Queue;
use crate::sys::bell::Bell;
use crate::sys::clock::monotonic_ms;
use crate::sys::environment::Overlay;
use crate::sys::fork::Pid;
use crate::sys::processes::OutOfMemory;
use crate::sys::signals::{self, Signal, SignalPipe};
use crate::worker::{BootError, Lifeline, Stop, WorkerClass};
use adaptation::Adaptation;
use desk::Desk;
use generation::Generation;
use inheritance::Inheritance;
use pidfile::Pidfile;
use service::Service;
use spawn::Birth;
use stop::Ending;
use workers::Workers;

/// Reads the settings again, on SIGHUP.
pub type Reload = Box<dyn Fn() -> Result<(Config, Arc<dyn WorkerClass>), ConfigError>>;

/// An arbiter about to [`run`](Self::run).
pub struct Arbiter {
    config: Config,
    class: Arc<dyn WorkerClass>,
    hooks: Arc<dyn Hooks>,
    reload: Reload,
}

impl std::fmt::Debug for Arbiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arbiter").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Arbiter {
    /// An arbiter for workers of `class`. `reload` is asked for new settings, and the class that they name, on SIGHUP.
    pub fn new(config: Config, class: Arc<dyn WorkerClass>, hooks: Arc<dyn Hooks>, reload: Reload) -> Self {
        Arbiter { config, class, hooks, reload }
    }

    /// An arbiter for workers of `class` with these settings, whatever happens: after SIGHUP there are fresh workers with
    /// the same. For programs that have no configuration file.
    pub fn with_class(config: Config, class: Arc<dyn WorkerClass>) -> Self {
        let same = (config.clone(), Arc::clone(&class));
        let reload = move || Ok((same.0.clone(), Arc::clone(&same.1)));
        Arbiter::new(config, class, Arc::new(NoHooks), Box::new(reload))
    }

    /// Loads the application, in the directory and the environment that the settings ask for, and goes no further
    /// (gunicorn: `check_config`). As [`run`](Self::run), this takes over the process.
    ///
    /// # Errors
    /// Why it can't be loaded.
    pub fn check(&self) -> Result<(), BootError> {
        start::check(&self.config, &*self.class, &*self.hooks)
    }

    /// Runs until a signal says stop; answers the exit status: 0, or 1 if it could not start, or 3 or 4 if the first
    /// workers could not boot, or load their application.
    ///
    /// This takes over the process: its signals, its children, its title, its environment and working directory. To be
    /// called from the only thread. The processes that it forks do not return from here.
    pub fn run(self) -> i32 {
        let hooks = Arc::clone(&self.hooks);
        let mut master = match Master::start(self) {
            Ok(master) => master,
            Err(error) => {
                tracing::error!("{error}");
                hooks.before_arbiter_exit(Stop::QUICK, error.exit_status());
                return error.exit_status();
            }
        };
        match master.serve() {
            Outcome::Over(status) => {
                let limit = master.time_to_end();
                drop(master);
                hooks.before_arbiter_exit(limit, status);
                status
            }
            Outcome::Born(birth) => child::live(*birth, master),
        }
    }
}

/// How the loop was left.
enum Outcome {
    /// The arbiter is done; this is its exit status.
    Over(i32),
    /// This is not the arbiter any more, but a worker just forked.
    Born(Box<Birth>),
}

/// A running arbiter.
struct Master {
    hooks: Arc<dyn Hooks>,
    reload: Reload,
    scoreboard: Scoreboard,
    /// Connections on their way from worker to worker.
    queue: Queue,
    signals: SignalPipe,
    /// Workers ring it when their slot has news.
    bell: Bell,
    lifeline: Lifeline,
    environment: Overlay,
    /// The working directory that we were started in.
    home: PathBuf,
    pidfile: Option<Pidfile>,
    workers: Workers,
    /// The generation that serves.
    current: Generation,
    /// The generation that a reload is starting, until its first worker has booted.
    next: Option<Generation>,
    /// Another reload is to follow that one.
    reload_waits: bool,
    /// The number of the latest generation.
    generations: u64,
    /// How many workers were started.
    age: u64,
    /// Whether any worker has ever booted.
    proven: bool,
    preloaded: bool,
    out_of_memory: OutOfMemory,
    inheritance: Inheritance,
    /// The arbiter that is to take over from this one.
    heir: Option<Pid>,
    service: Service,
    /// When workers were last weighed, in milliseconds.
    weighed: u64,
    adaptation: Adaptation,
    /// Until when it serves on, though it was told to stop; in milliseconds.
    serves_until: Option<u64>,
    ending: Option<Ending>,
    desk: Desk,
    /// When StatsD was last told, in milliseconds.
    told: u64,
}

impl Master {
    fn serve(&mut self) -> Outcome {
        loop {
            if let Some(birth) = self.tend() {
                return Outcome::Born(Box::new(birth));
            }
            let now = monotonic_ms();
            if let Some(status) = self.over(now) {
                return Outcome::Over(status);
            }
            let limit = self.due(now).map(|due| due.saturating_sub(now));
            let watched = std::iter::once(self.signals.as_fd()).chain(self.bell.watched(now));
            if let Err(error) = self.desk.wait(watched, limit) {
                tracing::error!("Can't wait for signals: {error}");
                self.end(Stop::Quick, 1, None);
            }
            self.notice_sleep(now, limit);
            self.bell.hush(monotonic_ms());
            for signal in self.signals.drain() {
                self.handle(signal);
            }
            if signals::were_called() {
                self.hooks.heed_signals();
            }
            self.attend();
        }
    }

    /// The one place where a signal is given its meaning.
    fn handle(&mut self, signal: Signal) {
        match signal {
            // Frequent; and children are reaped at every turn anyway.
            Signal::SIGCHLD => tracing::debug!("Handling signal: chld"),
            signal => tracing::info!("Handling signal: {}", signals::name(signal)),
        }
        match signal {
            Signal::SIGTERM => self.end_later(),
            Signal::SIGINT | Signal::SIGQUIT => self.end(Stop::Quick, 0, None),
            Signal::SIGUSR1 => {
                log::reopen();
                self.workers.send(Signal::SIGUSR1);
            }
            Signal::SIGHUP | Signal::SIGTTIN | Signal::SIGTTOU | Signal::SIGUSR2 | Signal::SIGWINCH
                if self.ending.is_some() => {}
            Signal::SIGHUP => {
                tracing::info!("Hang up: Master");
                self.begin_reload();
            }
            Signal::SIGTTIN => self.resize(|workers| workers + 1),
            Signal::SIGTTOU => self.resize(|workers| if workers > 1 { workers - 1 } else { workers }),
            Signal::SIGUSR2 => self.upgrade(),
            // A terminal sends it whenever it changes its size.
            Signal::SIGWINCH if self.current.config.daemon || self.heir.is_some() => {
                tracing::info!("graceful stop of workers");
                self.resize(|_| 0);
            }
            Signal::SIGWINCH => tracing::debug!("SIGWINCH ignored. Not daemonized"),
            _ => {}
        }
    }

    /// A machine that was put to sleep, or processes that were stopped: workers could give no sign of life meanwhile.
    fn notice_sleep(&mut self, before: u64, limit: Option<u64>) {
        /// Longer than the kernel keeps a process waiting that is to run.
        const LATE: u64 = 1000;
        let now = monotonic_ms();
        let late = limit.map_or(0, |limit| now.saturating_sub(before.saturating_add(limit)));
        if late > LATE {
            tracing::warn!("The arbiter did not run for {late} ms; its workers get as much time more");
            self.workers.woke_up(now);
        }
    }

    fn resize(&mut self, change: impl Fn(usize) -> usize) {
        let old = self.current.target;
        for generation in std::iter::once(&mut self.current).chain(&mut self.next) {
            generation.target = change(generation.target);
        }
        if self.current.target != old {
            self.hooks.nworkers_changed(self.current.target, Some(old));
        }
    }

    /// Sees to everything that is due now. Answers in a worker that was forked meanwhile.
    fn tend(&mut self) -> Option<Birth> {
        self.reap();
        let now = monotonic_ms();
        self.scoreboard.set_target(self.current.target);
        self.welcome(now);
        self.reload_again();
        self.workers.abort_hung(now, &self.scoreboard);
        self.workers.kill_overdue(now, &self.scoreboard);
        self.see_what_hangs(now);
        self.tell_gauges(now);
        self.end_if_due(now);
        self.service.beat(now);
        self.take_over_if_due();
        if self.ending.is_some() {
            return None;
        }
        self.adapt(now);
        self.succeed(now);
        self.fill(now)
    }

    /// When to see to things again, if no signal comes before; in milliseconds of the monotonic clock.
    fn due(&mut self, now: u64) -> Option<u64> {
        let workers = self.workers.due(now, &self.scoreboard);
        let looks = self.workers.look_due(now);
        let births = std::iter::once(&self.current)
            .chain(&self.next)
            .filter(|generation| {
                self.ending.is_none() && self.workers.serving(generation.number) < generation.target
            })
            .map(|generation| generation.backoff.not_before());
        // Nobody tells of the end of a parent.
        let promotion = self.inheritance.predecessor.map(|_| now + 1000);
        let own = [
            self.next_weighing(),
            self.serves_until,
            self.service.next_beat(),
            promotion,
            self.desk.due(),
            looks,
            self.next_gauges(),
            self.bell.due(now),
        ];
        let own = own.into_iter().flatten();
        workers.into_iter().chain(births).chain(own).chain(self.next_look()).min()
    }

    /// Notes which workers have booted since.
    pub(super) fn welcome(&mut self, now: u64) {
        for generation in self.workers.note_booted(now, &self.scoreboard) {
            self.has_booted(generation);
        }
    }

    /// A worker of this generation has booted, so the generation can.
    fn has_booted(&mut self, generation: u64) {
        let first = !std::mem::replace(&mut self.proven, true);
        if let Some(next) = self.next.take_if(|next| next.number == generation) {
            self.promote(next);
        }
        if self.current.number == generation {
            self.current.backoff.reset();
            if first {
                self.service.is_ready(generation, self.current.target);
            }
        }
    }
}
