//! From one generation to the next, or back.
//!
//! On SIGHUP the settings are read again, and workers of a new generation are started beside the old ones. When the first
//! of them has booted, the new generation is the current one, and the old workers retire: for each new one that serves, one
//! of them is told to finish what it holds. If anything goes wrong before that, nothing has changed for anyone.

use std::sync::Arc;

use super::Master;
use super::generation::{Generation, unlink_all_but};
use super::pidfile::Pidfile;
use super::start::{StartError, enter, log_settings};
use super::workers::Leaving;
use crate::log;
use crate::scoreboard::Event;
use crate::sys::clock::monotonic_ms;
use crate::sys::title;

/// After how long a generation that doesn't come to serve is taken not to, where no `timeout` says so; in milliseconds.
const STUCK: u64 = 30_000;

impl Master {
    /// Reads the settings again and starts a generation with them, after the one that is being started, if one is: a
    /// server that is told to reload again and again must come to serve what it was told first. However often it is told
    /// meanwhile, one more reload follows. Answers the number that the generation will have.
    pub(super) fn begin_reload(&mut self) -> u64 {
        let now = monotonic_ms();
        // It may have booted this very moment.
        self.welcome(now);
        let Some(next) = &self.next else {
            self.reload();
            return self.generations;
        };
        let number = next.number;
        if next.config.timeout.is_zero() && now >= next.begun + STUCK {
            tracing::warn!(
                "Generation {number} has not come to serve in {} s, and gives way to another reload",
                (now - next.begun) / 1000
            );
            if let Some(superseded) = self.next.take() {
                self.dismiss(&superseded);
            }
            self.reload();
        } else if !std::mem::replace(&mut self.reload_waits, true) {
            tracing::info!("Generation {number} is starting, another reload follows");
        }
        number + 1
    }

    /// Begins the reload that was asked for during another one, once that is over.
    pub(super) fn reload_again(&mut self) {
        if self.next.is_none() && self.reload_waits && self.ending.is_none() {
            self.reload();
        }
    }

    fn reload(&mut self) {
        // Whoever waits for a reload waits for this one, which reads what there is to read by now.
        self.reload_waits = false;
        self.service.reloads();
        match self.prepare() {
            Ok(next) if next.target == 0 => self.promote(next),
            Ok(next) => {
                self.next = Some(next);
                title::state("reloading");
            }
            Err(error) => self.go_on(&error.to_string()),
        }
    }

    /// Everything that can go wrong before a process is forked.
    fn prepare(&mut self) -> Result<Generation, StartError> {
        self.environment.replace(&[]);
        let (mut config, class) = (self.reload)()?;
        self.inheritance.apply(&mut config);
        enter(&self.home.join(&config.chdir))?;
        self.environment.replace(&config.raw_env);
        class.check(&config)?;
        self.hooks.check(&config)?;
        log::setup(&config)?;
        log::reopen();
        log_settings(&config);
        self.hooks.adopt(&config)?;
        self.hooks.nworkers_changed(config.workers, Some(self.current.target));
        self.preload(&config, &*class).map_err(StartError::Preload)?;
        let listeners = self.current.listeners_for(&config)?;
        if let Err(error) = self.hooks.on_reload() {
            unlink_all_but(&listeners, &self.current.listeners);
            return Err(error.into());
        }
        self.generations += 1;
        let busy = self.current.target.min(config.workers_max);
        let mut next = Generation::new(self.generations, config, class, listeners);
        // Where the load has asked for more workers, it still does.
        next.target = next.target.max(busy);
        Ok(next)
    }

    /// The first worker of `next` has booted: it is the current generation now.
    pub(super) fn promote(&mut self, next: Generation) {
        let old = std::mem::replace(&mut self.current, next);
        let (number, config) = (self.current.number, Arc::clone(&self.current.config));
        self.scoreboard.set_generation(number, self.current.stuck_after());
        self.hooks.keep();
        unlink_all_but(&old.listeners, &self.current.listeners);
        self.current.listeners.iter().for_each(|listener| listener.readjust(&config));
        if old.config.bind != config.bind {
            tracing::info!("Listening at: {}", self.current.addresses());
        }
        self.move_pidfile();
        self.desk.open_in_time(&config);
        self.scoreboard.count(Event::Reload);
        self.desk.reload_failure = None;
        self.scoreboard.set_log_level(None);
        self.retitle();
        self.service.is_ready(number, self.current.target);
        tracing::info!("Generation {number} serves, generation {} finishes what it holds", old.number);
        self.workers.retire(Leaving::Reload, |worker| worker.generation != number);
    }

    /// Has the pid file be where it should.
    pub(super) fn move_pidfile(&mut self) {
        let wanted = self.pidfile_path(&self.current.config);
        if let (Some(pidfile), Some(path)) = (&self.pidfile, &wanted)
            && pidfile.is_at(path)
        {
            return;
        }
        if let Some(pidfile) = self.pidfile.take() {
            pidfile.unlink();
        }
        match wanted.as_deref().map(Pidfile::create).transpose() {
            Ok(pidfile) => self.pidfile = pidfile,
            Err(error) => tracing::error!("{error}"),
        }
    }

    /// A worker of the generation that is being started has died of its birth.
    pub(super) fn abandon_reload(&mut self, why: &str) {
        if let Some(next) = self.next.take() {
            self.dismiss(&next);
            self.go_on(why);
        }
    }

    /// Undoes what was started of a generation that will not be.
    fn dismiss(&mut self, generation: &Generation) {
        unlink_all_but(&generation.listeners, &self.current.listeners);
        self.workers.dismiss(generation.number, monotonic_ms());
    }

    /// Goes on as if there had been no reload.
    fn go_on(&mut self, why: &str) {
        let config = Arc::clone(&self.current.config);
        self.environment.replace(&config.raw_env);
        let directory = enter(&self.home.join(&config.chdir));
        let logs = log::setup(&config).map_err(StartError::from);
        // Its logger, if it has one, has the last word.
        self.hooks.restore();
        for error in [directory, logs].into_iter().filter_map(Result::err) {
            tracing::error!("{error}");
        }
        self.scoreboard.count(Event::FailedReload);
        self.desk.reload_failure = Some(why.to_owned());
        title::state("");
        tracing::error!("reload failed, generation {} goes on: {why}", self.current.number);
        self.service.goes_on(self.current.number, why);
    }
}
