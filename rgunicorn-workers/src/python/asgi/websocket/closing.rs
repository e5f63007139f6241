//! The end of a WebSocket: the closing handshake, and whether its client is still there.

use pyo3::prelude::*;
use rgunicorn_core::websocket::code;

use super::super::lock;
use super::super::server::Talk;
use super::{Stage, WebSocket};

/// How often a client is asked whether it is there, and how long it may take to answer: in seconds.
pub(super) const PING: f64 = 20.0;
/// How long a client may take for its part of the closing handshake, in seconds.
const CLOSE: f64 = 10.0;

impl WebSocket {
    /// Begins the closing handshake, and gives the client its time for it.
    pub(super) fn begin_close(slf: &Bound<'_, Self>, code: u16, reason: &str) {
        let py = slf.py();
        let this = slf.get();
        let Some(exchange) = this.take() else { return };
        {
            let mut state = lock(&this.state);
            state.codec.close(code, reason);
            state.stage = Stage::Closing;
            state.told.get_or_insert_with(|| (code, reason.into()));
        }
        this.go_on(py, exchange, true);
        this.shared.remember(this.ticket, Talk::WebSocket(slf.clone().unbind()));
        this.shared.call_later(py, CLOSE, slf.as_any());
    }

    /// The worker stops.
    pub(in super::super) fn stop(slf: &Bound<'_, Self>) {
        if lock(&slf.get().state).stage == Stage::Open {
            Self::begin_close(slf, code::RESTART, "");
        }
    }

    /// Time has passed: for a ping, or for the client's part of the closing handshake.
    pub(in super::super) fn ring(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        let (stage, alive) = {
            let mut state = lock(&this.state);
            (state.stage, std::mem::take(&mut state.alive))
        };
        match stage {
            Stage::Open if alive => {
                if let Some(exchange) = this.take() {
                    lock(&this.state).codec.ping();
                    this.go_on(py, exchange, true);
                    this.shared.call_later(py, PING, slf.as_any());
                }
            }
            Stage::Open => {
                if let Some(exchange) = this.take() {
                    let mut state = lock(&this.state);
                    let reason = "keepalive ping timeout";
                    state.codec.close(code::INTERNAL_ERROR, reason);
                    state.end(code::INTERNAL_ERROR, reason);
                    drop(state);
                    this.go_on(py, exchange, true);
                }
            }
            Stage::Closing => {
                if let Some(exchange) = this.take() {
                    lock(&this.state).end(code::ABNORMAL, "");
                    this.go_on(py, exchange, true);
                }
            }
            _ => {}
        }
    }
}
