//! Taking connections from listeners.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::Accept;
use super::connection::Connection;
use super::transport::Transport;
use super::{Engine, LISTENERS, Place};
use crate::app::ServerAddress;
use crate::metrics::ListenQueue;
use crate::socket::{Accepted, Listener};
use crate::sys::epoll;
use crate::sys::forks::Kept;

/// The listeners of an engine, and whether they are being listened to.
#[derive(Debug)]
pub(super) struct Acceptor {
    listeners: Vec<Watched>,
    watched: bool,
    /// They aren't, since there is no room: how long to wait until that is looked at again.
    rests: Option<Duration>,
    /// Whether a connection wakes up one worker, or each that waits.
    exclusive: bool,
    paused_until: Option<Instant>,
    /// When a connection was last asked for.
    asked: Instant,
    /// The listener to ask first next time, so that none starves.
    next: usize,
}

/// A listener of an engine.
#[derive(Debug)]
struct Watched {
    /// Processes that the application forks don't listen. Dropped before the listener.
    _kept: Kept,
    listener: Listener,
    address: Arc<ServerAddress>,
}

impl Watched {
    fn new(listener: Listener) -> Watched {
        let address = Arc::new(listener.server_address().clone());
        Watched { _kept: Kept::new(listener.as_fd()), listener, address }
    }
}

impl Acceptor {
    /// How long accepting rests when the process or the system is out of descriptors.
    const PAUSE: Duration = Duration::from_secs(1);
    /// How long it rests when it is another worker's turn.
    const TURN: Duration = Duration::from_millis(1);
    /// How often an exclusive watch is not taken at its word. The one worker that the kernel wakes up for a connection may
    /// be killed before it runs, and then nobody else is told.
    pub(super) const DOUBT: Duration = Duration::from_secs(1);

    pub(super) fn new(listeners: Vec<Listener>, accept: Accept) -> Self {
        let listeners = listeners.into_iter().map(Watched::new).collect();
        // A worker that takes connections only while it is idle may be woken up for one and then have a request to answer
        // first: another worker must know of the connection as well.
        let exclusive = accept == Accept::Eagerly;
        Acceptor {
            listeners,
            watched: false,
            rests: None,
            exclusive,
            paused_until: None,
            asked: Instant::now(),
            next: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.listeners.len()
    }

    /// The connections that wait in the kernel, by address.
    pub(super) fn queues(&self) -> Vec<ListenQueue> {
        let mut queues: Vec<ListenQueue> = Vec::new();
        for queue in self.listeners.iter().filter_map(|own| own.listener.queue()) {
            // With `reuse_port` several sockets may have the same.
            if queues.iter().all(|other| other.address != queue.address) {
                queues.push(queue);
            }
        }
        queues
    }

    pub(super) fn is_closed(&self) -> bool {
        self.listeners.is_empty()
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watched
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// When to ask for connections though no event tells of any.
    pub(super) fn doubts_from(&self) -> Option<Instant> {
        let doubt = (self.watched && self.exclusive).then_some(Self::DOUBT);
        self.rests.or(doubt).map(|after| self.asked + after)
    }

    /// Whether to ask for connections though no event tells of any.
    pub(super) fn doubts(&self, now: Instant) -> bool {
        self.doubts_from().is_some_and(|from| from <= now)
    }

    /// A listener's address, for connections that came in elsewhere by one like it.
    pub(super) fn address(&self, address: &ServerAddress) -> Option<Arc<ServerAddress>> {
        self.listeners.iter().find(|own| *own.address == *address).map(|own| Arc::clone(&own.address))
    }

    /// Has the poller tell when a connection waits.
    pub(super) fn watch(&mut self, poll: &mio::Poll) -> io::Result<()> {
        self.rests = None;
        if !self.watched {
            for (index, own) in self.listeners.iter().enumerate() {
                let listener = own.listener.as_raw_fd();
                epoll::watch(poll.as_raw_fd(), listener, LISTENERS - index, self.exclusive)?;
            }
            self.watched = true;
            self.asked = Instant::now();
        }
        Ok(())
    }

    pub(super) fn unwatch(&mut self, poll: &mio::Poll) {
        if self.watched {
            for own in &self.listeners {
                // A listener that isn't watched any more is what we want.
                let _ = epoll::forget(poll.as_raw_fd(), own.listener.as_raw_fd());
            }
            self.watched = false;
        }
    }

    /// Ends the watch, until somebody asks again: after this time at the latest.
    pub(super) fn rest(&mut self, poll: &mio::Poll, after: Duration) {
        self.unwatch(poll);
        self.rests = (!self.is_closed()).then_some(after);
    }

    /// Whether a connection waits, for whichever worker.
    pub(super) fn somebody_waits(&self) -> bool {
        self.listeners.iter().any(|own| epoll::is_readable(own.listener.as_raw_fd()))
    }

    /// Closes our copies of the listeners.
    pub(super) fn close(&mut self, poll: &mio::Poll) {
        // Other processes hold the same sockets open, so that closing ours alone would not end the watch.
        self.unwatch(poll);
        self.listeners.clear();
        self.rests = None;
        self.paused_until = None;
    }

    /// Whether a pause is over.
    pub(super) fn resume(&mut self, now: Instant) -> bool {
        let over = self.paused_until.is_some_and(|until| until <= now);
        if over {
            self.paused_until = None;
        }
        over
    }

    fn accept(&mut self) -> io::Result<Option<(Accepted, Arc<ServerAddress>)>> {
        for _ in 0..self.listeners.len() {
            let index = self.next % self.listeners.len();
            self.next = index + 1;
            let Some(own) = self.listeners.get(index) else { break };
            match own.listener.accept() {
                Ok(accepted) => return Ok(Some((accepted, Arc::clone(&own.address)))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

impl Engine {
    /// Accepts connections, as many at a time as the worker class wants.
    pub(super) fn accept(&mut self) {
        const BATCH: usize = 16;
        self.acceptor.asked = self.now;
        if self.acceptor.paused_until().is_some() {
            return;
        }
        if self.leaves_turn() {
            self.acceptor.unwatch(&self.poll);
            self.acceptor.paused_until = Some(self.now + Acceptor::TURN);
            return;
        }
        let mut share = self.share();
        for _ in 0..BATCH {
            if self.config.accept == Accept::WhileIdle && !self.ready.is_empty() {
                return;
            }
            if !self.make_way() {
                return;
            }
            match self.acceptor.accept() {
                Ok(Some((accepted, server))) => {
                    // By who accepts, also if another worker gets it.
                    self.tally.slot().count_accepted();
                    let own = self.places.len();
                    let surplus = share.as_mut().is_some_and(|share| {
                        share.one_more();
                        own >= share.most()
                    });
                    let kept = if surplus { self.pass_on(accepted, &server) } else { Some(accepted) };
                    if let Some(accepted) = kept {
                        self.admit(accepted, server);
                        self.take_turn();
                    }
                }
                Ok(None) => {
                    // Nobody waits any more; when draining, that is what we waited for.
                    if self.draining {
                        self.acceptor.close(&self.poll);
                    }
                    return;
                }
                // The client has thought better of it: the next one may be there.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::error!("cannot accept a connection: {error}; trying again in a second");
                    self.acceptor.unwatch(&self.poll);
                    self.acceptor.paused_until = Some(self.now + Acceptor::PAUSE);
                    return;
                }
            }
        }
    }

    fn admit(&mut self, accepted: Accepted, server: Arc<ServerAddress>) {
        self.serial += 1;
        let transport = Transport::new(accepted.stream, accepted.forks);
        let connection =
            Connection::new(transport, accepted.peer, server, self.serial, &self.config, self.now);
        let key = self.places.insert(Place::of(connection));
        self.tally.slot().set_connections(self.places.len());
        // Its request is there already, more often than not: then no watch is needed yet.
        self.progress(key);
    }

    pub(super) fn watch_listeners(&mut self) {
        if let Err(error) = self.acceptor.watch(&self.poll) {
            tracing::error!("cannot watch a listener: {error}");
        }
    }
}
