//! What an application sends of its response.

use pyo3::exceptions::{PyConnectionError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use rgunicorn_core::app::{Response, ResponseError};
use rgunicorn_core::engine::Exchange;
use rgunicorn_core::http::Informational;

use super::super::lock;
use super::super::message::{Message, for_each_header};
use super::super::shared::Shared;
use super::{Cycle, Stage};

/// From this size on, a piece of a body is kept instead of copied.
const WORTH_KEEPING: usize = 32 * 1024;

/// What a message came to.
pub(super) enum Said {
    /// Nothing is to be sent yet.
    Noted,
    /// There is something to be sent.
    Piece,
    /// The response has its end.
    End,
}

impl Cycle {
    /// Makes a message part of the response.
    pub(super) fn say(
        &self,
        py: Python<'_>,
        exchange: &mut Exchange,
        message: &Message<'_, '_>,
        stage: Stage,
    ) -> PyResult<Said> {
        let response = exchange.response();
        match (stage, message.kind()?) {
            (Stage::Open, "http.response.start") => self.begin(py, response, message),
            (Stage::Open, "http.response.informational") => {
                let status = message.need(intern!(py, "status"))?.extract::<u16>()?;
                inform(&self.shared.status_line(status)?, message.get(intern!(py, "headers"))?, response)
            }
            (Stage::Open, "http.response.early_hint") => {
                let mut fields = Vec::new();
                if let Some(links) = message.get(intern!(py, "links"))? {
                    for link in links.try_iter()? {
                        fields.push((b"link".to_vec(), link?.extract::<Vec<u8>>()?));
                    }
                }
                inform_with(b"103 Early Hints", fields, response)
            }
            (Stage::Started, "http.response.body") => self.add(py, response, message),
            (Stage::Started, "http.response.pathsend") => send_path(py, response, message),
            (Stage::Trailers, "http.response.trailers") => {
                let mut fields = Vec::new();
                if let Some(headers) = message.get(intern!(py, "headers"))? {
                    for_each_header(&headers, |name, value| {
                        fields.push((name.to_vec(), value.to_vec()));
                        Ok(())
                    })?;
                }
                let fields = fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
                response.end_body_with(fields).map_err(refused)?;
                Ok(Said::End)
            }
            (_, kind) => Err(unexpected(stage, kind)),
        }
    }

    /// Takes note of a message that nobody is there for any more. The rest of a response in one piece is nobody's mistake;
    /// whoever goes on is told, as ASGI 2.4 has it.
    pub(super) fn note_unsent(&self, py: Python<'_>, message: &Message<'_, '_>) -> PyResult<()> {
        /// A head, a body, trailers.
        const REST: u8 = 3;
        let flag = |name| message.flag(name);
        let kind = message.kind()?;
        let trailers = match kind {
            "http.response.start" => flag(intern!(py, "trailers"))?,
            _ => lock(&self.state).trailers,
        };
        let (rest, given) = match kind {
            "http.response.start" => (true, false),
            "http.response.body" => {
                let last = !flag(intern!(py, "more_body"))?;
                (last, last && !trailers)
            }
            "http.response.pathsend" | "http.response.trailers" => (true, true),
            _ => (false, false),
        };
        let mut state = lock(&self.state);
        state.left = true;
        state.trailers = trailers;
        state.given |= given;
        state.unsent = state.unsent.saturating_add(1);
        if rest && state.unsent <= REST { Ok(()) } else { Err(gone()) }
    }

    fn begin(&self, py: Python<'_>, response: &mut Response, message: &Message<'_, '_>) -> PyResult<Said> {
        let trailers = message.flag(intern!(py, "trailers"))?;
        begin(py, &self.shared, response, message)?;
        let mut state = lock(&self.state);
        state.stage = Stage::Started;
        state.trailers = trailers;
        Ok(Said::Noted)
    }

    fn add(&self, py: Python<'_>, response: &mut Response, message: &Message<'_, '_>) -> PyResult<Said> {
        let body = message.bytes(intern!(py, "body"))?;
        let more = message.flag(intern!(py, "more_body"))?;
        let trailers = lock(&self.state).trailers;
        let bytes = body.as_ref().map_or(&b""[..], |body| body.as_bytes());
        let whole = !more && !trailers && !response.head_sent();
        let added = match (whole, body.as_ref().filter(|_| bytes.len() >= WORTH_KEEPING)) {
            (true, None) => response.send(bytes),
            (true, Some(body)) => response.send_owned(Box::new(PyBackedBytes::from(body.clone()))),
            (false, None) => response.push(bytes),
            (false, Some(body)) => response.push_owned(Box::new(PyBackedBytes::from(body.clone()))),
        };
        added.map_err(refused)?;
        match (more, trailers) {
            (true, _) => Ok(Said::Piece),
            (false, true) => {
                lock(&self.state).stage = Stage::Trailers;
                Ok(Said::Piece)
            }
            (false, false) => {
                response.end_body().map_err(refused)?;
                Ok(Said::End)
            }
        }
    }
}

/// Starts a response as a message says; one that is refused leaves nothing behind.
pub(in super::super) fn begin(
    py: Python<'_>,
    shared: &Shared,
    response: &mut Response,
    message: &Message<'_, '_>,
) -> PyResult<()> {
    let mut start = || {
        let status = message.need(intern!(py, "status"))?.extract::<u16>()?;
        response.start(&shared.status_line(status)?).map_err(refused)?;
        match message.get(intern!(py, "headers"))? {
            Some(headers) => for_each_header(&headers, |name, value| {
                response.header_over_ours(name, value).map_err(refused)
            }),
            None => Ok(()),
        }
    };
    start().inspect_err(|_| response.take_back())
}

fn inform(status: &[u8], headers: Option<Bound<'_, PyAny>>, response: &mut Response) -> PyResult<Said> {
    let mut fields = Vec::new();
    if let Some(headers) = headers {
        for_each_header(&headers, |name, value| {
            fields.push((name.to_vec(), value.to_vec()));
            Ok(())
        })?;
    }
    inform_with(status, fields, response)
}

fn inform_with(status: &[u8], fields: Vec<(Vec<u8>, Vec<u8>)>, response: &mut Response) -> PyResult<Said> {
    let fields = fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    let informational = Informational::new(status, fields).map_err(|error| refused(error.into()))?;
    response.inform(&informational).map_err(refused)?;
    Ok(Said::Piece)
}

/// `http.response.pathsend`: a file by its path, sent by the kernel.
fn send_path(py: Python<'_>, response: &mut Response, message: &Message<'_, '_>) -> PyResult<Said> {
    let path = message.need(intern!(py, "path"))?.extract::<std::path::PathBuf>()?;
    let file = std::fs::File::open(&path)?;
    let length = file.metadata()?.len();
    response.file(file.into(), 0, length, Box::new(())).map_err(refused)?;
    Ok(Said::End)
}

pub(super) fn unexpected(stage: Stage, kind: &str) -> PyErr {
    let expected = match stage {
        Stage::Open => "'http.response.start' was expected",
        Stage::Started => "'http.response.body' was expected",
        Stage::Trailers => "'http.response.trailers' was expected",
        Stage::Ended => "the response is complete",
    };
    PyRuntimeError::new_err(format!("unexpected message {kind:?}: {expected}"))
}

/// What the application is told of a client that isn't there.
pub(super) fn gone() -> PyErr {
    PyConnectionError::new_err("the client has disconnected")
}

/// What the application is told of a response that can't be sent as it is.
pub(in super::super) fn refused(error: ResponseError) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}
