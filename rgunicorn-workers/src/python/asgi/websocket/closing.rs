//! The end of a WebSocket: the closing handshake, and whether its client is still there.

use std::time::{Duration, Instant};

use pyo3::prelude::*;
use rgunicorn_core::websocket::code;

use super::super::lock;
use super::super::shared::Talk;
use super::{QUEUE, Stage, WebSocket};

/// How long a client may take for its part of the closing handshake.
const CLOSE: Duration = Duration::from_secs(10);

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
        // Timers may be a little early.
        lock(&this.state).close_by = Instant::now().checked_add(CLOSE - Duration::from_millis(100));
        this.shared.call_later(py, CLOSE.as_secs_f64(), slf.as_any());
    }

    /// The worker stops.
    pub(in super::super) fn stop(slf: &Bound<'_, Self>) {
        if lock(&slf.get().state).stage == Stage::Open {
            Self::begin_close(slf, code::RESTART, "");
        }
    }

    /// The connection is open: its client will be asked whether it is there, if the settings want that.
    pub(super) fn ask_later(slf: &Bound<'_, Self>) {
        let shared = &slf.get().shared;
        let (interval, _) = shared.ping_times();
        if !interval.is_zero() {
            shared.call_later(slf.py(), interval.as_secs_f64(), slf.as_any());
        }
    }

    /// Asks the client whether it is there.
    fn ask(&self, slf: &Bound<'_, Self>) {
        let py = slf.py();
        let Some(exchange) = self.take() else { return };
        let (interval, timeout) = self.shared.ping_times();
        {
            let mut state = lock(&self.state);
            state.codec.ping();
            (state.asked, state.answer_due) = (true, !timeout.is_zero());
        }
        self.go_on(py, exchange, true);
        let next = if timeout.is_zero() { interval } else { timeout };
        self.shared.call_later(py, next.as_secs_f64(), slf.as_any());
    }

    /// Time has passed: for a ping, or for the client's part of the closing handshake.
    pub(in super::super) fn ring(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        let (stage, missed, rest) = {
            let (interval, timeout) = this.shared.ping_times();
            let mut state = lock(&this.state);
            let was_due = std::mem::take(&mut state.answer_due);
            // Nobody reads what a client sends whose messages wait for the application: its answer may be among it.
            let missed = was_due && state.asked && state.queued < QUEUE;
            (state.stage, missed, if was_due { interval.saturating_sub(timeout) } else { Duration::ZERO })
        };
        match stage {
            Stage::Open if !missed && !rest.is_zero() => {
                this.shared.call_later(py, rest.as_secs_f64(), slf.as_any());
            }
            Stage::Open if !missed => this.ask(slf),
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
            // It was for a ping.
            Stage::Closing if lock(&this.state).close_by.is_some_and(|by| Instant::now() < by) => {}
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
