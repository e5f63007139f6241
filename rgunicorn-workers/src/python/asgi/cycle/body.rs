//! The request's body, as `receive` passes it on.

use std::io::ErrorKind;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::super::lock;
use super::super::shared::{complain, still_waits};
use super::{Cycle, Stage};

/// How much of a request's body `receive` returns at once, where it isn't all in memory.
const PIECE: usize = 64 * 1024;

impl Cycle {
    /// What `receive` returns next: a message; nothing while the client is there and silent.
    pub(super) fn next_message<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (body, gone) = {
            let mut state = lock(&self.state);
            let body = state.body.take();
            // After a whole response there is nothing more to be received, what the client has sent of its request included.
            (body.filter(|_| !state.given), state.given || state.stage == Stage::Ended || state.left)
        };
        let Some(mut body) = body else {
            return if gone { disconnect(py).map(Some) } else { Ok(None) };
        };
        if let Some(bytes) = body.in_memory() {
            return request(py, bytes, false).map(Some);
        }
        let most = body.remaining().and_then(|left| usize::try_from(left).ok()).unwrap_or(PIECE).min(PIECE);
        let mut piece = vec![0; most];
        match body.try_read(&mut piece) {
            Ok(count) => {
                let more = count > 0 && body.remaining() != Some(0);
                if more {
                    lock(&self.state).body = Some(body);
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

    /// Passes on what has come of the body to those who wait for it.
    pub(super) fn pass_on(&self, py: Python<'_>) {
        loop {
            let Some(receiver) = lock(&self.state).receivers.pop() else { return };
            if !still_waits(py, &receiver) {
                continue;
            }
            match self.next_message(py) {
                Ok(None) => return lock(&self.state).receivers.push(receiver),
                Ok(Some(message)) => self.shared.settle(py, vec![receiver], || Ok(message.clone())),
                Err(error) => {
                    complain(py, &error);
                    return self.shared.settle(py, vec![receiver], || disconnect(py));
                }
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

pub(super) fn disconnect(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "http.disconnect"))?;
    Ok(message.into_any())
}
