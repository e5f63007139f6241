//! Who comes to the arbiter itself: for metrics and health checks (`metrics_bind`).
//!
//! It looks after its visitors between two turns, and never waits for one: sockets don't block, a visitor has some seconds
//! and some kilobytes, and there are few at a time. What they ask is answered by [`Master`](super::Master), which alone
//! knows.

mod visitor;
mod web;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Master;
use crate::config::{BindAddress, Config};
use crate::metrics::{Health, Snapshot};
use crate::socket::{BindError, Listener};
use crate::sys::clock::monotonic_ms;
use visitor::{Asked, Visitor};

/// How many visitors there can be at a time; others wait in the kernel.
const MOST: usize = 32;
/// How long an address that is in use is waited for before it is tried again, in milliseconds.
const AGAIN: u64 = 1000;

/// The listeners of the arbiter's own, and those who came.
#[derive(Debug, Default)]
pub(super) struct Desk {
    web: Option<(BindAddress, Listener)>,
    /// An address that another process has still, and when it is tried again.
    wanted: Option<(BindAddress, u64)>,
    visitors: Vec<Visitor>,
    serial: u64,
}

impl Desk {
    /// Listens where the settings say; where it listens already, it goes on.
    pub(super) fn open(&mut self, config: &Config) -> Result<(), BindError> {
        self.wanted = None;
        let Some(address) = &config.metrics_bind else {
            self.close();
            return Ok(());
        };
        if self.web.as_ref().is_some_and(|(known, _)| known == address) {
            return Ok(());
        }
        let listener = web::listen(address, config)?;
        tracing::info!("Metrics at: {listener}/metrics");
        self.close();
        self.web = Some((address.clone(), listener));
        Ok(())
    }

    /// As [`open`](Self::open); an address that can't be had now is tried again until it can.
    pub(super) fn open_in_time(&mut self, config: &Config) {
        if let Err(error) = self.open(config) {
            tracing::error!("{error}; trying again every second");
            self.wanted = config.metrics_bind.clone().map(|address| (address, monotonic_ms() + AGAIN));
        }
    }

    /// Tries again to have the address that could not be had.
    fn try_again(&mut self, config: &Config, now: u64) {
        if let Some((address, _)) = self.wanted.take_if(|(_, at)| *at <= now) {
            match web::listen(&address, config) {
                Ok(listener) => {
                    tracing::info!("Metrics at: {listener}/metrics");
                    self.web = Some((address, listener));
                }
                Err(_) => self.wanted = Some((address, now + AGAIN)),
            }
        }
    }

    /// Stops listening, and removes what others can see of that.
    pub(super) fn close(&mut self) {
        if let Some((_, listener)) = self.web.take() {
            listener.unlink();
        }
    }

    /// Waits until there is something for the arbiter in `signals`, or for a visitor, at most `limit` milliseconds.
    pub(super) fn wait(&self, signals: BorrowedFd<'_>, limit: Option<u64>) -> io::Result<()> {
        let mut watched = vec![PollFd::new(signals, PollFlags::POLLIN)];
        if let Some((_, listener)) = self.web.as_ref().filter(|_| self.visitors.len() < MOST) {
            watched.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        }
        watched.extend(self.visitors.iter().map(|visitor| PollFd::new(visitor.as_fd(), visitor.interest())));
        let limit =
            limit.map_or(PollTimeout::NONE, |limit| PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX));
        match poll(&mut watched, limit) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// When there is something to do though nothing happens, in milliseconds of the monotonic clock.
    pub(super) fn due(&self) -> Option<u64> {
        let visitors = self.visitors.iter().map(|visitor| visitor.leaves_at);
        visitors.chain(self.wanted.as_ref().map(|(_, at)| *at)).min()
    }

    /// Lets visitors in, reads what they ask and sends what they were answered, as far as that goes. Answers the
    /// questions that are complete.
    fn turn(&mut self, now: u64) -> Vec<(u64, Asked)> {
        while self.visitors.len() < MOST
            && let Some((_, listener)) = &self.web
            && let Ok(accepted) = listener.accept()
        {
            self.serial += 1;
            self.visitors.push(Visitor::new(self.serial, accepted.stream, now));
        }
        let asked =
            self.visitors.iter_mut().filter_map(|visitor| visitor.turn().map(|asked| (visitor.id, asked)));
        let asked = asked.collect();
        self.visitors.retain(|visitor| !visitor.is_done() && visitor.leaves_at > now);
        asked
    }

    fn answer(&mut self, id: u64, answer: Vec<u8>) {
        if let Some(visitor) = self.visitors.iter_mut().find(|visitor| visitor.id == id) {
            visitor.answer(answer);
        }
        self.visitors.retain(|visitor| !visitor.is_done());
    }
}

impl Master {
    /// Looks after those who came to the desk.
    pub(super) fn attend(&mut self) {
        let now = monotonic_ms();
        self.desk.try_again(&self.current.config, now);
        for (id, asked) in self.desk.turn(now) {
            let answer = match asked {
                Asked::Bad => {
                    web::answer("400 Bad Request", "text/plain", "This is no HTTP request.\n", false)
                }
                Asked::Page { path, head_only } => self.page(&path, head_only),
            };
            self.desk.answer(id, answer);
        }
    }

    fn page(&self, path: &str, head_only: bool) -> Vec<u8> {
        match path {
            "/metrics" => {
                let queues = self.current.listeners.iter().filter_map(|listener| listener.queue()).collect();
                let text = Snapshot::take(&self.scoreboard, queues).prometheus();
                web::answer("200 OK", Snapshot::PROMETHEUS, &text, head_only)
            }
            "/live" | "/ready" | "/health" => {
                let (status, body) = Health::answer(&self.scoreboard, path);
                web::answer(status, "application/json", &body, head_only)
            }
            _ => {
                let text = "There are /metrics, /live and /ready.\n";
                web::answer("404 Not Found", "text/plain", text, head_only)
            }
        }
    }
}
