//! One client's connection: bytes in, requests out, one after the other.
//!
//! Nothing here waits and nothing here calls an application. The [`Engine`](super::Engine) tells a connection what its
//! descriptor is ready for; an [`Exchange`](super::Exchange) lends it to the application.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::buffers::{Buffers, READ_SIZE};
use super::config::EngineConfig;
use super::parked::Parked;
use super::stalled::{Wait, cannot_keep};
use super::tally::Entry;
use super::transport::{Moved, Transport};
use super::upload::{Beginning, Failure, Remains, Upload, WORTH_SKIPPING};
use crate::app::{Admission, Body, Peer, Request, Response, ServerAddress, SharedSocket, Spool};
use crate::http::proxy::{self, Preface, Proxied, ProxyVersions};
use crate::http::response::Circumstances;
use crate::http::{BodyDecoder, BodyFraming, HeadReader, Refusal, RequestHead};
use crate::siblings::{Facts, Parcel};

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waiting for a request head, or in the middle of one.
    Head,
    /// In the middle of a request body.
    Body,
    /// A request is complete and waits for the application.
    Ready,
    /// The application was called, and its response isn't all in the kernel.
    Responding,
    /// A response is out, and what its application has left unread of the request body is being thrown away.
    Skipping,
    /// Only what is left of the output matters; then the connection is closed, politely.
    Closing,
    /// Our side is closed; what the client still sends is thrown away, so that it can read our last words.
    Lingering,
}

/// What came of reading.
#[derive(Debug)]
pub(crate) enum Received {
    /// Nothing to do until the descriptor is ready again.
    Nothing,
    /// There may be more to read, but others should have their turn first.
    Again,
    /// A request is complete.
    Request,
    /// The bytes can't become an acceptable request.
    Refused(Refusal),
    /// What is being skipped has no end in sight.
    Useless,
    /// There is no room for more of the body.
    Stalled,
    /// The client is gone.
    Gone,
}

/// One client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) transport: Arc<Transport>,
    pub(crate) phase: Phase,
    /// It waits in the engine's queue for the application.
    pub(crate) queued: bool,
    /// Tells this connection from others with the same key.
    pub(crate) serial: u64,
    /// The descriptor may have something to read, as far as we know.
    pub(crate) readable: bool,
    /// The client has ended its side: reading will come to an end.
    pub(crate) read_closed: bool,
    /// Whether the poller knows the descriptor.
    pub(crate) registered: bool,
    /// How its request's body waits for others.
    pub(super) wait: Wait,
    pub(crate) deadline: Option<Instant>,
    /// The earliest timer entry that there is for this connection.
    pub(crate) timer: Option<Instant>,
    /// How much of its output the client had taken when we last had to wait for it.
    pub(crate) taken: u64,
    /// How many requests were answered.
    pub(crate) served: u64,
    /// When the current request was complete.
    pub(crate) started: Instant,
    pub(crate) response: Response,
    /// What its application is waiting for while the exchange is [parked](super::Engine::park).
    pub(crate) parked: Option<Parked>,
    /// What the scoreboard knows of its request.
    pub(super) entry: Entry,
    /// How many bytes were received that the scoreboard doesn't know of.
    pub(crate) received: u64,
    /// The current request is answered without the application.
    pub(super) page: bool,
    /// What follows on it isn't HTTP any more.
    pub(crate) upgraded: bool,
    /// It was closed for another to have its place, and its client may not have seen that.
    pub(super) parting: bool,
    /// Bytes of it that were read have still to be looked at.
    pub(crate) left_unread: bool,
    /// Its client has to be given time to read our last words, whatever it seems to be doing.
    pub(crate) lingers: bool,
    /// Who has connected to us, and is trusted or isn't.
    peer: Peer,
    server: Arc<ServerAddress>,
    trusted: bool,
    /// Where a PROXY header may still come: the versions that are looked for.
    preface: ProxyVersions,
    /// A PROXY header was looked for, and something else comes next.
    opened: bool,
    /// Who the peer speaks for, by that.
    proxied: Option<Box<Named>>,
    input: Vec<u8>,
    /// Where the current message begins in `input`.
    begin: usize,
    /// Up to where `input` was made use of.
    used: usize,
    reader: HeadReader,
    head: RequestHead,
    decoder: Option<BodyDecoder>,
    spool: Spool,
    body: Body,
    /// Where in the current message its body lies, if it came whole with the head and wasn't taken yet.
    in_place: Range<usize>,
    /// The body of the current request, if the application reads it as it arrives.
    upload: Option<Arc<Upload>>,
    /// How much more may be skipped.
    skippable: u64,
    /// The application has a descriptor of the socket as well.
    pub(crate) shared: bool,
    /// The current request was read to its end.
    whole: bool,
    /// The first byte of the head that is being waited for has come.
    begun: bool,
}

/// A client that a PROXY header has named.
#[derive(Debug)]
struct Named {
    client: Peer,
    said: Proxied,
}

impl Named {
    fn by(said: Proxied) -> Box<Named> {
        Box::new(Named { client: Peer::tcp(said.client), said })
    }
}

impl Connection {
    pub(crate) fn new(
        transport: Transport,
        peer: Peer,
        server: Arc<ServerAddress>,
        serial: u64,
        config: &EngineConfig,
        now: Instant,
    ) -> Self {
        Connection {
            transport: Arc::new(transport),
            phase: Phase::Head,
            queued: false,
            serial,
            readable: true,
            read_closed: false,
            registered: false,
            wait: Wait::default(),
            deadline: None,
            timer: None,
            taken: 0,
            served: 0,
            started: now,
            response: Response::default(),
            parked: None,
            entry: Entry::default(),
            received: 0,
            page: false,
            upgraded: false,
            parting: false,
            left_unread: false,
            lingers: false,
            trusted: config.policy.forwarded_allow.allows(peer.ip()),
            peer,
            server,
            preface: config.proxy_protocol,
            opened: false,
            proxied: None,
            input: Vec::new(),
            begin: 0,
            used: 0,
            reader: HeadReader::default(),
            head: RequestHead::default(),
            decoder: None,
            spool: Spool::default(),
            body: Body::default(),
            in_place: 0..0,
            upload: None,
            skippable: 0,
            shared: false,
            whole: false,
            begun: false,
        }
    }

    /// Goes on where another worker has left off. Whom that one has trusted is of no account: this one's settings say.
    pub(crate) fn resume(
        transport: Transport,
        parcel: Parcel,
        server: Arc<ServerAddress>,
        serial: u64,
        config: &EngineConfig,
        now: Instant,
    ) -> Self {
        let Parcel { facts, input } = parcel;
        let mut connection = Connection::new(transport, facts.peer, server, serial, config, now);
        connection.served = facts.served;
        connection.proxied = facts.proxied.map(Named::by);
        connection.input = input;
        if facts.opened {
            connection.open();
        }
        connection
    }

    /// What another worker can't know by the bytes that are still to come.
    pub(crate) fn facts(&self) -> Facts {
        Facts {
            peer: self.peer.clone(),
            server: ServerAddress::clone(&self.server),
            proxied: self.proxied.as_ref().map(|named| named.said),
            // Also where nobody has looked for one.
            opened: self.opened || self.served > 0,
            served: self.served,
            inherited: self.transport.is_inherited(),
        }
    }

    /// What another worker needs to go on with this connection, besides its socket: the bytes since the last response. None
    /// if that isn't enough.
    pub(crate) fn portable_input(&mut self) -> Option<&[u8]> {
        let whole = match self.phase {
            Phase::Head => true,
            // A body that is still where it was read, behind its head.
            Phase::Ready => match self.head.body {
                BodyFraming::None => true,
                BodyFraming::Length(length) => length == self.in_place.len() as u64,
                BodyFraming::Chunked => false,
            },
            _ => false,
        };
        let tied = self.shared || self.has_upload() || !self.response.output().is_empty();
        (whole && !tied).then(|| self.input.get(self.begin..).unwrap_or(&[]))
    }

    /// Whether not a byte of the next request is there.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Head && self.begin == self.input.len()
    }

    /// Whether nothing is going on, so that it may be closed without harm.
    pub(super) fn rests(&mut self) -> bool {
        self.is_idle() && !self.queued && self.response.output().is_empty()
    }

    /// Whether bytes of a next request came with the current one.
    pub(crate) fn has_more_input(&self) -> bool {
        self.used < self.input.len()
    }

    /// True once for each request: when some of its head is there.
    pub(crate) fn begins_head(&mut self) -> bool {
        self.phase == Phase::Head && !self.is_idle() && !std::mem::replace(&mut self.begun, true)
    }

    /// Whether all that the client has sent was read, as far as can be seen.
    pub(crate) fn has_been_read(&mut self) -> bool {
        self.whole
            && !self.has_more_input()
            && match self.transport.read(&mut Vec::with_capacity(1)) {
                Ok(Moved::Some(_)) => false,
                Ok(Moved::Blocked | Moved::Closed) | Err(_) => true,
            }
    }

    /// How many bytes were received since the last call, by whomever.
    pub(super) fn take_received(&mut self) -> u64 {
        let read_by_the_application = self.upload.as_ref().map_or(0, |upload| upload.take_received());
        std::mem::take(&mut self.received) + read_by_the_application
    }

    /// The client: the one that a PROXY header has named, or else whoever has connected to us.
    pub(crate) fn peer(&self) -> &Peer {
        self.proxied.as_ref().map_or(&self.peer, |named| &named.client)
    }

    pub(crate) fn server(&self) -> &ServerAddress {
        &self.server
    }

    /// The current request's head, and the bytes that it refers to; none if there is none yet.
    pub(crate) fn head(&self) -> Option<(&RequestHead, &[u8])> {
        (self.phase != Phase::Head).then(|| (&self.head, self.input.get(self.begin..).unwrap_or(&[])))
    }

    /// Whether its request waits for the application.
    pub(super) fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// The current request's method and path, as one piece of its first line.
    pub(super) fn line(&self) -> &[u8] {
        let bytes = self.input.get(self.begin..).unwrap_or(&[]);
        bytes.get(self.head.method.start as usize..self.head.path.end as usize).unwrap_or(&[])
    }

    /// Lends the current request and its response to the application.
    pub(crate) fn lend(&mut self) -> (Request<'_>, &mut Response) {
        let request = Request {
            head: &self.head,
            bytes: self.input.get(self.begin..).unwrap_or(&[]),
            body: &mut self.body,
            in_place: Some(&mut self.in_place),
            peer: self.proxied.as_ref().map_or(&self.peer, |named| &named.client),
            server: &self.server,
            proxied: self.proxied.as_ref().map(|named| &named.said),
            started: self.started,
            socket: Some(SharedSocket {
                transport: &self.transport,
                early: self.input.get(self.used..).unwrap_or(&[]),
                shared: &mut self.shared,
            }),
        };
        (request, &mut self.response)
    }

    /// Reads and parses as far as it goes.
    pub(crate) fn receive(&mut self, config: &EngineConfig, buffers: &mut Buffers, now: Instant) -> Received {
        // How often one connection may be read before others have their turn.
        const READS: usize = 16;
        for _ in 0..READS {
            if self.phase == Phase::Skipping && !self.skip(config) {
                return Received::Useless;
            }
            match self.parse(config, buffers, now) {
                Ok(true) => return Received::Request,
                Ok(false) => {}
                Err(refusal) => return Received::Refused(refusal),
            }
            if !self.readable {
                self.give_back_input(buffers);
                return Received::Nothing;
            }
            match self.admits_body(config) {
                Admission::Yes => self.wait.stalled = false,
                Admission::Wait => return Received::Stalled,
                Admission::TooLarge => {
                    return Received::Refused(Refusal::body_over_files(config.spool.allowance.most()));
                }
            }
            if self.input.capacity() == 0 {
                self.input = buffers.take();
            }
            if self.input.capacity() - self.input.len() < READ_SIZE / 4 {
                self.input.reserve(READ_SIZE);
            }
            let offered = self.input.capacity() - self.input.len();
            match self.transport.read(&mut self.input) {
                // A short read has emptied the socket: the next bytes make a new event. Unless the client has ended
                // its side, which is an event that was seen already.
                Ok(Moved::Some(count)) => {
                    self.received += count as u64;
                    self.readable = count == offered || self.read_closed;
                }
                Ok(Moved::Blocked) => {
                    self.readable = false;
                    self.give_back_input(buffers);
                    return Received::Nothing;
                }
                Ok(Moved::Closed) | Err(_) => return Received::Gone,
            }
        }
        Received::Again
    }

    /// Makes what can be made of the bytes at hand; true when a request is complete. A refusal is final: the same bytes
    /// must not be parsed again.
    pub(crate) fn parse(
        &mut self,
        config: &EngineConfig,
        buffers: &mut Buffers,
        now: Instant,
    ) -> Result<bool, Refusal> {
        if self.phase == Phase::Head {
            let bytes = self.input.get_mut(self.begin..).unwrap_or(&mut []);
            if bytes.is_empty() {
                return Ok(false);
            }
            if !self.preface.none() {
                if !self.read_preface(config)? {
                    return Ok(false);
                }
                return self.parse(config, buffers, now);
            }
            match self.reader.read(bytes, &mut self.head, &config.policy, self.trusted) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(refusal) => {
                    if self.head.len > 0 {
                        // There is a head, if not a good one: the access log can say what was refused.
                        self.phase = Phase::Body;
                    }
                    return Err(refusal);
                }
            }
            self.used = self.begin + self.head.len;
            if self.head.body == BodyFraming::None {
                return self.complete(config, buffers, now);
            }
            self.begin_body(config, buffers)?;
            if let BodyFraming::Length(length) = self.head.body
                && let Ok(length) = usize::try_from(length)
                && length <= self.input.len() - self.used
            {
                // It stays where it is for as long as the head does.
                self.in_place = self.head.len..self.head.len + length;
                self.used += length;
                return self.complete(config, buffers, now);
            }
        }
        if self.phase == Phase::Body {
            if self.decode(config)? {
                return self.complete(config, buffers, now);
            }
            if self.body_streams(config) {
                return self.complete_head(config, buffers, now);
            }
        }
        Ok(false)
    }

    /// Takes a PROXY header off; false while it can't be said whether there is one.
    #[cold]
    fn read_preface(&mut self, config: &EngineConfig) -> Result<bool, Refusal> {
        let bytes = self.input.get(self.begin..).unwrap_or(&[]);
        match proxy::read(bytes, self.preface, config.proxy_allow.allows(self.peer.ip()))? {
            Preface::Incomplete => return Ok(false),
            Preface::None => {}
            Preface::Header(length, said) => {
                self.input.drain(self.begin..self.begin + length);
                self.proxied = said.map(Named::by);
            }
        }
        self.open();
        Ok(true)
    }

    /// From here on there are requests only.
    fn open(&mut self) {
        self.opened = true;
        self.preface = ProxyVersions::default();
    }

    /// Whether the application reads the rest of the body by itself.
    pub(super) fn body_streams(&self, config: &EngineConfig) -> bool {
        config.bodies.stream(self.head.body, self.waits_for_continue(), config.spool.allowance.streams())
    }

    /// Whether it would, were it not for others.
    pub(super) fn body_could_stream(&self, config: &EngineConfig) -> bool {
        config.bodies.stream(self.head.body, self.waits_for_continue(), 0)
    }

    /// The length of the body of the current request, where the client has said it.
    pub(super) fn body_length(&self) -> Option<u64> {
        match self.head.body {
            BodyFraming::Length(length) => Some(length),
            _ => None,
        }
    }

    /// What has come of the body of the current request.
    pub(super) fn spooled(&self) -> &Spool {
        &self.spool
    }

    /// Throws away what has come of the body of a request that was refused.
    pub(super) fn forget_body(&mut self) {
        self.spool = Spool::default();
        self.wait.stalled = false;
    }

    /// Whether the client waits for `100 Continue`, and has sent nothing of its body.
    fn waits_for_continue(&self) -> bool {
        self.head.expects_continue && self.spool.is_empty() && !self.has_more_input()
    }

    fn begin_body(&mut self, config: &EngineConfig, buffers: &mut Buffers) -> Result<(), Refusal> {
        if let BodyFraming::Length(length) = self.head.body
            && config.limit_request_body > 0
            && length > config.limit_request_body
        {
            self.phase = Phase::Body;
            return Err(Refusal::body_over_limit(config.limit_request_body));
        }
        self.phase = Phase::Body;
        let most = config.spool.allowance.most();
        if let BodyFraming::Length(length) = self.head.body
            && most > 0
            && length > most.max(config.spool.memory as u64)
            && !config.bodies.may_stream()
        {
            return Err(Refusal::body_over_files(most));
        }
        self.decoder = Some(BodyDecoder::new(self.head.body));
        if self.waits_for_continue() && !self.body_streams(config) {
            let output = self.response.output();
            output.lend_buffer(|| buffers.take());
            output.tail().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.head.expects_continue = false;
            // Whatever doesn't go now goes with the engine's next turn; a failure shows when we read.
            let _ = self.transport_flush();
        }
        Ok(())
    }

    fn transport_flush(&mut self) -> std::io::Result<super::Flushed> {
        let transport = Arc::clone(&self.transport);
        self.response.output().flush(&transport)
    }

    fn decode(&mut self, config: &EngineConfig) -> Result<bool, Refusal> {
        let Some(decoder) = &mut self.decoder else { return Ok(true) };
        let encoded = self.input.get(self.used..).unwrap_or(&[]);
        let (spool, limits, most) = (&mut self.spool, &config.spool, config.limit_request_body);
        let mut failure = None;
        let mut sink = |piece: &[u8]| {
            if failure.is_some() {
                return;
            }
            if most > 0 && spool.len() + piece.len() as u64 > most {
                failure = Some(Refusal::body_over_limit(most));
            } else if let Err(error) = spool.write(piece, limits) {
                failure = Some(cannot_keep(&error, limits));
            }
        };
        let decoded = decoder.decode(encoded, &config.policy, &mut sink)?;
        if let Some(refusal) = failure {
            return Err(refusal);
        }
        self.used += decoded.consumed;
        if !decoded.done {
            // The head stays where it is; what was decoded makes room for what comes.
            self.input.drain(self.begin + self.head.len..self.used);
            self.used = self.begin + self.head.len;
        }
        Ok(decoded.done)
    }

    fn complete(
        &mut self,
        config: &EngineConfig,
        buffers: &mut Buffers,
        now: Instant,
    ) -> Result<bool, Refusal> {
        self.decoder = None;
        let mut spool = std::mem::take(&mut self.spool);
        spool.rewind().map_err(|error| cannot_keep(&error, &config.spool))?;
        self.body = Body::buffered(spool);
        self.whole = true;
        self.hand_on(config, buffers, now);
        Ok(true)
    }

    /// The head is complete, and the application reads the body while it arrives.
    fn complete_head(
        &mut self,
        config: &EngineConfig,
        buffers: &mut Buffers,
        now: Instant,
    ) -> Result<bool, Refusal> {
        let Some(decoder) = self.decoder.take() else { return Ok(false) };
        let greet = self.waits_for_continue();
        let mut early = std::mem::take(&mut self.spool);
        early.rewind().map_err(|error| cannot_keep(&error, &config.spool))?;
        let beginning = Beginning { decoder, greet, early, length: self.body_length() };
        let upload = Arc::new(Upload::new(&self.transport, beginning, config));
        self.body = Body::arriving(Arc::clone(&upload));
        self.hand_on(config, buffers, now);
        self.response.set_upload(Arc::clone(&upload));
        self.upload = Some(upload);
        Ok(true)
    }

    /// From here on the request is the application's.
    fn hand_on(&mut self, config: &EngineConfig, buffers: &mut Buffers, now: Instant) {
        self.phase = Phase::Ready;
        self.started = now;
        let bytes = self.input.get(self.begin..).unwrap_or(&[]);
        let (method, path) = (self.head.method.of(bytes), self.head.path.of(bytes));
        tracing::debug!("{} {}", String::from_utf8_lossy(method), String::from_utf8_lossy(path));
        let circumstances = Circumstances {
            version: self.head.version,
            head_request: method == b"HEAD",
            keep_alive: self.head.keep_alive && !config.keepalive.is_zero(),
            known_length: None,
        };
        self.response.reset(&self.transport, config, circumstances);
        self.response.output().lend_buffer(|| buffers.take());
    }

    /// Whether the application reads the body of the current request while it arrives.
    pub(crate) fn has_upload(&self) -> bool {
        self.upload.is_some()
    }

    /// The client has paused for too long while it sends the body.
    pub(crate) fn time_out_upload(&self) {
        if let Some(upload) = &self.upload {
            upload.time_out();
        }
    }

    /// Why the body of the current request can't arrive any more.
    pub(crate) fn upload_failure(&self) -> Option<Failure> {
        self.upload.as_ref().and_then(|upload| upload.failure())
    }

    /// Ends the application's reading of the body. Whether the connection can go on, were it for that.
    pub(crate) fn end_upload(&mut self) -> bool {
        let Some(upload) = self.upload.take() else { return true };
        // Somebody else has read meanwhile: what our poller has told says nothing.
        self.readable = true;
        match upload.end() {
            Remains::Nothing(mut behind) => {
                self.whole = true;
                self.input.append(&mut behind);
                true
            }
            Remains::Unread(decoder, left) => {
                self.decoder = Some(decoder);
                self.skippable = WORTH_SKIPPING;
                left.is_none_or(|left| left <= WORTH_SKIPPING)
            }
            Remains::Spoilt => false,
        }
    }

    /// Throws away what is left of a body; false if that isn't worth it any more.
    fn skip(&mut self, config: &EngineConfig) -> bool {
        let Some(decoder) = &mut self.decoder else { return false };
        let bytes = self.input.get(self.begin..).unwrap_or(&[]);
        let Ok(decoded) = decoder.decode(bytes, &config.policy, &mut |_| {}) else { return false };
        let consumed = decoded.consumed as u64;
        if consumed > self.skippable {
            return false;
        }
        self.skippable -= consumed;
        self.begin += decoded.consumed;
        if self.begin == self.input.len() {
            self.input.clear();
            self.begin = 0;
        }
        self.used = self.begin;
        if decoded.done {
            self.decoder = None;
            self.phase = Phase::Head;
            self.deadline = None;
        }
        true
    }

    /// Forgets the request that was answered, for the next one.
    pub(crate) fn next_request(&mut self, buffers: &mut Buffers) {
        self.served += 1;
        self.phase = if self.decoder.is_some() { Phase::Skipping } else { Phase::Head };
        self.whole = false;
        self.begun = false;
        self.page = false;
        self.begin = self.used;
        self.body = Body::default();
        self.in_place = 0..0;
        if self.begin == self.input.len() {
            self.input.clear();
            self.begin = 0;
            self.used = 0;
        } else if self.begin >= READ_SIZE {
            self.input.drain(..self.begin);
            self.begin = 0;
            self.used = 0;
        }
        if let Some(buffer) = self.response.output().take_buffer() {
            buffers.give_back(buffer);
        }
    }

    /// An idle connection keeps no buffer.
    fn give_back_input(&mut self, buffers: &mut Buffers) {
        if self.is_idle() && self.input.capacity() > 0 {
            self.begin = 0;
            self.used = 0;
            buffers.give_back(std::mem::take(&mut self.input));
        }
    }

    /// From here on the connection carries something else than HTTP, and most of the time nothing: it keeps no more than it
    /// must.
    pub(crate) fn upgrade(&mut self) {
        self.upgraded = true;
        self.input.shrink_to_fit();
    }

    /// Takes bytes of an upgraded connection: those that came behind the request first, then what the socket has, until
    /// `into` has about `most`. False at the end of what the client sends.
    pub(crate) fn take_upgraded(&mut self, into: &mut Vec<u8>, most: usize) -> std::io::Result<bool> {
        if self.has_more_input() {
            into.extend_from_slice(self.input.get(self.used..).unwrap_or(&[]));
            self.input.truncate(self.used);
        }
        while self.readable && into.len() < most {
            into.reserve(READ_SIZE);
            let offered = into.capacity() - into.len();
            match self.transport.read(into)? {
                Moved::Some(count) => {
                    self.received += count as u64;
                    self.readable = count == offered || self.read_closed;
                }
                Moved::Blocked => self.readable = false,
                Moved::Closed => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Whether there is something for [`take_upgraded`](Self::take_upgraded), as far as we know.
    pub(crate) fn has_upgraded_input(&self) -> bool {
        self.upgraded && (self.readable || self.left_unread || self.has_more_input())
    }

    /// Throws away what the client still sends: [`Received::Gone`] once it has ended its side.
    pub(crate) fn drain(&mut self) -> Received {
        const READS: usize = 16;
        for _ in 0..READS {
            self.input.clear();
            self.input.reserve(READ_SIZE);
            match self.transport.read(&mut self.input) {
                Ok(Moved::Some(_)) => {}
                Ok(Moved::Blocked) => {
                    self.readable = false;
                    return Received::Nothing;
                }
                Ok(Moved::Closed) | Err(_) => return Received::Gone,
            }
        }
        Received::Again
    }
}
