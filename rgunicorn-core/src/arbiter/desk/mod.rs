//! Who comes to the arbiter itself: for metrics and health checks (`metrics_bind`), or with commands (`control_socket`).
//!
//! It looks after its visitors between two turns, and never waits for one: sockets don't block, a visitor has some seconds
//! and some kilobytes, and there are few at a time. Who comes when there is no room takes the place of one who has asked
//! nothing; and those who come with commands have places of their own. What they ask is answered by
//! [`Master`](super::Master), which alone knows.
//!
//! | module | what it is |
//! | --- | --- |
//! | `visitor` | one of them: bytes in, questions, bytes out |
//! | `web` | pages, by HTTP |
//! | `control` | commands, as JSON in lines |
//! | `socket` | the control socket |

mod control;
mod socket;
mod visitor;
mod web;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;

use super::Master;
use super::start::StartError;
use crate::config::{BindAddress, Config};
use crate::control::default_socket;
use crate::metrics::{Health, Snapshot};
use crate::socket::Listener;
use crate::sys::clock::monotonic_ms;
use control::Outcome;
use socket::ControlSocket;
use visitor::{Asked, Kind, Visitor};

/// How many are let in from one turn to the next; others wait in the kernel.
const AT_ONCE: usize = 64;
/// How long an address that is in use is waited for before it is tried again, in milliseconds.
const AGAIN: u64 = 1000;

/// The listeners of the arbiter's own, and those who came.
#[derive(Debug, Default)]
pub(super) struct Desk {
    web: Option<(BindAddress, Listener)>,
    control: Option<ControlSocket>,
    /// When an address that another process has still is tried again.
    again: Option<u64>,
    /// Another arbiter has the addresses, and will leave.
    pub(super) succeeds: bool,
    visitors: Vec<Visitor>,
    serial: u64,
    /// Tracebacks that visitors wait for.
    awaited: Vec<Awaited>,
    /// Why the last reload came to nothing, if it did.
    pub(super) reload_failure: Option<String>,
}

/// The tracebacks that a visitor waits for, and those that are there.
#[derive(Debug)]
struct Awaited {
    visitor: u64,
    missing: Vec<i32>,
    there: Vec<(i32, String)>,
}

impl Desk {
    /// Listens where the settings say; where it listens already, it goes on.
    pub(super) fn open(&mut self, config: &Config) -> Result<(), StartError> {
        self.again = None;
        self.open_web(config)?;
        self.open_control(config)?;
        self.succeeds = false;
        Ok(())
    }

    fn open_web(&mut self, config: &Config) -> Result<(), StartError> {
        if self.web.as_ref().map(|(address, _)| address) == config.metrics_bind.as_ref() {
            return Ok(());
        }
        let web = match &config.metrics_bind {
            None => None,
            Some(address) => {
                let listener = web::listen(address, config)?;
                tracing::info!("Metrics at: {listener}/metrics");
                Some((address.clone(), listener))
            }
        };
        if let Some((_, before)) = std::mem::replace(&mut self.web, web) {
            before.unlink();
        }
        Ok(())
    }

    fn open_control(&mut self, config: &Config) -> Result<(), StartError> {
        let named = config.control_socket.is_some();
        let wanted =
            (!config.control_socket_disable).then(|| config.control_socket.clone().or_else(default_socket));
        let wanted = wanted.flatten().and_then(|path| std::path::absolute(path).ok());
        let mode = config.control_socket_mode;
        if self.control.as_ref().map(|it| (&it.path, it.mode)) == wanted.as_ref().map(|path| (path, mode)) {
            return Ok(());
        }
        if let Some(before) = self.control.take() {
            before.unlink();
        }
        let Some(path) = wanted else { return Ok(()) };
        match ControlSocket::open(&path, mode) {
            Ok(socket) => {
                tracing::info!("Control socket: {}", socket.path.display());
                self.control = Some(socket);
                Ok(())
            }
            Err(error) if named || self.succeeds => Err(StartError::Control(error.to_string())),
            // Nobody has asked for it: a second server of this user's has none.
            Err(error) => {
                tracing::info!("No control socket: {error}");
                Ok(())
            }
        }
    }

    /// As [`open`](Self::open); an address that can't be had now is tried again until it can.
    pub(super) fn open_in_time(&mut self, config: &Config) {
        if let Err(error) = self.open(config) {
            match self.succeeds {
                true => tracing::info!("{error}; waiting for the old server to leave it"),
                false => tracing::error!("{error}; trying again every second"),
            }
            self.again = Some(monotonic_ms() + AGAIN);
        }
    }

    /// Tries again to have an address that could not be had.
    fn try_again(&mut self, config: &Config, now: u64) {
        if self.again.is_some_and(|again| again <= now) && self.open(config).is_err() {
            self.again = Some(now + AGAIN);
        }
    }

    /// Stops listening, and removes what others can see of that.
    pub(super) fn close(&mut self) {
        if let Some((_, listener)) = self.web.take() {
            listener.unlink();
        }
        if let Some(socket) = self.control.take() {
            socket.unlink();
        }
    }

    /// Waits until there is something for the arbiter in one of `others`, or for a visitor, at most `limit` milliseconds.
    pub(super) fn wait<'a>(
        &'a self,
        others: impl Iterator<Item = BorrowedFd<'a>>,
        limit: Option<u64>,
    ) -> io::Result<()> {
        let mut watched: Vec<_> = others.map(|other| PollFd::new(other, PollFlags::POLLIN)).collect();
        let web = self.web.iter().map(|(_, listener)| (Kind::Web, listener.as_fd()));
        let control = self.control.iter().map(|socket| (Kind::Control, socket.as_fd()));
        let open = web.chain(control).filter(|(kind, _)| self.has_room(*kind));
        watched.extend(open.map(|(_, listener)| PollFd::new(listener, PollFlags::POLLIN)));
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
        self.visitors.iter().map(|visitor| visitor.leaves_at).chain(self.again).min()
    }

    /// Lets visitors in, reads what they ask and sends what they were answered, as far as that goes. Answers the
    /// questions that are complete.
    fn turn(&mut self, now: u64) -> Vec<(u64, Asked)> {
        let ask = |visitor: &mut Visitor| visitor.turn(now).map(|asked| (visitor.id, asked));
        let mut asked: Vec<_> = self.visitors.iter_mut().filter_map(ask).collect();
        self.let_go(now);
        for kind in [Kind::Control, Kind::Web] {
            for _ in 0..AT_ONCE {
                if !self.has_room(kind) {
                    break;
                }
                let Some(stream) = self.next(kind) else { break };
                self.make_room(kind);
                self.serial += 1;
                let mut visitor = Visitor::new(self.serial, kind, stream, now);
                // One whose question has come with it is not to lose its place to the next.
                asked.extend(ask(&mut visitor));
                self.visitors.push(visitor);
            }
        }
        self.let_go(now);
        asked
    }

    /// Who waits to be let in, if anybody does.
    fn next(&self, kind: Kind) -> Option<Socket> {
        match kind {
            Kind::Web => Some(self.web.as_ref()?.1.accept().ok()?.stream),
            Kind::Control => self.control.as_ref()?.accept(),
        }
    }

    /// Whether there is a place, or somebody who can be asked to leave his.
    fn has_room(&self, kind: Kind) -> bool {
        self.visitors.iter().filter(|visitor| visitor.kind == kind).count() < kind.places()
            || self.who_may_go(kind).is_some()
    }

    /// Has somebody leave if all places are taken.
    fn make_room(&mut self, kind: Kind) {
        if self.visitors.iter().filter(|visitor| visitor.kind == kind).count() >= kind.places()
            && let Some(index) = self.who_may_go(kind)
        {
            self.visitors.remove(index);
        }
    }

    /// Who has his place to no purpose: has been there longest of those who ask nothing, or else who don't take their answer.
    fn who_may_go(&self, kind: Kind) -> Option<usize> {
        let visitors = self.visitors.iter().enumerate().filter(|(_, visitor)| visitor.kind == kind);
        let may_go = visitors.filter_map(|(index, visitor)| Some((visitor.uselessness()?, index)));
        may_go.min().map(|(_, index)| index)
    }

    fn let_go(&mut self, now: u64) {
        self.visitors.retain(|visitor| !visitor.is_done() && visitor.leaves_at > now);
        self.awaited.retain(|awaited| self.visitors.iter().any(|visitor| visitor.id == awaited.visitor));
    }

    fn answer(&mut self, id: u64, answer: Vec<u8>) {
        let now = monotonic_ms();
        if let Some(visitor) = self.visitors.iter_mut().find(|visitor| visitor.id == id) {
            visitor.answer(answer, now);
        }
        self.let_go(now);
    }

    /// A traceback is there that a visitor waits for.
    pub(super) fn hand_in(&mut self, visitor: u64, pid: i32, text: &str) {
        if let Some(awaited) = self.awaited.iter_mut().find(|awaited| awaited.visitor == visitor) {
            awaited.missing.retain(|missing| *missing != pid);
            awaited.there.push((pid, text.to_owned()));
        }
        self.answer_awaited();
    }

    fn answer_awaited(&mut self) {
        let (there, missing): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.awaited).into_iter().partition(|awaited| awaited.missing.is_empty());
        self.awaited = missing;
        for awaited in there {
            self.answer(awaited.visitor, control::tracebacks(&awaited.there));
        }
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
                Asked::Command(line) => match self.command(&line) {
                    Outcome::Done(data) => control::line(Ok(data)),
                    Outcome::Refused(error) => control::line(Err(error)),
                    Outcome::Awaits(pids) => {
                        self.workers.ask_for_reports(&pids, now, id);
                        self.desk.awaited.push(Awaited { visitor: id, missing: pids, there: Vec::new() });
                        self.desk.answer_awaited();
                        continue;
                    }
                },
            };
            self.desk.answer(id, answer);
        }
    }

    fn page(&self, path: &str, head_only: bool) -> Vec<u8> {
        match path {
            "/metrics" => {
                let text = self.snapshot().prometheus();
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

    fn snapshot(&self) -> Snapshot {
        let queues = self.current.listeners.iter().filter_map(|listener| listener.queue()).collect();
        Snapshot::take(&self.scoreboard, queues)
    }
}
