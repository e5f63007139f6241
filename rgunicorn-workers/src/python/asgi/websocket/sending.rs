//! What the application sends once the WebSocket is open.

use pyo3::exceptions::{PyConnectionError, PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;
use rgunicorn_core::websocket::{code, may_be_sent};

use super::super::cycle::HIGH_WATER;
use super::super::lock;
use super::super::message::Message;
use super::{Stage, WebSocket};

fn gone() -> PyErr {
    PyConnectionError::new_err("the WebSocket is closed")
}

impl WebSocket {
    /// Takes a message of the application's: what is to be waited for, if anything is.
    pub(super) fn take_message<'py>(
        slf: &Bound<'py, Self>,
        message: &Bound<'py, PyAny>,
        stage: Stage,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        let message = Message::new(message)?;
        if matches!(stage, Stage::Closing | Stage::Closed) {
            return match message.kind()? {
                "websocket.close" => Ok(None),
                _ => Err(gone()),
            };
        }
        if stage != Stage::Open {
            let exchange = this.take().ok_or_else(gone)?;
            let answered = match stage {
                Stage::Connecting => Self::answer(slf, exchange, &message),
                _ => Self::reject_body(slf, exchange, &message),
            };
            return answered.map(|()| None).map_err(|(error, exchange)| {
                this.put_back(py, exchange);
                error
            });
        }
        match message.kind()? {
            "websocket.send" => Self::send_message(slf, &message),
            "websocket.close" => {
                let code =
                    message.get(intern!(py, "code"))?.map_or(Ok(code::NORMAL), |code| code.extract())?;
                let reason = message.get(intern!(py, "reason"))?.map(|reason| reason.extract::<String>());
                let reason = reason.transpose()?.unwrap_or_default();
                if !may_be_sent(code) {
                    return Err(PyRuntimeError::new_err(format!(
                        "{code} is no code to close a WebSocket with"
                    )));
                }
                Self::begin_close(slf, code, &reason);
                Ok(None)
            }
            kind => Err(PyRuntimeError::new_err(format!(
                "unexpected message {kind:?}: 'websocket.send' or 'websocket.close' was expected"
            ))),
        }
    }

    fn send_message<'py>(
        slf: &Bound<'py, Self>,
        message: &Message<'_, 'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        let bytes = message.bytes(intern!(py, "bytes"))?;
        let text = message.get(intern!(py, "text"))?.map(|text| text.cast_into::<PyString>());
        let text = text.transpose().map_err(|_| PyTypeError::new_err("text must be a str"))?;
        let text = text.as_ref().map(|text| text.to_cow()).transpose()?;
        let mut exchange = this.take().ok_or_else(gone)?;
        let output = {
            let mut state = lock(&this.state);
            match (bytes, text) {
                (Some(bytes), _) => state.codec.binary(bytes.as_bytes()),
                (None, Some(text)) => state.codec.text(&text),
                (None, None) => {}
            }
            state.codec.take_output()
        };
        if exchange.response().push_raw(&output).is_err() || exchange.flush().is_err() {
            Self::go_on(slf, exchange, false);
            return Err(gone());
        }
        let wait = exchange.response().waiting() > HIGH_WATER;
        let future = if wait { Some(this.shared.future(py)?) } else { None };
        if let Some(future) = &future {
            lock(&this.state).senders.push(future.clone().unbind());
        }
        this.put_back(py, exchange);
        Ok(future)
    }
}
