//! The end of a WebSocket: the closing handshake, and whether its client is still there.

use std::time::Duration;

use pyo3::prelude::*;
use rgunicorn_core::websocket::code;

use super::super::lock;
use super::super::shared::{Talk, cancel};
use super::{Stage, WebSocket};

/// How long a client may take for its part of the closing handshake.
const CLOSE: Duration = Duration::from_secs(5);

impl WebSocket {
    /// Begins the closing handshake, and gives the client its time for it.
    pub(super) fn begin_close(slf: &Bound<'_, Self>, code: u16, reason: &str) {
        let this = slf.get();
        let Some(exchange) = this.take() else { return };
        {
            let mut state = lock(&this.state);
            state.codec.close(code, reason);
            state.stage = Stage::Closing;
            state.told.get_or_insert_with(|| (code, reason.into()));
        }
        Self::go_on(slf, exchange, true);
        if lock(&this.state).stage == Stage::Closing {
            this.shared.remember(this.ticket, Talk::WebSocket(slf.clone().unbind()));
            Self::set_timer(slf, CLOSE.as_secs_f64());
        }
    }

    /// The worker stops.
    pub(in super::super) fn stop(slf: &Bound<'_, Self>) {
        let (stage, in_vain) = {
            let state = lock(&slf.get().state);
            (state.stage, state.in_vain)
        };
        match stage {
            Stage::Open => Self::begin_close(slf, code::RESTART, ""),
            Stage::Closed if in_vain => slf.get().cancel(slf.py()),
            _ => {}
        }
    }

    /// The application goes on receiving, though it was told that nothing will come: its task has the time for it that one of a
    /// request has whose client has left.
    pub(super) fn wait_in_vain(slf: &Bound<'_, Self>) {
        let this = slf.get();
        let closed = {
            let mut state = lock(&this.state);
            state.in_vain = true;
            state.stage == Stage::Closed
        };
        if closed {
            Self::set_timer(slf, if this.shared.turns.is_leaving() { 0.0 } else { this.shared.grace() });
        }
    }

    /// Cancels the task of the application.
    fn cancel(&self, py: Python<'_>) {
        cancel(py, self.task(py));
    }

    /// Has [`ring`](Self::ring) called in so many seconds, and at no other time.
    fn set_timer(slf: &Bound<'_, Self>, seconds: f64) {
        let this = slf.get();
        this.stop_timer(slf.py());
        let timer = this.shared.call_later(slf.py(), seconds, slf.as_any());
        lock(&this.state).timer = timer;
    }

    pub(super) fn stop_timer(&self, py: Python<'_>) {
        let timer = lock(&self.state).timer.take();
        cancel(py, timer);
    }

    /// The client will be asked whether it is there, if the settings want that.
    pub(super) fn ask_later(slf: &Bound<'_, Self>) {
        let (interval, _) = slf.get().shared.ping_times();
        if !interval.is_zero() {
            Self::set_timer(slf, interval.as_secs_f64());
        }
    }

    /// Asks the client whether it is there.
    fn ask_whether_there(slf: &Bound<'_, Self>) {
        let this = slf.get();
        let Some(exchange) = this.take() else { return };
        let (interval, timeout) = this.shared.ping_times();
        {
            let mut state = lock(&this.state);
            state.codec.ping();
            (state.asked, state.answer_due) = (true, !timeout.is_zero());
        }
        Self::go_on(slf, exchange, true);
        if lock(&this.state).stage == Stage::Open {
            let next = if timeout.is_zero() { interval } else { timeout };
            Self::set_timer(slf, next.as_secs_f64());
        }
    }

    /// Time has passed: for a ping, for the client's part of the closing handshake, or for an application that waits in vain.
    pub(in super::super) fn ring(slf: &Bound<'_, Self>) {
        let this = slf.get();
        let (stage, in_vain, missed, rest) = {
            let (interval, timeout) = this.shared.ping_times();
            let mut state = lock(&this.state);
            state.timer = None;
            let was_due = std::mem::take(&mut state.answer_due);
            // Nobody reads what a client sends whose messages wait for the application: its answer may be among it.
            let missed = was_due && state.asked && state.inbox.has_room();
            let rest = if was_due { interval.saturating_sub(timeout) } else { Duration::ZERO };
            (state.stage, state.in_vain, missed, rest)
        };
        match stage {
            Stage::Open if !missed && !rest.is_zero() => Self::set_timer(slf, rest.as_secs_f64()),
            Stage::Open if !missed => Self::ask_whether_there(slf),
            Stage::Open => {
                if let Some(exchange) = this.take() {
                    let mut state = lock(&this.state);
                    let reason = "keepalive ping timeout";
                    state.codec.close(code::INTERNAL_ERROR, reason);
                    state.end(code::INTERNAL_ERROR, reason);
                    drop(state);
                    Self::go_on(slf, exchange, true);
                }
            }
            Stage::Closing => {
                if let Some(mut exchange) = this.take() {
                    {
                        let mut state = lock(&this.state);
                        state.late = true;
                        state.end(code::ABNORMAL, "");
                    }
                    // One that doesn't take what it was sent has the time for that, unless the worker waits for it.
                    let worth_it = exchange.response().waiting() == 0 || !this.shared.turns.is_leaving();
                    Self::go_on(slf, exchange, worth_it);
                }
            }
            Stage::Closed if in_vain => this.cancel(slf.py()),
            _ => {}
        }
    }
}
