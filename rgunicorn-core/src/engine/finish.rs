//! What happens when a response is out, or can't be: access log, keep-alive, close.

use super::connection::{Connection, Phase};
use super::{Engine, FAREWELL, LINGER};
use crate::log::{AccessLog, AccessRecord, RequestLine};

impl Engine {
    /// A response is complete: logs it, and goes on with the next request or closes.
    pub(super) fn finish(&mut self, key: usize) {
        if self.connection(key).is_some_and(|connection| !connection.page) {
            self.requests += 1;
            self.log(key);
        }
        let now = self.now;
        let Some(connection) = self.places.get_mut(key).and_then(|place| place.connection.as_mut()) else {
            return;
        };
        let status = connection.response.status();
        self.tally.end(connection, status, now);
        if let Some(statsd) = self.statsd.as_mut().filter(|_| !connection.page) {
            statsd.request(status, now.saturating_duration_since(connection.started));
        }
        complain(connection);
        let can_go_on = connection.end_upload();
        // Also when draining: a client that was told that it may send another request has a moment for it.
        if can_go_on && connection.response.leaves_connection_usable() {
            connection.next_request(&mut self.buffers);
            // The next of several pipelined requests is answered before anything is sent: one write for all.
            if connection.has_more_input() {
                self.parse_next(key);
            }
        } else {
            connection.phase = Phase::Closing;
        }
        self.progress(key);
    }

    /// The output is empty and nothing more will come: says so to the client. A client that is still sending is
    /// listened to for a while, for closing on unread bytes would be a reset that can overtake our last words
    /// (RFC 9112 section 9.6).
    pub(super) fn linger(&mut self, key: usize) {
        let Some(connection) = self.connection(key) else { return };
        if (!connection.shared && !connection.lingers && connection.has_been_read())
            || connection.transport.finish_writing().is_err()
        {
            return self.close(key);
        }
        connection.phase = Phase::Lingering;
        self.expect_by(key, LINGER);
    }

    /// Ends a connection that is idle, as it seems: what came in the last moment is answered. Should a request cross our end of
    /// the connection on its way, its client finds that the connection was closed before, and not that it was reset.
    pub(super) fn part(&mut self, key: usize) {
        let Some(connection) = self.connection(key) else { return };
        connection.readable = true;
        connection.deadline = None;
        self.progress(key);
        let Some(connection) = self.connection(key).filter(|connection| connection.is_idle()) else { return };
        if connection.transport.finish_writing().is_err() {
            return self.close(key);
        }
        connection.phase = Phase::Lingering;
        self.expect_by(key, FAREWELL);
    }

    /// The connection is of no more use. What it holds of the application's goes back to it first.
    pub(super) fn abort(&mut self, key: usize) {
        let Some(connection) = self.connection(key) else { return };
        let called = connection.phase == Phase::Responding && !connection.page;
        if called {
            connection.phase = Phase::Closing;
            if connection.response.ends_with_connection() {
                connection.transport.reset_on_close();
            }
            let begun = connection.response.head_sent();
            let status = if begun { connection.response.status() } else { 0 };
            if begun {
                self.log(key);
            }
            let now = self.now;
            if let Some(connection) = self.places.get_mut(key).and_then(|place| place.connection.as_mut()) {
                self.tally.end(connection, status, now);
            }
        }
        self.requests += u64::from(called);
        let Some(connection) = self.connection(key) else { return };
        if connection.response.holds_application() || connection.parked.is_some() {
            self.enqueue(key);
        } else {
            self.close(key);
        }
    }

    /// Closes and forgets a connection.
    pub(super) fn close(&mut self, key: usize) {
        let place = self.places.try_remove(key);
        if let Some(mut connection) = place.and_then(|place| place.connection) {
            self.forget_parting(&connection);
            self.tally.forget(&mut connection, self.now);
            self.tally.slot().set_connections(self.places.len());
            self.let_go(&mut connection);
        }
        self.make_room();
    }

    /// Ends the connection though somebody else may have its socket. Where nobody has, closing the descriptor does.
    fn let_go(&self, connection: &mut Connection) {
        let lent = connection.has_upload() || connection.shared;
        connection.end_upload();
        if lent || connection.transport.is_inherited() {
            self.forget(connection);
            connection.transport.shut_down();
        }
    }

    /// Ends what there is, for a worker that ends: the engine itself may go on, in the hands of a thread or a coroutine that is in
    /// the application, and so may connections in those of a process that the application has forked.
    pub fn end(&mut self) {
        if let Some(access) = &mut self.access {
            access.flush();
        }
        let keys: Vec<usize> = self.places.iter().map(|(key, _)| key).collect();
        for key in keys {
            // Nothing is dropped: what connections hold of the application's is for the application to be called about.
            let Some(place) = self.places.get_mut(key) else { continue };
            let Some(mut connection) = place.connection.take() else { continue };
            self.let_go(&mut connection);
            if let Some(place) = self.places.get_mut(key) {
                place.connection = Some(connection);
            }
        }
    }

    fn log(&mut self, key: usize) {
        let Some(access) = &mut self.access else { return };
        let Some(connection) = self.places.get(key).and_then(|place| place.connection.as_deref()) else {
            return;
        };
        if connection.response.is_logged_elsewhere() {
            return;
        }
        write_record(access, connection, connection.response.status(), connection.response.body_bytes());
    }

    /// A refused request is in the access log if there is enough of it to say what was asked for.
    pub(super) fn log_refusal(&mut self, key: usize, status: u16) {
        self.tally.slot().count_refusal(status);
        let Some(access) = &mut self.access else { return };
        let Some(connection) = self.places.get(key).and_then(|place| place.connection.as_deref()) else {
            return;
        };
        if connection.head().is_some() {
            write_record(access, connection, status, 0);
        }
    }
}

fn write_record(access: &mut AccessLog, connection: &Connection, status: u16, sent: u64) {
    let Some((head, bytes)) = connection.head() else { return };
    let same = |name: &[u8], other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    access.log(&AccessRecord {
        remote_addr: connection.peer().address(),
        request: Some(RequestLine {
            method: head.method.of(bytes),
            target: head.target.of(bytes),
            path: head.path.of(bytes),
            query: head.query.of(bytes),
            version: head.version,
        }),
        status,
        sent,
        elapsed: connection.started.elapsed(),
        request_header: &|name| {
            let header = head.headers.iter().find(|header| same(header.name.of(bytes), name))?;
            Some(header.value.of(bytes))
        },
        response_header: &|name| {
            connection.response.headers().find(|(n, _)| same(n, name)).map(|(_, value)| value)
        },
        request_headers: &|show| {
            head.headers.iter().for_each(|header| show(header.name.of(bytes), header.value.of(bytes)));
        },
        response_headers: &|show| connection.response.headers().for_each(|(name, value)| show(name, value)),
        variables: connection.response.variables(),
    });
}

/// Says in the log where an application's body and its announced length disagree.
fn complain(connection: &Connection) {
    let response = &connection.response;
    let target = || {
        let text = |span: crate::http::Span, bytes| String::from_utf8_lossy(span.of(bytes)).into_owned();
        connection
            .head()
            .map(|(head, bytes)| format!("{} {}", text(head.method, bytes), text(head.target, bytes)))
    };
    if let Some(announced) = response.announced() {
        if response.is_short() {
            let target = target().unwrap_or_default();
            let sent = response.body_bytes();
            tracing::error!(
                "The response to {target} is shorter than its Content-Length: {sent} of {announced} bytes; \
                 closing the connection"
            );
        } else if response.surplus() > 0 {
            let target = target().unwrap_or_default();
            tracing::warn!(
                "The response to {target} is longer than its Content-Length of {announced} bytes; cut there"
            );
        }
    }
}
