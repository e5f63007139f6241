//! Exchanges whose application goes on by itself: a task of an event loop, which is called once and says what it has to
//! say when it has it.
//!
//! A class that runs such applications [takes](Engine::next) an exchange, [begins](Exchange::begin) it, and
//! [parks](Engine::park) it when the application waits for something. A parked exchange is the engine's: what was
//! produced goes out as the client takes it, within its deadline. When the application has more to say the class
//! [takes it again](Engine::retake) by its ticket; when something has happened that the application must know,
//! [`Engine::next`] hands it out with the [`Occasion`].

use std::net::SocketAddr;

use super::connection::{Connection, Phase};
use super::exchange::{self, Exchange, Outcome};
use super::{Engine, Flushed};
use crate::app::{AppError, Request, Response, ServerAddress};
use crate::http::Refusal;

/// Names an exchange while it is parked. It never names another one, not even on the same connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    key: usize,
    serial: u64,
    request: u64,
}

/// Why [`Engine::next`] has handed out an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// A request waits for its application.
    Request,
    /// Nothing but [`Exchange::advance`] is needed.
    Pull,
    /// The client has taken what it was sent: there is room for more.
    Room,
    /// There are bytes to be read: of the request's body, or of an upgraded connection.
    Bytes,
    /// The client has ended its side. It may still read.
    Left,
    /// The connection is of no more use.
    Gone,
}

/// What the application of a parked exchange is to be told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Parked {
    wants_room: bool,
    wants_bytes: bool,
    /// It knows that the client has ended its side.
    knows_left: bool,
}

impl Connection {
    /// Whether something has happened that the application of a parked exchange must know. What was produced is all in
    /// the kernel.
    pub(super) fn has_news(&self) -> bool {
        self.parked.is_some_and(|parked| {
            parked.wants_room
                || (parked.wants_bytes && self.has_bytes())
                || (self.read_closed && !parked.knows_left)
        })
    }

    /// Whether there may be bytes that the application reads by itself.
    fn has_bytes(&self) -> bool {
        self.has_upgraded_input() || (self.has_upload() && self.readable)
    }

    /// Whether the application of a parked exchange waits for the request's body.
    fn awaits_body(&self) -> bool {
        self.has_upload() && self.parked.is_some_and(|parked| parked.wants_bytes)
    }
}

impl Exchange {
    /// Why it was handed out. The same [`Occasion::Left`] is told once.
    pub fn occasion(&mut self) -> Occasion {
        let connection = &mut *self.connection;
        match (connection.phase, connection.parked) {
            (Phase::Ready, _) => Occasion::Request,
            (Phase::Responding, None) => Occasion::Pull,
            (Phase::Responding, Some(parked)) => {
                let wants_bytes = parked.wants_bytes;
                if wants_bytes && connection.has_bytes() {
                    // A body is read until there is nothing left to be read.
                    connection.readable &= connection.upgraded;
                    return Occasion::Bytes;
                }
                let Some(parked) = &mut connection.parked else { return Occasion::Pull };
                if connection.read_closed && !parked.knows_left {
                    parked.knows_left = true;
                    return Occasion::Left;
                }
                Occasion::Room
            }
            _ => Occasion::Gone,
        }
    }

    /// Its name, for [`Engine::retake`].
    pub fn ticket(&self) -> Ticket {
        Ticket { key: self.key, serial: self.connection.serial, request: self.connection.served }
    }

    /// Begins with the request, in place of [`advance`](Self::advance). If not, the exchange is to be given back: it comes
    /// again.
    pub fn begin(&mut self) -> bool {
        self.outcome = Outcome::Broken;
        // The application may wait for the client, which must not wait for the answers before this one.
        if self.connection.has_upload() {
            match self.connection.response.flush() {
                Ok(Flushed::Everything) => {}
                Ok(Flushed::Blocked) => {
                    self.outcome = Outcome::Blocked;
                    return false;
                }
                Err(_) => return false,
            }
        }
        self.connection.phase = Phase::Responding;
        true
    }

    /// The request, and its response so far.
    pub fn lend(&mut self) -> (Request<'_>, &mut Response) {
        self.connection.lend()
    }

    /// The response so far.
    pub fn response(&mut self) -> &mut Response {
        &mut self.connection.response
    }

    /// Sends what the client takes of the output now; says whether that is all of it.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn flush(&mut self) -> Result<bool, AppError> {
        match self.connection.response.flush() {
            Ok(flushed) => Ok(flushed == Flushed::Everything),
            Err(error) => {
                tracing::debug!("Ignoring a client that went away: {error}");
                self.connection.response.abandon();
                Err(AppError::Disconnected)
            }
        }
    }

    /// The response has its end: sends it. The exchange is to be given back then.
    pub fn conclude(&mut self) {
        if self.may_gather() {
            self.outcome = Outcome::Complete;
        } else if self.may_hold() {
            self.outcome = Outcome::Held;
        } else {
            // No body is pulled: there is no application whose exit it could be.
            let _ = self.drive();
        }
    }

    /// The application has failed: logs it and answers 500, or gives up what was begun. The exchange is to be given back
    /// then.
    pub fn fail(&mut self, error: AppError) {
        let begun = self.connection.response.head_sent();
        // The exit status is known to the one who has the error.
        let _ = exchange::fail(&mut self.connection, error);
        // Too late for an answer, or nobody there to be answered.
        if begun || !self.connection.response.head_sent() {
            self.outcome = Outcome::Broken;
        } else {
            self.conclude();
        }
    }

    /// Answers in the application's place that the request can't be accepted. The exchange is to be given back then.
    pub fn refuse(&mut self, refusal: &Refusal) {
        tracing::warn!("Invalid request from ip={}: {refusal}", self.connection.peer().address());
        self.connection.response.refuse(refusal);
        self.conclude();
    }

    /// Gives up what was not sent. The exchange is to be given back then, and the connection is closed.
    pub fn abandon(&mut self) {
        self.connection.response.abandon();
        self.outcome = Outcome::Broken;
    }

    /// From here on the connection carries something else than HTTP: bytes are taken by [`read`](Self::read) and
    /// [pushed](Response::push) as they are. The head is to be sent by then.
    pub fn upgrade(&mut self) {
        self.connection.upgrade();
    }

    /// Says whether bytes that were [read](Self::read) are still to be looked at: [`Occasion::Bytes`] is then told again, to who
    /// wants to know.
    pub fn leave_unread(&mut self, some: bool) {
        self.connection.left_unread = some;
    }

    /// The client may not know that its connection ends, and still be sending: it is listened to for a while, so that it can
    /// read our last words. The exchange is to be concluded then.
    pub fn linger(&mut self) {
        self.connection.lingers = true;
    }

    /// Takes bytes of an upgraded connection, until `into` has about `most`; false at the end of what the client sends.
    ///
    /// # Errors
    /// When the connection has failed.
    pub fn read(&mut self, into: &mut Vec<u8>, most: usize) -> Result<bool, AppError> {
        self.connection.take_upgraded(into, most).map_err(|_| AppError::Disconnected)
    }

    /// Our end of the connection as the kernel knows it, where the listener's address doesn't say (`0.0.0.0`).
    pub fn local_address(&self) -> Option<SocketAddr> {
        let anywhere = matches!(self.connection.server(), ServerAddress::Tcp(at) if at.ip().is_unspecified());
        anywhere.then(|| self.connection.transport.local_address()).flatten()
    }
}

/// What the application of an exchange that is about to be parked wants to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// When the client has taken all that it was sent.
    pub room: bool,
    /// When there are bytes to be read.
    pub bytes: bool,
}

impl Engine {
    /// Takes back an exchange whose application goes on by itself.
    pub fn park(&mut self, mut exchange: Exchange, wants: Wants) {
        if exchange.connection.upgraded {
            exchange.connection.response.output().trim();
        }
        let knows_left = exchange.connection.parked.is_some_and(|parked| parked.knows_left);
        exchange.connection.parked =
            Some(Parked { wants_room: wants.room, wants_bytes: wants.bytes, knows_left });
        exchange.outcome = Outcome::Parked;
        self.give_back(exchange);
    }

    /// Takes a parked exchange again; none if its client is gone.
    pub fn retake(&mut self, ticket: Ticket) -> Option<Exchange> {
        let ends = self.ends_connections();
        let place = self.places.get_mut(ticket.key)?;
        let names = |connection: &mut Box<Connection>| {
            connection.serial == ticket.serial
                && connection.served == ticket.request
                && connection.phase == Phase::Responding
                && connection.parked.is_some()
        };
        let mut connection = place.connection.take_if(names)?;
        // It may wait for its application to be told something: what that is, is told once it is parked again.
        connection.queued = false;
        if ends {
            connection.response.end_connection();
        }
        Some(Exchange { key: ticket.key, connection, outcome: Outcome::Broken, holding: false })
    }

    /// Gets on with an exchange that was parked just now.
    pub(super) fn rest(&mut self, key: usize, writable: bool) {
        let Some(connection) = self.connection(key) else { return };
        if connection.response.output().is_empty() || writable {
            self.progress(key);
        } else {
            self.wait_for_room(key);
        }
        let timeout = self.config.client_body_timeout;
        let silent = |connection: &&mut Connection| {
            connection.awaits_body() && !connection.queued && connection.deadline.is_none()
        };
        if self.connection(key).as_ref().is_some_and(silent) {
            self.expect_by(key, timeout);
        }
    }

    /// The client of a parked exchange has let its time pass. Whether there is something left for it than to be cut off:
    /// where the application waits for a body, it is for the application to answer.
    pub(super) fn end_waiting(&mut self, key: usize) -> bool {
        let Some(connection) = self.connection(key) else { return false };
        if !connection.awaits_body() || !connection.response.output().is_empty() {
            return false;
        }
        connection.time_out_upload();
        connection.readable = true;
        self.enqueue(key);
        true
    }
}
