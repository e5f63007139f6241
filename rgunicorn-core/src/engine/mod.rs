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
//! | `pages` | what is answered without the application |
//! | `parked` | exchanges whose application goes on by itself |
//! | `output` | bytes on their way to a client |
//! | `upload` | a request body that the application reads as it arrives |
//! | `transport` | the socket; TLS will stand there |
//! | `accept` | taking connections from listeners |
//! | `room` | idle connections that make way for others |
//! | `stalled` | request bodies that wait for room |
//! | `handover` | connections that go from worker to worker |
//! | `timers` | deadlines |
//! | `tally` | what the scoreboard is told |
//! | `finish` | what happens when a response is out: access log, keep-alive, close |

mod accept;
mod buffers;
mod config;
mod connection;
mod exchange;
mod finish;
mod handover;
mod output;
mod pages;
mod parked;
mod room;
mod stalled;
mod tally;
mod timers;
mod transport;
mod upload;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Token};
use nix::sys::eventfd::EventFd;
use slab::Slab;

use accept::Acceptor;
use buffers::Buffers;
pub use config::{Accept, Bodies, EngineConfig};
use connection::{Connection, Phase, Received};
pub use exchange::Exchange;
use exchange::Outcome;
pub(crate) use exchange::guard;
pub use handover::Pulse;
use handover::{Handover, QUEUE};
pub(crate) use output::{Flushed, Output};
pub use pages::Pages;
pub use parked::{Occasion, Ticket, Wants};
use room::Room;
use stalled::Stalled;
use tally::Tally;
use timers::{Entry, Timers};
pub(crate) use transport::Transport;
pub(crate) use upload::Upload;

use crate::http::Refusal;
use crate::log::statsd::Statsd;
use crate::log::{self, AccessLog};
use crate::scoreboard::Slot;
use crate::socket::Listener;
use crate::sys::{epoll, title};

/// The token of a descriptor that only wakes the engine up.
const WAKE: Token = Token(usize::MAX);
/// Listener `i` has the token `usize::MAX - 2 - i`.
const LISTENERS: usize = usize::MAX - 2;
/// How long a client may take to read our last words before its connection is cut.
const LINGER: Duration = Duration::from_secs(2);
/// For how long a connection must have been idle to be closed once the engine drains: who asks more often learns by a
/// response that it ends.
const LAST_REQUEST: Duration = Duration::from_secs(1);
/// How long a client that was told so may take to end an idle connection from its side.
const FAREWELL: Duration = Duration::from_millis(300);

/// One half of a connection's token is its key, the other tells it from those that had the key before.
const HALF: u32 = usize::BITS / 2;

/// The token of a connection's descriptor. The highest bit is that of the engine's own tokens.
fn token(key: usize, serial: u64) -> Token {
    Token(key | ((serial as usize) << HALF) & (usize::MAX >> 1))
}

/// A place for a connection; empty while the connection is lent out.
#[derive(Debug)]
struct Place {
    connection: Option<Box<Connection>>,
    /// The connection's.
    serial: u64,
    /// What the descriptor became ready for while the connection was lent out.
    readable: bool,
    read_closed: bool,
    writable: bool,
}

impl Place {
    fn of(connection: Connection) -> Place {
        let serial = connection.serial;
        Place {
            connection: Some(Box::new(connection)),
            serial,
            readable: false,
            read_closed: false,
            writable: false,
        }
    }
}

/// Owns a worker's sockets. See the [module](self).
#[derive(Debug)]
pub struct Engine {
    poll: mio::Poll,
    events: mio::Events,
    config: EngineConfig,
    acceptor: Acceptor,
    room: Room,
    stalled: Stalled,
    /// What this worker shares with others; none if it is alone.
    handover: Option<Handover>,
    places: Slab<Place>,
    /// Connections with something for the application to do, in order of arrival.
    ready: VecDeque<usize>,
    /// Connections that are lent out and whose client has sent something or left; see [`Bodies::Polled`].
    stirred: VecDeque<usize>,
    /// Connections whose descriptors may have more than their share of the last turn.
    again: Vec<usize>,
    /// Connections whose responses were held back.
    held: Vec<usize>,
    /// Connections whose requests are answered without the application.
    pages: Vec<usize>,
    timers: Timers,
    buffers: Buffers,
    access: Option<AccessLog>,
    statsd: Option<Statsd>,
    tally: Tally,
    now: Instant,
    serial: u64,
    requests: u64,
    draining: bool,
    woken: bool,
    /// Counts turns.
    turns: u64,
    /// Counts what was asked for on behalf of the application, and what it gave back.
    taken: u64,
    /// Somebody else has had a turn meanwhile: the listeners are to be watched again.
    stood_in: bool,
    /// What waited for the application then has waited for long: until somebody takes something for it, more is not welcome.
    out_of_reach: bool,
    /// Wakes up whoever waits for the engine.
    nudge: Option<mio::Waker>,
    /// To be rung at the next turn.
    bell: Option<Arc<EventFd>>,
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
        let mut acceptor = Acceptor::new(listeners, config.accept);
        acceptor.watch(&poll)?;
        Ok(Engine {
            poll,
            events: mio::Events::with_capacity(1024),
            config,
            acceptor,
            room: Room::default(),
            stalled: Stalled::default(),
            handover: None,
            places: Slab::new(),
            ready: VecDeque::new(),
            stirred: VecDeque::new(),
            again: Vec::new(),
            held: Vec::new(),
            pages: Vec::new(),
            timers: Timers::default(),
            buffers: Buffers::default(),
            access,
            statsd: None,
            tally: Tally::new(Slot::default()),
            now: Instant::now(),
            serial: 0,
            requests: 0,
            draining: false,
            woken: false,
            turns: 0,
            taken: 0,
            stood_in: false,
            out_of_reach: false,
            nudge: None,
            bell: None,
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

    /// A copy of the descriptor that is readable when a turn has something to do, for those who wait for it without
    /// holding the engine.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        epoll::duplicate(self.poll.as_raw_fd())
    }

    /// Waits until there is something to do, at most for `most`. The only call that blocks, and only if
    /// [`has_work`](Self::has_work) says no.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`, but for an interruption by a signal.
    pub fn wait(&mut self, most: Option<Duration>) -> io::Result<()> {
        let most = self.prepare_wait(most);
        match self.poll.poll(&mut self.events, most) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            other => other,
        }
    }

    /// Does what is to be done before waiting, and says how long that may take at most: until the next timer, and no longer
    /// than `most`. For those who wait for the engine's descriptor in their own way.
    pub fn prepare_wait(&mut self, most: Option<Duration>) -> Option<Duration> {
        let most = if self.has_work() { Some(Duration::ZERO) } else { self.until_next_timer(most) };
        if most != Some(Duration::ZERO)
            && let Some(access) = &mut self.access
        {
            access.flush();
        }
        if let Some(statsd) = &mut self.statsd {
            statsd.flush();
            log::complain(statsd.take_complaint());
        }
        most
    }

    /// Whether a turn has something to do without waiting.
    pub fn has_work(&self) -> bool {
        !(self.ready.is_empty() && self.again.is_empty() && self.pages.is_empty())
            || self.may_empty_queue()
            || self.may_take_over()
            || self.may_unstall()
    }

    /// Whether the next turn takes another connection from the listen queue, or finds that none is left: no event tells
    /// of that.
    fn may_empty_queue(&self) -> bool {
        self.draining
            && !self.acceptor.is_closed()
            && !self.is_full()
            && self.acceptor.paused_until().is_none()
    }

    /// Whether the last [`wait`](Self::wait) found something.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// When something is due, at the latest, even if nothing happens.
    pub fn next_timer(&self) -> Option<Instant> {
        let acceptor = [self.acceptor.paused_until(), self.acceptor.doubts_from()];
        let own = [self.timers.next(), self.queue_left_until(), self.look_for_room_at()];
        own.into_iter().chain(acceptor).flatten().min()
    }

    fn until_next_timer(&self, most: Option<Duration>) -> Option<Duration> {
        let Some(next) = self.next_timer() else { return most };
        // One millisecond more: epoll counts in those, and a timer that is not quite due would make us spin.
        let until = next.saturating_duration_since(Instant::now()).saturating_add(Duration::from_millis(1));
        Some(most.map_or(until, |most| most.min(until)))
    }

    /// Does all that the sockets and timers ask for, without blocking and without the application.
    pub fn process(&mut self) {
        self.begin_turn();
        self.out_of_reach = false;
        if std::mem::take(&mut self.stood_in) {
            self.make_room();
        }
        let accept = self.attend() || self.acceptor.doubts(self.now);
        if self.acceptor.resume(self.now) {
            self.make_room();
        }
        self.unstall();
        self.take_over();
        if accept || self.draining {
            self.accept();
        }
        if self.draining {
            self.stay_responsible();
        }
        self.answer_pages();
        self.publish();
    }

    /// Does what the connections there are ask for. Whether another one waits in a listen queue.
    fn attend(&mut self) -> bool {
        self.now = Instant::now();
        let mut events = std::mem::replace(&mut self.events, mio::Events::with_capacity(0));
        let mut accept = false;
        for event in &events {
            match event.token() {
                WAKE => self.woken = true,
                QUEUE => self.note_queue(),
                Token(token) if LISTENERS - token < self.acceptor.len() => accept = true,
                token => {
                    let read_closed = event.is_read_closed() || event.is_error();
                    self.note(token, event.is_readable() || read_closed, read_closed, event.is_writable());
                }
            }
        }
        events.clear();
        self.events = events;
        for key in std::mem::take(&mut self.again) {
            self.progress(key);
        }
        self.expire();
        accept
    }

    /// Notes what a descriptor became ready for, and gets on with its connection unless that is lent out.
    fn note(&mut self, noted: Token, readable: bool, read_closed: bool, writable: bool) {
        let key = noted.0 & (usize::MAX >> HALF);
        let place = self.places.get_mut(key).filter(|place| token(key, place.serial) == noted);
        let Some(place) = place else { return };
        match &mut place.connection {
            None => {
                place.readable |= readable;
                place.read_closed |= read_closed;
                place.writable |= writable;
                if self.config.bodies == Bodies::Polled {
                    self.stirred.push_back(key);
                }
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
        self.taken += 1;
        self.out_of_reach = false;
        let ends = self.ends_connections();
        while let Some(key) = self.ready.pop_front() {
            // The key of one that was closed may be another's by now.
            let Some(place) = self.places.get_mut(key) else { continue };
            if let Some(mut connection) = place.connection.take_if(|connection| connection.queued) {
                connection.queued = false;
                if ends {
                    connection.response.end_connection();
                }
                self.tally.lend(&mut connection, self.now);
                if connection.has_upload() {
                    self.lend_upload(key, &mut connection);
                }
                return Some(Exchange { key, connection, outcome: Outcome::Pending, holding: false });
            }
        }
        None
    }

    /// The application is going to read from the descriptor by itself.
    fn lend_upload(&mut self, key: usize, connection: &mut Connection) {
        match self.config.bodies {
            Bodies::Polled => {
                if let Err(error) = self.watch(key, connection) {
                    tracing::error!("cannot watch a connection: {error}");
                }
            }
            // Whatever comes would wake us up for nothing.
            Bodies::Whole | Bodies::Waited { .. } => self.forget(connection),
        }
    }

    /// The [key](Exchange::key) of an exchange that is lent out and whose client has sent more of its body, or left, or has
    /// room for more of the response; for [`Bodies::Polled`]. It may come without a reason.
    pub fn next_stirred(&mut self) -> Option<usize> {
        self.stirred.pop_front()
    }

    /// Takes back what [`next`](Self::next) gave.
    pub fn give_back(&mut self, exchange: Exchange) {
        self.taken += 1;
        self.out_of_reach = false;
        // The application may have taken long: that is not to be taken out of the client's time.
        self.now = Instant::now();
        let Exchange { key, mut connection, outcome, .. } = exchange;
        let Some(place) = self.places.get_mut(key) else { return };
        connection.readable |= std::mem::take(&mut place.readable);
        connection.read_closed |= std::mem::take(&mut place.read_closed);
        let writable = std::mem::take(&mut place.writable);
        if connection.timer.is_some_and(|timer| timer <= self.now) {
            // Its timer entry came while it was lent out.
            connection.timer = None;
        }
        if !matches!(outcome, Outcome::Parked | Outcome::Pending) {
            connection.parked = None;
        }
        if outcome != Outcome::Parked {
            self.tally.take_back(&mut connection);
        }
        place.connection = Some(connection);
        match outcome {
            Outcome::Complete => self.finish(key),
            Outcome::Held => self.held.push(key),
            Outcome::Broken => self.abort(key),
            Outcome::Blocked => {
                // It may have become writable in the meantime.
                if writable {
                    self.progress(key);
                } else {
                    self.wait_for_room(key);
                }
            }
            Outcome::Parked => self.rest(key, writable),
            Outcome::Yielded | Outcome::Pending => self.enqueue(key),
        }
    }

    /// Sends the responses that were [held](Exchange::hold) back. To be called before anything may take long.
    ///
    /// One after the other they cost less than each by itself: the first wakes up whoever takes them, and the others find it
    /// awake.
    pub fn send_held(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        for key in held.drain(..) {
            self.progress(key);
        }
        // Nothing was held meanwhile: that takes the application. So its room is kept for the next ones.
        self.held = held;
    }

    /// Whether there are responses that were [held](Exchange::hold) back.
    pub fn holds_answers(&self) -> bool {
        !self.held.is_empty()
    }

    /// When the turn began, or the last exchange of it was given back.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Gets on with a connection as far as possible without the application.
    fn progress(&mut self, key: usize) {
        loop {
            let Some(connection) = self.connection(key) else { return };
            if connection.queued {
                return;
            }
            // What is on its way out goes first: a client that doesn't take answers gets no further ones.
            if !connection.response.output().is_empty() {
                let connection = match self.places.get_mut(key).and_then(|place| place.connection.as_mut()) {
                    Some(connection) => connection,
                    None => return,
                };
                let transport = Arc::clone(&connection.transport);
                match connection.response.output().flush(&transport) {
                    Ok(Flushed::Everything) => connection.deadline = None,
                    Ok(Flushed::Blocked) => return self.wait_for_room(key),
                    Err(_) => return self.abort(key),
                }
            }
            let Some(connection) = self.connection(key) else { return };
            match connection.phase {
                Phase::Head | Phase::Body | Phase::Skipping => match self.receive(key) {
                    Received::Nothing => {
                        if self.draining && self.is_handing_over() && self.hand_over_one(key) {
                            return;
                        }
                        self.expect_more(key);
                        self.await_stream(key);
                        return self.register(key);
                    }
                    Received::Again => {
                        self.expect_more(key);
                        return self.again.push(key);
                    }
                    Received::Stalled => return self.stall(key),
                    Received::Request => return self.arrive(key),
                    Received::Refused(refusal) => self.refuse(key, &refusal),
                    Received::Useless => {
                        if let Some(connection) = self.connection(key) {
                            connection.phase = Phase::Closing;
                        }
                    }
                    Received::Gone => return self.abort(key),
                },
                Phase::Ready => return self.enqueue(key),
                Phase::Responding if connection.parked.is_some() => {
                    return if connection.has_news() { self.enqueue(key) } else { self.register(key) };
                }
                Phase::Responding if connection.response.needs_application() => return self.enqueue(key),
                Phase::Responding => return self.finish(key),
                Phase::Closing => self.linger(key),
                Phase::Lingering => match connection.drain() {
                    Received::Gone => return self.close(key),
                    Received::Again => return self.again.push(key),
                    _ => return self.register(key),
                },
            }
        }
    }

    /// The next word is the application's: until it has had it, nothing happens to the connection.
    fn enqueue(&mut self, key: usize) {
        let Some(connection) = self.connection(key) else { return };
        // Whatever the client was waited for, it has done.
        connection.deadline = None;
        if !std::mem::replace(&mut connection.queued, true) {
            self.ready.push_back(key);
        }
    }

    /// Makes what can be made of the bytes that came with the last request.
    fn parse_next(&mut self, key: usize) {
        let (now, buffers, config) = (self.now, &mut self.buffers, &self.config);
        let Some(connection) = self.places.get_mut(key).and_then(|place| place.connection.as_mut()) else {
            return;
        };
        match connection.parse(config, buffers, now) {
            Ok(true) => self.arrive(key),
            Ok(false) => {}
            // It goes out behind the answers before it.
            Err(refusal) => self.refuse(key, &refusal),
        }
    }

    fn receive(&mut self, key: usize) -> Received {
        let (now, buffers, config) = (self.now, &mut self.buffers, &self.config);
        match self.places.get_mut(key).and_then(|place| place.connection.as_mut()) {
            Some(connection) => connection.receive(config, buffers, now),
            None => Received::Nothing,
        }
    }

    /// A client has more to send: by when must it?
    fn expect_more(&mut self, key: usize) {
        let by = |timeout| deadline(self.now, timeout);
        let (keepalive, header, body) = (
            by(self.config.keepalive),
            by(self.config.client_header_timeout),
            by(self.config.client_body_timeout),
        );
        let last_request = self.draining.then(|| self.now + LAST_REQUEST);
        let Some(connection) = self.connection(key) else { return };
        let begins = connection.begins_head();
        match connection.phase {
            Phase::Head if connection.is_idle() => {
                let idle = if connection.served > 0 { keepalive } else { header };
                let idle = idle.into_iter().chain(last_request).min();
                connection.deadline = connection.deadline.or(idle);
            }
            // The time for a head doesn't start anew with each byte of it.
            Phase::Head if begins => connection.deadline = header,
            Phase::Head => {}
            // Nor does that for a body that nobody wants.
            Phase::Skipping => connection.deadline = connection.deadline.or(body),
            _ => connection.deadline = body,
        }
        self.arm(key);
    }

    /// A client must take something first: by when? What it sends meanwhile buys it no time.
    fn wait_for_room(&mut self, key: usize) {
        let by = deadline(self.now, self.config.send_timeout);
        let Some(connection) = self.connection(key) else { return };
        let taken = connection.response.output().taken();
        if std::mem::replace(&mut connection.taken, taken) != taken || connection.deadline.is_none() {
            connection.deadline = by;
        }
        self.arm(key);
        self.register(key);
    }

    /// Answers a request that can't be accepted, and closes.
    fn refuse(&mut self, key: usize, refusal: &Refusal) {
        let Some(connection) = self.connection(key) else { return };
        let peer = connection.peer().address().to_owned();
        let what = if refusal.is_the_servers() { "Cannot take a request" } else { "Invalid request" };
        tracing::warn!("{what} from ip={peer}: {refusal}");
        refusal.response(connection.response.output().tail());
        self.log_refusal(key, refusal.status);
        if let Some(connection) = self.connection(key) {
            connection.phase = Phase::Closing;
            connection.deadline = None;
            connection.forget_body();
        }
    }

    fn connection(&mut self, key: usize) -> Option<&mut Connection> {
        self.places.get_mut(key)?.connection.as_deref_mut()
    }

    /// Sets a connection's deadline.
    fn expect_by(&mut self, key: usize, timeout: Duration) {
        let by = deadline(self.now, timeout);
        if let Some(connection) = self.connection(key) {
            connection.deadline = by;
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
            let places = &self.places;
            // One that is lent for an exchange can't be asked, and comes back.
            let wanted = |entry: &Entry| {
                places.get(entry.key).is_some_and(|place| {
                    let connection = place.connection.as_ref();
                    connection.is_none_or(|c| c.serial == entry.serial && c.timer == Some(entry.due))
                })
            };
            self.timers.add(Entry { due, key, serial }, places.len(), wanted);
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
        if self.end_waiting(key) {
            return;
        }
        let Some(connection) = self.connection(key) else { return };
        match connection.phase {
            Phase::Head if !connection.is_idle() && connection.response.output().is_empty() => {
                self.refuse(key, &Refusal::timeout("the request head took too long"));
                self.progress(key);
            }
            Phase::Body if connection.wait.stalled && connection.response.output().is_empty() => {
                self.refuse(key, &stalled::no_room());
                self.progress(key);
            }
            Phase::Body if connection.response.output().is_empty() => {
                self.refuse(
                    key,
                    &Refusal::timeout("the client paused too long while sending the request body"),
                );
                self.progress(key);
            }
            Phase::Head if connection.response.output().is_empty() => self.part(key),
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
        let Some(mut connection) = self.places.get_mut(key).and_then(|place| place.connection.take()) else {
            return;
        };
        let watched = self.watch(key, &mut connection);
        if let Some(place) = self.places.get_mut(key) {
            place.connection = Some(connection);
        }
        if let Err(error) = watched {
            tracing::error!("cannot watch a connection: {error}");
            self.abort(key);
        }
    }

    fn watch(&self, key: usize, connection: &mut Connection) -> io::Result<()> {
        if !connection.registered {
            let descriptor = connection.transport.as_raw_fd();
            let both = Interest::READABLE | Interest::WRITABLE;
            let token = token(key, connection.serial);
            self.poll.registry().register(&mut SourceFd(&descriptor), token, both)?;
            connection.registered = true;
        }
        Ok(())
    }

    /// Has the poller forget a connection's descriptor.
    fn forget(&self, connection: &mut Connection) {
        if std::mem::take(&mut connection.registered) {
            // One that isn't watched any more is what we want.
            let _ = self.poll.registry().deregister(&mut SourceFd(&connection.transport.as_raw_fd()));
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

    /// How many requests were answered, to their end or to that of their connection; held answers are.
    pub fn requests(&self) -> u64 {
        self.requests + self.held.len() as u64
    }

    /// Has the engine tell StatsD of each request.
    pub fn tell(&mut self, statsd: Option<Statsd>) {
        self.statsd = statsd;
    }

    /// The access log, to reopen it.
    pub fn access_log(&mut self) -> Option<&mut AccessLog> {
        self.access.as_mut()
    }

    /// Stops accepting, and lets connections go as they finish what they hold. They go to other workers, if there are any
    /// that go on; else a response says `Connection: close`.
    /// With `answer_queue`, what waits in the listen queue is still accepted, for nobody else would.
    pub fn drain(&mut self, answer_queue: bool) {
        if self.draining {
            return;
        }
        self.draining = true;
        self.now = Instant::now();
        self.tally.slot().stops();
        title::state("stopping");
        if self.leave_to_others(!answer_queue) {
            self.acceptor.close(&self.poll);
            self.hand_over_idle();
        } else {
            if answer_queue {
                self.accept();
            } else {
                self.acceptor.close(&self.poll);
            }
            self.announce_end();
        }
        self.stay_responsible();
    }

    /// Lets connections end.
    fn announce_end(&mut self) {
        let (now, header) = (self.now, self.config.client_header_timeout);
        // From now on responses say so. Where one has promised to keep its connection, the promise is kept.
        let keepalive = std::mem::take(&mut self.config.keepalive);
        let keys: Vec<usize> = self.places.iter().map(|(key, _)| key).collect();
        for key in keys {
            if let Some(connection) = self.connection(key).filter(|connection| connection.is_idle()) {
                let allowed = if connection.served > 0 { keepalive } else { header };
                let since = connection.deadline.and_then(|deadline| deadline.checked_sub(allowed));
                connection.deadline = Some(since.unwrap_or(now) + LAST_REQUEST);
                self.arm(key);
            }
        }
    }

    /// Whether a draining engine has nothing left to do.
    pub fn is_drained(&self) -> bool {
        self.draining && self.places.is_empty() && self.acceptor.is_closed() && !self.may_take_over()
    }
}

impl AsRawFd for Engine {
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}

/// Zero is no limit, and so is what the clock can't count up to.
fn deadline(now: Instant, timeout: Duration) -> Option<Instant> {
    (!timeout.is_zero()).then(|| now.checked_add(timeout)).flatten()
}
