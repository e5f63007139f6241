//! The application's answer to the handshake: a WebSocket, a refusal, or a response of its own.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;
use rgunicorn_core::app::Response;
use rgunicorn_core::engine::Exchange;
use rgunicorn_core::websocket::code;

use super::super::cycle::{begin, refused};
use super::super::lock;
use super::super::message::{Message, for_each_header};
use super::super::shared::Talk;
use super::{Stage, WebSocket};

/// Whether a header is part of what is answered to the handshake: each of those is there once.
fn is_ours(name: &[u8], subprotocol: bool) -> bool {
    let is = |ours: &[u8]| name.eq_ignore_ascii_case(ours);
    is(b"sec-websocket-accept")
        || is(b"sec-websocket-extensions")
        || (subprotocol && is(b"sec-websocket-protocol"))
}

impl WebSocket {
    /// The application answers the handshake.
    pub(super) fn answer(
        slf: &Bound<'_, Self>,
        mut exchange: Exchange,
        message: &Message<'_, '_>,
    ) -> Result<(), (PyErr, Exchange)> {
        let this = slf.get();
        let py = slf.py();
        let answered = match message.kind() {
            Ok("websocket.accept") => this.accept(py, exchange.response(), message).map(|()| Stage::Open),
            Ok("websocket.close") => {
                let response = exchange.response();
                let denied = response.start(b"403 Forbidden").and_then(|()| response.send(b""));
                denied.map_err(refused).map(|()| Stage::Closed)
            }
            Ok("websocket.http.response.start") => {
                begin(py, &this.shared, exchange.response(), message).map(|()| Stage::Rejecting)
            }
            Ok(kind) => Err(PyRuntimeError::new_err(format!(
                "unexpected message {kind:?}: 'websocket.accept', 'websocket.close' or \
                 'websocket.http.response.start' was expected"
            ))),
            Err(error) => Err(error),
        };
        match answered {
            Err(error) => {
                exchange.response().take_back();
                Err((error, exchange))
            }
            Ok(Stage::Closed) => {
                lock(&this.state).end(code::ABNORMAL, "");
                exchange.conclude();
                Self::close(slf, exchange);
                Ok(())
            }
            Ok(Stage::Open) => {
                lock(&this.state).stage = Stage::Open;
                exchange.upgrade();
                let sent = exchange.flush().is_ok();
                Self::go_on(slf, exchange, sent);
                Self::opened(slf);
                Ok(())
            }
            Ok(stage) => {
                lock(&this.state).stage = stage;
                this.put_back(py, exchange);
                Ok(())
            }
        }
    }

    /// Messages go both ways from now on.
    fn opened(slf: &Bound<'_, Self>) {
        let this = slf.get();
        if lock(&this.state).stage != Stage::Open {
            return;
        }
        this.shared.remember(this.ticket, Talk::WebSocket(slf.clone().unbind()));
        if this.shared.turns.is_leaving() {
            // The others were told when the stop began.
            Self::stop(slf);
        } else {
            Self::ask_later(slf);
        }
    }

    fn accept(&self, py: Python<'_>, response: &mut Response, message: &Message<'_, '_>) -> PyResult<()> {
        let (accept, deflate) = {
            let state = lock(&self.state);
            (state.accept.clone(), state.deflate)
        };
        response.start(b"101 Switching Protocols").map_err(refused)?;
        let mut header = |name: &[u8], value: &[u8]| response.header(name, value).map_err(refused);
        header(b"Upgrade", b"websocket")?;
        header(b"Connection", b"Upgrade")?;
        header(b"Sec-WebSocket-Accept", accept.as_bytes())?;
        if let Some(agreement) = deflate {
            header(b"Sec-WebSocket-Extensions", agreement.header().as_bytes())?;
        }
        let mut named = false;
        if let Some(subprotocol) = message.get(intern!(py, "subprotocol"))? {
            header(b"Sec-WebSocket-Protocol", subprotocol.cast_into::<PyString>()?.to_cow()?.as_bytes())?;
            named = true;
        }
        if let Some(headers) = message.get(intern!(py, "headers"))? {
            for_each_header(
                &headers,
                |name, value| if is_ours(name, named) { Ok(()) } else { header(name, value) },
            )?;
        }
        response.push(b"").map_err(refused)
    }

    /// A piece of the body of an ordinary response.
    pub(super) fn reject_body(
        slf: &Bound<'_, Self>,
        mut exchange: Exchange,
        message: &Message<'_, '_>,
    ) -> Result<(), (PyErr, Exchange)> {
        let py = slf.py();
        let this = slf.get();
        let mut add = || {
            if message.kind()? != "websocket.http.response.body" {
                return Err(PyRuntimeError::new_err("'websocket.http.response.body' was expected"));
            }
            let body = message.bytes(intern!(py, "body"))?;
            let more = message.flag(intern!(py, "more_body"))?;
            let bytes = body.as_ref().map_or(&b""[..], |body| body.as_bytes());
            let response = exchange.response();
            let added = match more || response.head_sent() {
                true => response.push(bytes),
                false => response.send(bytes),
            };
            added.and_then(|()| if more { Ok(()) } else { response.end_body() }).map_err(refused)?;
            Ok(more)
        };
        match add() {
            Err(error) => Err((error, exchange)),
            Ok(true) => {
                // That the client is gone shows again.
                let _ = exchange.flush();
                this.put_back(py, exchange);
                Ok(())
            }
            Ok(false) => {
                lock(&this.state).end(code::ABNORMAL, "");
                exchange.conclude();
                Self::close(slf, exchange);
                Ok(())
            }
        }
    }
}
