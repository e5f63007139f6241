//! The request's body, as `receive` passes it on.

use std::io::ErrorKind;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use rgunicorn_core::app::Body;

use super::super::lock;
use super::super::receive::{Answer, Asking, Source};
use super::super::shared::{Shared, wake};
use super::Cycle;

/// How much of a request's body `receive` returns at once, where it isn't all in memory.
const PIECE: usize = 64 * 1024;

/// How often it is told at once that the client is gone.
const TELLINGS: u8 = 2;
/// How long whoever asks on waits to be told again, in seconds.
const AGAIN: f64 = 1.0;

impl Source for Cycle {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn ask<'py>(&self, py: Python<'py>, asking: Asking) -> PyResult<Answer<'py>> {
        let body = {
            let mut state = lock(&self.state);
            if asking == Asking::AtOnce && !state.allowance.pays(0) {
                return Ok(Answer::Pause);
            }
            // After a whole response there is nothing more to be received, what the client has sent of its request included.
            let given = state.given;
            match state.body.take().filter(|_| !given) {
                Some(body) => body,
                None if !state.is_over() => return Ok(Answer::Wait),
                None if asking != Asking::AfterWait && state.tellings >= TELLINGS => {
                    return Ok(Answer::WaitInVain);
                }
                None => {
                    state.tellings = state.tellings.saturating_add(1);
                    drop(state);
                    return disconnect(py).map(Answer::Message);
                }
            }
        };
        Ok(self.read(py, body)?.map_or(Answer::Wait, Answer::Message))
    }

    fn enlist(slf: &Bound<'_, Self>, future: Py<PyAny>, in_vain: bool) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        {
            let mut state = lock(&this.state);
            state.receivers.add(future);
            state.allowance.renew();
        }
        if in_vain {
            return this.shared.wake_later(py, AGAIN, slf.as_any());
        }
        // The engine must know what is waited for; a step that is under way tells it when it ends.
        if !lock(&this.driver).stepping
            && let Some(exchange) = this.take()
        {
            this.park(py, exchange);
        }
        Ok(())
    }

    fn delist(&self, future: &Py<PyAny>) -> bool {
        lock(&self.state).receivers.remove(future)
    }

    fn wake(&self, py: Python<'_>) {
        loop {
            let Some(future) = lock(&self.state).receivers.next() else { return };
            if wake(py, &future) {
                return;
            }
        }
    }
}

impl Cycle {
    /// Wakes up all who wait for a message: there won't be one for each.
    pub(in super::super) fn wake_receivers(&self, py: Python<'_>) {
        loop {
            let Some(future) = lock(&self.state).receivers.next() else { return };
            wake(py, &future);
        }
    }

    /// What there is of the body: a message; nothing while the client is there and silent.
    fn read<'py>(&self, py: Python<'py>, mut body: Body) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(bytes) = body.in_memory() {
            return request(py, bytes, false).map(Some);
        }
        let most = body.remaining().and_then(|left| usize::try_from(left).ok()).unwrap_or(PIECE).min(PIECE);
        let mut piece = vec![0; most];
        match body.try_read(&mut piece) {
            Ok(count) => {
                let more = count > 0 && body.remaining() != Some(0);
                {
                    let mut state = lock(&self.state);
                    state.allowance.charge(count);
                    state.body = more.then_some(body);
                }
                request(py, piece.get(..count).unwrap_or(&piece), more).map(Some)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                lock(&self.state).body = Some(body);
                Ok(None)
            }
            Err(error) => {
                tracing::debug!("A request body did not arrive: {error}");
                lock(&self.state).left = true;
                disconnect(py).map(Some)
            }
        }
    }
}

fn request<'py>(py: Python<'py>, body: &[u8], more: bool) -> PyResult<Bound<'py, PyAny>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "http.request"))?;
    message.set_item(intern!(py, "body"), PyBytes::new(py, body))?;
    message.set_item(intern!(py, "more_body"), more)?;
    Ok(message.into_any())
}

fn disconnect(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "http.disconnect"))?;
    Ok(message.into_any())
}
