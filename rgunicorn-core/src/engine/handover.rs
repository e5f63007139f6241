//! Connections that go from worker to worker: which, when, and what becomes of them there.
//!
//! Three things put a connection into the queue of [`siblings`](crate::siblings):
//!
//! - **Balance**: a worker is woken up for a connection, and holds its share of all that there are already. It takes the
//!   connection from the listener all the same, since nobody else was woken up, and hands it over at once. All who sleep
//!   hear of it, and one that holds less takes it; should none do so in time, anyone does.
//! - **A stand-in**: the application keeps a worker's thread from its connections. Another thread of that worker, which knows
//!   nothing of the application, does the sockets' part of a turn ([`Engine::stand_in`]) and hands over what waits for the
//!   application.
//! - **Leave**: a worker is told to stop while others go on. What has no request is handed over at once, the rest after its
//!   response.
//!
//! Only a connection between two requests, or before the application has been called, can go: it then is a socket, and the
//! bytes read from it, which the next worker parses anew.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Token};
use nix::sys::eventfd::EventFd;
use socket2::Socket;

use super::connection::{Connection, Phase};
use super::transport::Transport;
use super::{Accept, Engine, Place};
use crate::app::ServerAddress;
use crate::siblings::{Facts, Intake, LARGEST_INPUT, Parcel, Reason, Share, Siblings, Taken};
use crate::socket::Accepted;
use crate::sys::{epoll, forks};

/// The token of the queue.
pub(super) const QUEUE: Token = Token(usize::MAX - 1);
/// How many connections are taken out of the queue at a time.
const BATCH: usize = 16;
/// When a worker that has left a connection in the queue to those that hold less looks again.
const PATIENCE: Duration = Duration::from_millis(2);
/// How often it looks before it takes some all the same. A worker that has no processor for a moment should still get its
/// share; one whose application keeps it is found out by about then, and counts no more.
const LOOKS: u8 = 4;
/// When a worker that had no descriptor left for a connection in the queue looks again.
const ROOM: Duration = Duration::from_millis(50);
/// How many it takes then at a time, and of those whose clients wait: the next worker to look may hold less.
const FEW: usize = 4;

/// An engine's part in the queue.
#[derive(Debug)]
pub(super) struct Handover {
    siblings: Siblings,
    /// There may be more in the queue than was taken out.
    pending: bool,
    /// Until when others may take what is in the queue.
    left_until: Option<Instant>,
    /// How often what is in the queue was left to them.
    left: u8,
    /// The last connection was left to another worker, the next one isn't: should that worker not get on, nobody waits.
    left_turn: bool,
    intake: Intake,
    /// Connections go to others when they have no request: this worker is about to leave.
    leaving: bool,
    /// How many connections others think that we hold.
    published: usize,
}

/// Connections that go from worker to worker.
impl Engine {
    /// Shares connections with the other workers of the same arbiter.
    ///
    /// # Errors
    /// When the queue can't be watched.
    pub fn join(&mut self, siblings: Siblings) -> io::Result<()> {
        let mut queue = SourceFd(&siblings.descriptor());
        self.poll.registry().register(&mut queue, QUEUE, Interest::READABLE)?;
        siblings.slot().take_part(false);
        self.handover = Some(Handover {
            siblings,
            // What has come before is told by no event.
            pending: true,
            left_until: None,
            left: 0,
            left_turn: false,
            intake: Intake::default(),
            leaving: false,
            published: 0,
        });
        Ok(())
    }

    /// Whether the next turn takes something out of the queue, as far as is known.
    pub(super) fn may_take_over(&self) -> bool {
        let wants = !self.is_full() && (!self.out_of_reach || self.draining);
        wants && self.handover.as_ref().is_some_and(|handover| handover.pending && !handover.leaving)
    }

    /// When the queue is to be looked at again.
    pub(super) fn queue_left_until(&self) -> Option<Instant> {
        self.handover.as_ref()?.left_until
    }

    /// Whether something in the queue waits for a worker to take it.
    pub(super) fn has_parcel(&self) -> bool {
        self.handover.as_ref().is_some_and(|handover| handover.siblings.next_reason().is_some())
    }

    /// Whether other workers have places for connections that this one hasn't.
    pub(super) fn others_have_room(&self) -> bool {
        let Some(handover) = &self.handover else { return false };
        handover.siblings.share(self.places.len()).leaves_room(self.config.worker_connections)
    }

    /// There may be something in the queue.
    pub(super) fn note_queue(&mut self) {
        if let Some(handover) = &mut self.handover {
            handover.pending = true;
        }
    }

    /// Says how many connections there are.
    pub(super) fn publish(&mut self) {
        let count = self.places.len();
        if let Some(handover) = &mut self.handover
            && std::mem::replace(&mut handover.published, count) != count
        {
            handover.siblings.slot().set_connections(count);
        }
    }

    /// How connections are shared out, where this worker doesn't take them as it has time for them anyway.
    pub(super) fn share(&self) -> Option<Share> {
        let handover = self.handover.as_ref()?;
        (self.config.accept == Accept::Eagerly && !self.draining)
            .then(|| handover.siblings.share(self.places.len()))
    }

    /// Where each connection is one request: whether another worker, which waits for one, is to have it.
    pub(super) fn leaves_turn(&mut self) -> bool {
        if self.config.accept == Accept::Eagerly || self.draining {
            return false;
        }
        let Some(handover) = &mut self.handover else { return false };
        handover.left_turn = !handover.left_turn && handover.siblings.is_ahead(self.places.len());
        handover.left_turn
    }

    /// A connection was accepted.
    pub(super) fn take_turn(&self) {
        if let Some(handover) = &self.handover
            && self.config.accept == Accept::WhileIdle
        {
            handover.siblings.take_turn();
        }
    }

    /// Hands a connection just accepted over; gives it back if that can't be.
    pub(super) fn pass_on(&mut self, accepted: Accepted, server: &ServerAddress) -> Option<Accepted> {
        let Some(handover) = &self.handover else { return Some(accepted) };
        let mut facts = Facts::new(accepted.peer.clone(), server.clone());
        facts.inherited = accepted.forks != forks::count();
        match handover.siblings.hand_over(Reason::Surplus, &facts, &[], accepted.stream.as_fd()) {
            Ok(()) => None,
            Err(_) => Some(accepted),
        }
    }

    /// Takes what others have handed over, unless they had better take it themselves.
    pub(super) fn take_over(&mut self) {
        let now = self.now;
        let Some(handover) = &mut self.handover else { return };
        let looks_again = handover.left_until.take_if(|until| *until <= now).is_some();
        if handover.leaving || !(handover.pending || looks_again) {
            return;
        }
        handover.pending = true;
        let takes_surplus = looks_again && handover.left >= LOOKS;
        let mut few = FEW;
        for _ in 0..BATCH {
            let busy = self.config.accept == Accept::WhileIdle && !self.ready.is_empty();
            if busy || !self.make_way() {
                return;
            }
            let has_room = self.share().is_none_or(|share| self.places.len() < share.most());
            let Some(handover) = &mut self.handover else { return };
            if !has_room {
                let leaves = !takes_surplus && handover.siblings.next_reason() == Some(Reason::Surplus);
                if leaves || few == 0 {
                    handover.pending = false;
                    if handover.left_until.is_none() {
                        handover.left_until = Some(now + PATIENCE);
                        handover.left = handover.left.saturating_add(1);
                    }
                    return;
                }
                few -= 1;
            }
            let forks = forks::count();
            match handover.siblings.take_over(&mut handover.intake) {
                Ok(Taken::Connection(parcel, descriptor)) => self.adopt(parcel, descriptor, forks),
                Ok(Taken::Nothing) => {
                    handover.pending = false;
                    handover.left_until = None;
                    handover.left = 0;
                    return;
                }
                Ok(Taken::NoRoom) => {
                    // Who has one takes it meanwhile.
                    handover.pending = false;
                    handover.left_until = Some(now + ROOM);
                    return;
                }
                Err(error) => tracing::error!("cannot take over a connection from another worker: {error}"),
            }
            self.publish();
        }
    }

    fn adopt(&mut self, parcel: Parcel, descriptor: OwnedFd, forks: u64) {
        let server = &parcel.facts.server;
        let server = self.acceptor.address(server).unwrap_or_else(|| Arc::new(server.clone()));
        self.serial += 1;
        let forks = if parcel.facts.inherited { 0 } else { forks };
        let transport = Transport::new(Socket::from(descriptor), forks);
        let connection = Connection::resume(transport, parcel, server, self.serial, &self.config, self.now);
        let key = self.places.insert(Place::of(connection));
        self.progress(key);
    }

    /// Hands a connection over, if it is one that can go. Whether it is gone.
    fn hand_over(&mut self, key: usize, reason: Reason) -> bool {
        let Some(handover) = &self.handover else { return false };
        let place = self.places.get_mut(key);
        let Some(connection) = place.and_then(|place| place.connection.as_deref_mut()) else { return false };
        let Some(input) = connection.portable_input() else { return false };
        if input.len() > LARGEST_INPUT {
            return false;
        }
        let input = input.to_vec();
        let (facts, transport) = (connection.facts(), connection.transport.as_fd());
        if let Err(error) = handover.siblings.hand_over(reason, &facts, &input, transport) {
            tracing::debug!("cannot hand a connection over: {error}");
            return false;
        }
        if let Some(mut connection) = self.places.try_remove(key).and_then(|place| place.connection) {
            // The socket lives on: closing our descriptor alone would not end the watch.
            self.forget(&mut connection);
            self.tally.forget(&mut connection, self.now);
        }
        true
    }

    /// What could be done without the application, and hands over what can't: for a thread that has found that the worker's
    /// own don't get on: see [`pulse`](Self::pulse). To be called with nobody else in the engine.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`.
    pub fn stand_in(&mut self) -> io::Result<()> {
        self.out_of_reach = !self.ready.is_empty();
        self.send_held();
        // Who waits in the listen queue is the others' business meanwhile.
        self.acceptor.unwatch(&self.poll);
        self.stood_in = true;
        self.wait(Some(Duration::ZERO))?;
        self.attend();
        let goes = self.handover.as_ref().is_some_and(|handover| handover.siblings.any_serves());
        if goes && (!self.draining || self.is_handing_over()) {
            let waiting: VecDeque<usize> = std::mem::take(&mut self.ready);
            self.ready = waiting.into_iter().filter(|key| !self.hand_over(*key, Reason::Waits)).collect();
        }
        self.publish();
        // What is left is for the worker's own thread, which may be about to wait for the next event.
        match &self.nudge {
            Some(nudge) => nudge.wake(),
            None => {
                let nudge = mio::Waker::new(self.poll.registry(), QUEUE)?;
                nudge.wake()?;
                self.nudge = Some(nudge);
                Ok(())
            }
        }
    }

    /// A turn by one who hasn't got the application. As long as that is out of everybody's reach, nothing is taken from others
    /// that would have to wait for it here.
    pub fn process_aside(&mut self) {
        if self.out_of_reach && !self.draining {
            self.begin_turn();
            self.attend();
            self.unstall();
            self.answer_pages();
            self.publish();
        } else {
            self.process();
        }
    }

    pub(super) fn begin_turn(&mut self) {
        forks::end_if_stray();
        self.turns += 1;
        if let Some(bell) = self.bell.take() {
            // Full means rung.
            let _ = bell.write(1);
        }
    }

    /// Has `bell` rung when somebody has the next turn.
    pub fn ring(&mut self, bell: Arc<EventFd>) {
        self.bell = Some(bell);
    }

    /// How far things have got, as seen by one who isn't about to have a turn.
    pub fn pulse(&self) -> Pulse {
        Pulse {
            turns: self.turns,
            taken: self.taken,
            queued: !self.ready.is_empty(),
            unread: !self.held.is_empty() || epoll::has_events(self.poll.as_raw_fd()),
            out_of_reach: self.out_of_reach,
        }
    }
}

/// How far an engine has got, and what waits there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pulse {
    turns: u64,
    taken: u64,
    /// Something waits for the application.
    queued: bool,
    /// Something waits for a turn.
    unread: bool,
    out_of_reach: bool,
}

impl Pulse {
    /// Whether anything waits.
    pub fn waits(&self) -> bool {
        self.queued || self.unread || self.out_of_reach
    }

    /// Whether what waited earlier does so still, and nothing of its kind has gone on since.
    pub fn stands_still_since(&self, earlier: &Pulse) -> bool {
        let queue = self.queued && earlier.queued && self.taken == earlier.taken;
        // Between two turns of a busy worker there may be many requests.
        let sockets = self.unread && earlier.unread && !self.beats_since(earlier);
        queue || sockets || self.out_of_reach
    }

    /// Whether anything has gone on.
    pub fn beats_since(&self, earlier: &Pulse) -> bool {
        (self.turns, self.taken) != (earlier.turns, earlier.taken)
    }
}

/// A worker that is about to leave.
impl Engine {
    /// Whether connections go to others, since this worker is about to leave.
    pub(super) fn is_handing_over(&self) -> bool {
        self.handover.as_ref().is_some_and(|handover| handover.leaving)
    }

    /// This worker was told to stop, which its slot says. Whether connections go to others.
    pub(super) fn leave_to_others(&mut self, others_go_on: bool) -> bool {
        let Some(handover) = &mut self.handover else { return false };
        handover.leaving = others_go_on && handover.siblings.any_serves();
        handover.leaving
    }

    /// Hands over all connections that have no request.
    pub(super) fn hand_over_idle(&mut self) {
        let keys: Vec<usize> = self.places.iter().map(|(key, _)| key).collect();
        for key in keys {
            if self.connection(key).is_some_and(|connection| connection.phase == Phase::Head) {
                self.hand_over_one(key);
            }
        }
        self.publish();
    }

    /// Hands over a connection that has no request now. Whether it is gone.
    pub(super) fn hand_over_one(&mut self, key: usize) -> bool {
        self.hand_over(key, Reason::Waits)
    }

    /// What was handed over must be taken by somebody: should all others leave as well, that is us. Each says first that it
    /// leaves and looks into the queue then, and hands over first and looks for the others then: one of two sees the other.
    pub(super) fn stay_responsible(&mut self) {
        let Some(handover) = &mut self.handover else { return };
        if handover.leaving && handover.siblings.any_serves() {
            return;
        }
        if std::mem::take(&mut handover.leaving) {
            self.announce_end();
        }
        self.note_queue();
        self.take_over();
    }
}
