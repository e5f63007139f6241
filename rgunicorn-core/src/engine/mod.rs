//! The engine owns every socket of a worker: it accepts, parses, buffers, times out, writes.
//!
//! It is driven by turns and knows no worker class. A turn is [`wait`](Engine::wait), the only call that may block, then
//! [`process`](Engine::process), then for each [`next`](Engine::next) an [`Exchange::advance`] wherever the class runs
//! the application, and [`give_back`](Engine::give_back). Somebody else's event loop can drive it as well: its one
//! descriptor ([`AsRawFd`]) is readable when a turn has something to do.
//!
//! | module | what it is |
//! | --- | --- |
//! | `connection` | one client: bytes in, requests out |
//! | `exchange` | a connection lent to the application |
//! | `output` | bytes on their way to a client |
//! | `transport` | the socket; TLS will stand there |
//! | `accept` | taking connections from listeners |
//! | `timers` | deadlines |
//! | `finish` | what happens when a response is out: access log, keep-alive, close |

mod accept;
mod buffers;
mod config;
mod connection;
mod exchange;
mod finish;
mod output;
mod timers;
mod transport;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Token};
use slab::Slab;

use accept::Acceptor;
use buffers::Buffers;
pub use config::{Accept, EngineConfig};
use connection::{Connection, Phase, Received};
pub use exchange::Exchange;
use exchange::Outcome;
pub(crate) use output::{Flushed, Output};
use timers::{Entry, Timers};
pub(crate) use transport::Transport;

use crate::http::Refusal;
use crate::log::AccessLog;
use crate::socket::Listener;

/// The token of a descriptor that only wakes the engine up.
const WAKE: Token = Token(usize::MAX);
/// Listener `i` has the token `usize::MAX - 1 - i`.
const LISTENERS: usize = usize::MAX - 1;
/// How long a client may take to read our last words before its connection is cut.
const LINGER: Duration = Duration::from_secs(2);
/// How long idle connections are kept for a last request once the engine drains.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// A place for a connection; empty while the connection is lent out.
#[derive(Debug)]
struct Place {
    connection: Option<Box<Connection>>,
    /// What the descriptor became ready for while the connection was lent out.
    readable: bool,
    read_closed: bool,
    writable: bool,
}

/// Owns a worker's sockets. See the [module](self).
#[derive(Debug)]
pub struct Engine {
    poll: mio::Poll,
    events: mio::Events,
    config: EngineConfig,
    acceptor: Acceptor,
    places: Slab<Place>,
    /// Connections with something for the application to do, in order of arrival.
    ready: VecDeque<usize>,
    /// Connections whose descriptors may have more than their share of the last turn.
    again: Vec<usize>,
    timers: Timers,
    buffers: Buffers,
    access: Option<AccessLog>,
    now: Instant,
    serial: u64,
    requests: u64,
    draining: bool,
    woken: bool,
}

impl Engine {
    /// An engine that accepts from `listeners`. Made in the worker, after the fork.
    ///
    /// # Errors
    /// When the system has no epoll instance for it, or a listener can't be watched.
    pub fn new(
        listeners: Vec<Listener>,
        config: EngineConfig,
        access: Option<AccessLog>,
    ) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let mut acceptor = Acceptor::new(listeners);
        acceptor.watch(&poll)?;
        Ok(Engine {
            poll,
            events: mio::Events::with_capacity(1024),
            config,
            acceptor,
            places: Slab::new(),
            ready: VecDeque::new(),
            again: Vec::new(),
            timers: Timers::default(),
            buffers: Buffers::default(),
            access,
            now: Instant::now(),
            serial: 0,
            requests: 0,
            draining: false,
            woken: false,
        })
    }

    /// Makes [`wait`](Self::wait) return when `descriptor` becomes readable, such as a worker's
    /// [`Control`](crate::worker::Control). The caller reads it until it is empty.
    ///
    /// # Errors
    /// When it can't be watched.
    pub fn wake_on(&self, descriptor: RawFd) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&descriptor), WAKE, Interest::READABLE)
    }

    /// Waits until there is something to do, at most for `most`. The only call that blocks, and only if
    /// [`has_work`](Self::has_work) says no.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`, but for an interruption by a signal.
    pub fn wait(&mut self, most: Option<Duration>) -> io::Result<()> {
        let most = if self.has_work() { Some(Duration::ZERO) } else { self.until_next_timer(most) };
        if most != Some(Duration::ZERO)
            && let Some(access) = &mut self.access
        {
            access.flush();
        }
        match self.poll.poll(&mut self.events, most) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            other => other,
        }
    }

    /// Whether a turn has something to do without waiting.
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.again.is_empty() || self.may_empty_queue()
    }

    /// Whether the next turn takes another connection from the listen queue, or finds that none is left: no event tells
    /// of that.
    fn may_empty_queue(&self) -> bool {
        let full = self.places.len() >= self.config.worker_connections;
        self.draining && !self.acceptor.is_closed() && !full && self.acceptor.paused_until().is_none()
    }

    /// Whether the last [`wait`](Self::wait) found something.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    fn until_next_timer(&self, most: Option<Duration>) -> Option<Duration> {
        let next = [self.timers.next(), self.acceptor.paused_until()].into_iter().flatten().min();
        let Some(next) = next else { return most };
        // One millisecond more: epoll counts in those, and a timer that is not quite due would make us spin.
        let until = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        Some(most.map_or(until, |most| most.min(until)))
    }

    /// Does all that the sockets and timers ask for, without blocking and without the application.
    pub fn process(&mut self) {
        self.now = Instant::now();
        let mut events = std::mem::replace(&mut self.events, mio::Events::with_capacity(0));
        let mut accept = false;
        for event in &events {
            match event.token() {
                WAKE => self.woken = true,
                Token(token) if LISTENERS - token < self.acceptor.len() => accept = true,
                Token(key) => {
                    let read_closed = event.is_read_closed() || event.is_error();
                    self.note(key, event.is_readable() || read_closed, read_closed, event.is_writable());
                }
            }
        }
        events.clear();
        self.events = events;
        for key in std::mem::take(&mut self.again) {
            self.progress(key);
        }
        self.expire();
        if self.acceptor.resume(self.now) {
            self.watch_listeners();
        }
        if accept || self.draining {
            self.accept();
        }
    }

    /// Notes what a descriptor became ready for, and gets on with its connection unless that is lent out.
    fn note(&mut self, key: usize, readable: bool, read_closed: bool, writable: bool) {
        let Some(place) = self.places.get_mut(key) else { return };
        match &mut place.connection {
            None => {
                place.readable |= readable;
                place.read_closed |= read_closed;
                place.writable |= writable;
            }
            Some(connection) => {
                connection.readable |= readable;
                connection.read_closed |= read_closed;
                self.progress(key);
            }
        }
    }

    /// Takes the oldest thing that the application must get on with.
    #[expect(
        clippy::should_implement_trait,
        reason = "an engine is no iterator: what is taken must be given back"
    )]
    pub fn next(&mut self) -> Option<Exchange> {
        while let Some(key) = self.ready.pop_front() {
            if let Some(connection) = self.places.get_mut(key).and_then(|place| place.connection.take()) {
                return Some(Exchange { key, connection, outcome: Outcome::Pending });
            }
        }
        None
    }

    /// Takes back what [`next`](Self::next) gave.
    pub fn give_back(&mut self, exchange: Exchange) {
        let Exchange { key, mut connection, outcome } = exchange;
        let Some(place) = self.places.get_mut(key) else { return };
        connection.readable |= std::mem::take(&mut place.readable);
        connection.read_closed |= std::mem::take(&mut place.read_closed);
        let writable = std::mem::take(&mut place.writable);
        if connection.timer.is_some_and(|timer| timer <= self.now) {
            // Its timer entry came while it was lent out.
            connection.timer = None;
        }
        place.connection = Some(connection);
        match outcome {
            Outcome::Complete => self.finish(key),
            Outcome::Broken => self.abort(key),
            Outcome::Blocked => {
                self.expect_by(key, self.config.send_timeout);
                // It may have become writable in the meantime.
                if writable {
                    self.progress(key);
                } else {
                    self.register(key);
                }
            }
            Outcome::Yielded | Outcome::Pending => self.ready.push_back(key),
        }
    }

    /// Gets on with a connection as far as possible without the application.
    fn progress(&mut self, key: usize) {
        loop {
            let Some(connection) = self.connection(key) else { return };
            if connection.phase == Phase::Ready {
                return;
            }
            // What is on its way out goes first: a client that doesn't take answers gets no further ones.
            if !connection.response.output().is_empty() {
                let connection = match self.places.get_mut(key).and_then(|place| place.connection.as_mut()) {
                    Some(connection) => connection,
                    None => return,
                };
                let transport = std::sync::Arc::clone(&connection.transport);
                match connection.response.output().flush(&transport) {
                    Ok(Flushed::Everything) => {}
                    Ok(Flushed::Blocked) => {
                        self.expect_by(key, self.config.send_timeout);
                        self.register(key);
                        return;
                    }
                    Err(_) => return self.abort(key),
                }
            }
            let Some(connection) = self.connection(key) else { return };
            match connection.phase {
                Phase::Head | Phase::Body => match self.receive(key) {
                    Received::Nothing => return self.wait_for_more(key),
                    Received::Again => return self.again.push(key),
                    Received::Request => return self.request_is_ready(key),
                    Received::Refused(refusal) => self.refuse(key, &refusal),
                    Received::Gone => return self.abort(key),
                },
                Phase::Ready => return,
                Phase::Responding if connection.response.needs_application() => {
                    return self.ready.push_back(key);
                }
                Phase::Responding => return self.finish(key),
                Phase::Closing => self.linger(key),
                Phase::Lingering => {
                    if connection.readable && connection.drain() {
                        return self.close(key);
                    }
                    connection.readable = false;
                    return self.register(key);
                }
            }
        }
    }

    fn request_is_ready(&mut self, key: usize) {
        if let Some(connection) = self.connection(key) {
            connection.deadline = None;
        }
        self.ready.push_back(key);
    }

    /// Whether the bytes that came with the last request hold a whole next one, which is queued then.
    fn parse_next(&mut self, key: usize) -> bool {
        let (now, buffers, config) = (self.now, &mut self.buffers, &self.config);
        let Some(connection) = self.places.get_mut(key).and_then(|place| place.connection.as_mut()) else {
            return false;
        };
        // A refusal comes up again when the connection is read: what was answered before it is sent first.
        let whole = matches!(connection.parse(config, buffers, now), Ok(true));
        if whole {
            self.request_is_ready(key);
        }
        whole
    }

    fn receive(&mut self, key: usize) -> Received {
        let (now, buffers, config) = (self.now, &mut self.buffers, &self.config);
        match self.places.get_mut(key).and_then(|place| place.connection.as_mut()) {
            Some(connection) => connection.receive(config, buffers, now),
            None => Received::Nothing,
        }
    }

    /// A connection has nothing more to give for now: by when must it?
    fn wait_for_more(&mut self, key: usize) {
        let (keepalive, header, body) =
            (self.config.keepalive, self.config.client_header_timeout, self.config.client_body_timeout);
        let draining = self.draining;
        let now = self.now;
        let Some(connection) = self.connection(key) else { return };
        if !connection.response.output().is_empty() {
            return;
        }
        let begins = connection.begins_head();
        match connection.phase {
            Phase::Head if connection.is_idle() && connection.served > 0 => {
                let idle = if draining { keepalive.min(LAST_REQUEST) } else { keepalive };
                connection.deadline = Some(now + idle);
            }
            // The time for a head doesn't start anew with each byte of it.
            Phase::Head if begins => connection.deadline = deadline(now, header),
            Phase::Head => {}
            _ => connection.deadline = deadline(now, body),
        }
        self.arm(key);
        self.register(key);
    }

    /// Answers a request that can't be accepted, and closes.
    fn refuse(&mut self, key: usize, refusal: &Refusal) {
        let Some(connection) = self.connection(key) else { return };
        let peer = connection.peer().address().to_owned();
        tracing::warn!("Invalid request from ip={peer}: {refusal}");
        refusal.response(connection.response.output().tail());
        self.log_refusal(key, refusal.status);
        if let Some(connection) = self.connection(key) {
            connection.phase = Phase::Closing;
        }
    }

    fn connection(&mut self, key: usize) -> Option<&mut Connection> {
        self.places.get_mut(key)?.connection.as_deref_mut()
    }

    /// Sets a connection's deadline.
    fn expect_by(&mut self, key: usize, timeout: Duration) {
        let deadline = deadline(self.now, timeout);
        if let Some(connection) = self.connection(key) {
            connection.deadline = deadline;
        }
        self.arm(key);
    }

    /// Makes sure that a timer entry comes by the time of the connection's deadline.
    fn arm(&mut self, key: usize) {
        let Some(connection) = self.connection(key) else { return };
        let Some(due) = connection.deadline else { return };
        if connection.timer.is_none_or(|timer| due < timer) {
            connection.timer = Some(due);
            let serial = connection.serial;
            self.timers.add(Entry { due, key, serial });
        }
    }

    /// Ends what has taken too long.
    fn expire(&mut self) {
        while let Some(entry) = self.timers.pop_due(self.now) {
            let now = self.now;
            let Some(connection) = self.connection(entry.key) else { continue };
            if connection.serial != entry.serial || connection.timer != Some(entry.due) {
                continue;
            }
            connection.timer = None;
            match connection.deadline {
                Some(deadline) if deadline <= now => self.time_out(entry.key),
                Some(_) => self.arm(entry.key),
                None => {}
            }
        }
    }

    fn time_out(&mut self, key: usize) {
        let Some(connection) = self.connection(key) else { return };
        match connection.phase {
            Phase::Head if !connection.is_idle() && connection.response.output().is_empty() => {
                self.refuse(key, &Refusal::timeout("the request head took too long"));
                self.progress(key);
            }
            Phase::Body if connection.response.output().is_empty() => {
                self.refuse(
                    key,
                    &Refusal::timeout("the client paused too long while sending the request body"),
                );
                self.progress(key);
            }
            Phase::Ready => {}
            Phase::Responding => {
                tracing::info!(
                    "Closing a connection from ip={}: the client paused too long while taking a response",
                    connection.peer().address()
                );
                self.abort(key);
            }
            _ => self.close(key),
        }
    }

    /// Makes the poller know a connection's descriptor, which it needs to once its connection has to wait.
    fn register(&mut self, key: usize) {
        let registry = self.poll.registry();
        let Some(connection) = self.places.get_mut(key).and_then(|place| place.connection.as_mut()) else {
            return;
        };
        if connection.registered {
            return;
        }
        let descriptor = connection.transport.as_raw_fd();
        let both = Interest::READABLE | Interest::WRITABLE;
        match registry.register(&mut SourceFd(&descriptor), Token(key), both) {
            Ok(()) => connection.registered = true,
            Err(error) => {
                tracing::error!("cannot watch a connection: {error}");
                self.abort(key);
            }
        }
    }
}

/// The engine as its worker class sees it, besides turns.
impl Engine {
    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.places.len()
    }

    /// How many connections have something for the application to do.
    pub fn queued(&self) -> usize {
        self.ready.len()
    }

    /// Whether a descriptor given to [`wake_on`](Self::wake_on) became readable since the last call.
    pub fn take_wake(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    /// How many requests were answered.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// The access log, to reopen it.
    pub fn access_log(&mut self) -> Option<&mut AccessLog> {
        self.access.as_mut()
    }

    /// Stops accepting, and lets connections go as they finish what they hold: a response says `Connection: close`.
    /// With `answer_queue`, what waits in the listen queue is still accepted, for nobody else would.
    pub fn drain(&mut self, answer_queue: bool) {
        if self.draining {
            return;
        }
        self.draining = true;
        if answer_queue {
            self.accept();
        } else {
            self.acceptor.close(&self.poll);
        }
        let idle: Vec<usize> = self.places.iter().map(|(key, _)| key).collect();
        self.now = Instant::now();
        for key in idle {
            // Those that were never used can only just have come.
            if self.connection(key).is_some_and(|connection| connection.is_idle()) {
                self.expect_by(key, LAST_REQUEST.min(self.config.keepalive.max(Duration::from_millis(100))));
            }
        }
    }

    /// Whether a draining engine has nothing left to do.
    pub fn is_drained(&self) -> bool {
        self.draining && self.places.is_empty() && self.acceptor.is_closed()
    }
}

impl AsRawFd for Engine {
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}

fn deadline(now: Instant, timeout: Duration) -> Option<Instant> {
    (!timeout.is_zero()).then(|| now + timeout)
}
