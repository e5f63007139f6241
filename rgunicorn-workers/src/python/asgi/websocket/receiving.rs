//! What a client sends, on its way to the application.

use std::collections::VecDeque;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use rgunicorn_core::engine::Exchange;
use rgunicorn_core::websocket::Event;

use super::super::lock;
use super::super::receive::{Answer, Asking, Source};
use super::super::shared::{Shared, wake};
use super::{Stage, State, WebSocket};

/// How much may wait for `receive` before the client has to.
const QUEUE: usize = 256 * 1024;
/// What a message costs besides its payload, so that those without one don't come for nothing: rather more than it takes up
/// here, as much as it takes to make a dictionary of it.
const MESSAGE: usize = 256;
/// How much is read from one client before others have their turn.
const READ: usize = 256 * 1024;
/// How often the end is told to those who haven't waited for it.
const TELLINGS: u8 = 2;

/// Messages that wait for `receive`, and what they cost.
#[derive(Default)]
pub(super) struct Inbox {
    messages: VecDeque<Event>,
    size: usize,
}

impl Inbox {
    pub(super) fn has_room(&self) -> bool {
        self.size < QUEUE
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn push(&mut self, message: Event) {
        self.size += MESSAGE + payload(&message);
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> Option<Event> {
        let message = self.messages.pop_front()?;
        self.size -= MESSAGE + payload(&message);
        if self.messages.is_empty() {
            // One that once was long is not to stay large.
            self.messages.shrink_to(8);
        }
        Some(message)
    }
}

fn payload(message: &Event) -> usize {
    match message {
        Event::Text(text) => text.len(),
        Event::Binary(bytes) => bytes.len(),
        Event::End { .. } => 0,
    }
}

impl State {
    /// Takes in what the client has sent, as far as there is room for it; whether there may be more.
    fn hear(&mut self) -> bool {
        while self.stage != Stage::Open || self.inbox.has_room() {
            match self.codec.next() {
                None => return false,
                Some(Event::End { code, reason }) => self.end(code, &reason),
                // Nobody listens any more.
                Some(_) if self.stage != Stage::Open => {}
                Some(message) => self.inbox.push(message),
            }
        }
        true
    }
}

impl WebSocket {
    /// Reads what the client has sent; false at its end.
    pub(super) fn read(&self, exchange: &mut Exchange) -> bool {
        let mut bytes = std::mem::take(lock(&self.state).codec.receive());
        if bytes.is_empty() {
            bytes = std::mem::take(&mut *lock(&self.shared.buffer));
        }
        let open = matches!(exchange.read(&mut bytes, READ), Ok(true));
        let mut state = lock(&self.state);
        *state.codec.receive() = bytes;
        state.asked = false;
        // Where it is the application that must make room, we are called again once it has.
        let more = state.hear();
        exchange.leave_unread(more);
        if let Some(buffer) = state.codec.take_buffer() {
            *lock(&self.shared.buffer) = buffer;
        }
        open || more
    }

    /// Tells those who wait in `receive` what there is.
    pub(super) fn tell(&self, py: Python<'_>) {
        let ends = lock(&self.state).told.is_some();
        self.wake(py);
        while ends && !lock(&self.state).receivers.is_empty() {
            self.wake(py);
        }
    }
}

impl Source for WebSocket {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn ask<'py>(&self, py: Python<'py>, asking: Asking) -> PyResult<Answer<'py>> {
        let mut state = lock(&self.state);
        if asking == Asking::AtOnce && !state.allowance.pays(0) {
            return Ok(Answer::Pause);
        }
        let kind = intern!(py, "type");
        if !std::mem::replace(&mut state.connected, true) {
            drop(state);
            let message = PyDict::new(py);
            message.set_item(kind, intern!(py, "websocket.connect"))?;
            return Ok(Answer::Message(message.into_any()));
        }
        if let Some(event) = state.inbox.pop() {
            state.allowance.charge(payload(&event));
            let others = !state.inbox.is_empty() && !state.receivers.is_empty();
            drop(state);
            if others {
                self.wake(py);
            }
            let message = PyDict::new(py);
            message.set_item(kind, intern!(py, "websocket.receive"))?;
            match event {
                Event::Text(text) => message.set_item(intern!(py, "text"), text)?,
                Event::Binary(bytes) => message.set_item(intern!(py, "bytes"), PyBytes::new(py, &bytes))?,
                Event::End { .. } => {}
            }
            return Ok(Answer::Message(message.into_any()));
        }
        let Some((code, reason)) = state.told.clone() else { return Ok(Answer::Wait) };
        // Who has waited for it is always told: there may be many.
        if asking != Asking::AfterWait && state.tellings >= TELLINGS {
            return Ok(Answer::WaitInVain);
        }
        state.tellings = state.tellings.saturating_add(1);
        drop(state);
        let message = PyDict::new(py);
        message.set_item(kind, intern!(py, "websocket.disconnect"))?;
        message.set_item(intern!(py, "code"), code)?;
        message.set_item(intern!(py, "reason"), reason)?;
        Ok(Answer::Message(message.into_any()))
    }

    fn enlist(slf: &Bound<'_, Self>, future: Py<PyAny>, in_vain: bool) -> PyResult<()> {
        let this = slf.get();
        {
            let mut state = lock(&this.state);
            state.receivers.add(future);
            state.allowance.renew();
        }
        if in_vain {
            Self::wait_in_vain(slf);
        } else if !lock(&this.driver).stepping
            && let Some(exchange) = this.take()
        {
            // The client may have been made to wait until there was somebody to listen.
            this.park(slf.py(), exchange);
        }
        Ok(())
    }

    fn delist(&self, future: &Py<PyAny>) -> bool {
        lock(&self.state).receivers.remove(future)
    }

    fn wake(&self, py: Python<'_>) {
        loop {
            let next = {
                let mut state = lock(&self.state);
                let news = !state.inbox.is_empty() || state.told.is_some();
                if news { state.receivers.next() } else { None }
            };
            let Some(future) = next else { return };
            if wake(py, &future) {
                return;
            }
        }
    }
}
