//! How a worker process is made: by [`Master::spawn`], and nowhere else.

use std::fs::File;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::Master;
use super::generation::{Generation, sockets_of};
use super::reports::Reports;
use super::workers::Worker;
use crate::config::Config;
use crate::scoreboard::{Event, SLOTS, SlotId};
use crate::socket::{Listener, Share};
use crate::sys::fork::{Forked, Pid, fork};
use crate::sys::processes::own_pid;
use crate::sys::signals::Blocked;
use crate::worker::{Stop, WorkerClass};

/// The exit status of an arbiter whose hooks fail before there is a worker (gunicorn's -1).
const EXIT_HOOK: i32 = 255;

/// What a worker is born with.
pub(super) struct Birth {
    pub(super) config: Arc<Config>,
    pub(super) class: Arc<dyn WorkerClass>,
    pub(super) listeners: Vec<Rc<Listener>>,
    /// Which of their sockets are its own.
    pub(super) share: Share,
    pub(super) generation: u64,
    pub(super) age: u64,
    pub(super) slot: SlotId,
    /// Where it writes its tracebacks.
    pub(super) report: Option<File>,
    /// The process that has forked it.
    pub(super) arbiter: Pid,
    /// Signals wait until the worker has handlers of its own.
    pub(super) blocked: Blocked,
}

impl Master {
    /// Starts the workers that are missing, of both generations. Answers in each of them.
    pub(super) fn fill(&mut self, now: u64) -> Option<Birth> {
        for is_next in [false, true] {
            loop {
                let generation = if is_next { self.next.as_ref() } else { Some(&self.current) };
                let Some(generation) = generation.filter(|generation| {
                    self.ending.is_none()
                        && generation.backoff.allows(now)
                        && self.workers.serving(generation.number) < generation.target
                }) else {
                    break;
                };
                let order = Order::of(generation, self.workers.free_seat(generation.number));
                match self.spawn(order) {
                    Ok(None) => {}
                    Ok(birth) => return birth,
                    Err(error) => {
                        let generation = if is_next { self.next.as_mut() } else { Some(&mut self.current) };
                        if let Some(generation) = generation {
                            generation.backoff.failed(now);
                            let wait = generation.backoff.not_before() - now;
                            tracing::error!("Can't start a worker: {error}; trying again in {wait} ms");
                        }
                        break;
                    }
                }
            }
        }
        None
    }

    /// Makes a worker process. Answers none in the arbiter, and in the worker what it is born with.
    fn spawn(&mut self, order: Order) -> io::Result<Option<Birth>> {
        let Order { config, class, listeners, share, generation } = order;
        for listener in &listeners {
            listener.provide_for(share.of, &config)?;
        }
        let sockets = sockets_of(&listeners, share);
        let slot = self.scoreboard.claim(generation).ok_or_else(|| {
            io::Error::other(format!(
                "there are {SLOTS} workers already, old ones included, and no room for more"
            ))
        })?;
        let age = self.age;
        if let Err(error) = self.hooks.pre_fork(age + 1) {
            self.scoreboard.free(slot);
            if self.proven && error.exit.is_none() {
                return Err(io::Error::other(error));
            }
            // No worker was ever made: none will be.
            tracing::error!("{error}");
            self.end(Stop::Quick, error.exit.unwrap_or(EXIT_HOOK), Some("The hook pre_fork failed."));
            return Ok(None);
        }
        let reports = Reports::new();
        let arbiter = own_pid();
        self.hooks.before_fork();
        match fork() {
            Ok(Forked::Child(blocked)) => Ok(Some(Birth {
                config,
                class,
                listeners,
                share,
                generation,
                age,
                slot,
                arbiter,
                blocked,
                report: reports.into_file(),
            })),
            Ok(Forked::Parent(pid)) => {
                self.hooks.after_fork_in_arbiter(Some(pid.as_raw()));
                self.age += 1;
                self.scoreboard.count(Event::Spawned);
                self.workers
                    .add(Worker::new(pid, slot, generation, &config, reports).seated(share.seat, sockets));
                Ok(None)
            }
            Err(error) => {
                self.hooks.after_fork_in_arbiter(None);
                self.scoreboard.free(slot);
                Err(error)
            }
        }
    }
}

/// What a worker is to be made from.
struct Order {
    config: Arc<Config>,
    class: Arc<dyn WorkerClass>,
    listeners: Vec<Rc<Listener>>,
    share: Share,
    generation: u64,
}

impl Order {
    fn of(generation: &Generation, seat: usize) -> Order {
        Order {
            config: Arc::clone(&generation.config),
            class: Arc::clone(&generation.class),
            listeners: generation.listeners.clone(),
            share: Share { seat, of: generation.target },
            generation: generation.number,
        }
    }
}
