//! What a WSGI application returned, and its way to the engine.
//!
//! The body may begin while the application is called: the first piece of an iterable is waited for, as only then the
//! head is certain (PEP 3333: the server sends it with the first piece that isn't empty). The rest is pulled by the
//! engine. `close()` is called once, whatever happens.

use super::interned::intern;
use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyIterator, PyList, PyTuple};
use rgunicorn_core::app::{AppError, BodyStream, Flow, Response, Sink};

use super::context::Context;
use super::exchange::{Exchange, not_bytes};
use super::file_wrapper::{FileWrapper, PlainFile};
use crate::python::failure;
use crate::python::server_hooks::Asked;

/// From this size on, a piece is kept instead of copied.
const WORTH_KEEPING: usize = 32 * 1024;

/// A response whose head is complete.
#[derive(Debug)]
pub(super) enum Answer {
    /// All of the body.
    Whole(Py<PyBytes>),
    /// The application has answered on the socket by itself.
    Elsewhere,
    /// A body without a byte.
    Empty,
    /// A file of the application's, and what is to be closed behind it.
    File(PlainFile, Returned),
    /// A body that is pulled.
    Stream(Box<WsgiStream>),
}

/// Makes an answer of what the application returned.
///
/// # Errors
/// What the first steps of the iteration raise; `AssertionError` if `start_response()` was not called by then.
pub(super) fn prepare(
    exchange: &Bound<'_, Exchange>,
    context: Context,
    returned: Bound<'_, PyAny>,
    sendfile: bool,
) -> PyResult<Answer> {
    let py = exchange.py();
    if let Some(whole) = whole(&returned)? {
        return started(exchange).map(|()| whole);
    }
    let returned = Returned { iterable: Some(returned.unbind()), context, asked: None };
    if sendfile && let Some(file) = returned.plain_file(py) {
        started(exchange)?;
        return Ok(Answer::File(file, returned));
    }
    let iterator = returned.iterate(py)?;
    let mut stream =
        Box::new(WsgiStream { exchange: exchange.clone().unbind(), iterator, first: None, returned });
    while let Some(item) = stream.next_item(py)? {
        if !item.as_bytes().is_empty() {
            started(exchange)?;
            stream.first = Some(item.unbind());
            return Ok(Answer::Stream(stream));
        }
    }
    stream.returned.close(py)?;
    started(exchange).map(|()| Answer::Empty)
}

fn started(exchange: &Bound<'_, Exchange>) -> PyResult<()> {
    match exchange.get().is_started() {
        true => Ok(()),
        false => Err(PyAssertionError::new_err("the application did not call start_response()")),
    }
}

/// The answer, if all of the body is in a list or tuple of at most one item. Those have no `close()`.
fn whole(returned: &Bound<'_, PyAny>) -> PyResult<Option<Answer>> {
    let (length, item) = if let Ok(list) = returned.cast_exact::<PyList>() {
        (list.len(), list.get_item(0))
    } else if let Ok(tuple) = returned.cast_exact::<PyTuple>() {
        (tuple.len(), tuple.get_item(0))
    } else {
        return Ok(None);
    };
    match length {
        0 => Ok(Some(Answer::Empty)),
        1 => {
            let item = item?;
            let bytes = item.cast::<PyBytes>().map_err(|_| not_bytes(&item))?;
            Ok(Some(Answer::Whole(bytes.clone().unbind())))
        }
        _ => Ok(None),
    }
}

impl Answer {
    /// Gives the body to the engine, and the hook that is to be told of it to whoever ends it.
    pub(super) fn give_hooked(
        mut self,
        py: Python<'_>,
        response: &mut Response,
        mut asked: Asked,
    ) -> Result<(), AppError> {
        // The head is complete but for what the server adds.
        asked.answered(py, response);
        match &mut self {
            Answer::Stream(stream) => {
                let first = stream.first.as_ref().map_or(0, |first| first.as_bytes(py).len());
                // A longer one is counted with those that are pulled.
                asked.add_sent(if first < WORTH_KEEPING { first } else { 0 });
                stream.returned.asked = Some(asked);
                self.give(py, response)
            }
            Answer::File(file, returned) => {
                asked.add_sent(file.length as usize);
                returned.asked = Some(asked);
                self.give(py, response)
            }
            Answer::Whole(_) | Answer::Empty | Answer::Elsewhere => {
                let given = self.give(py, response);
                asked.answered(py, response);
                given
            }
        }
    }

    /// Gives the body to the engine.
    pub(super) fn give(self, py: Python<'_>, response: &mut Response) -> Result<(), AppError> {
        match self {
            Answer::Elsewhere => response.answered_elsewhere(),
            Answer::Empty => response.send(b"")?,
            Answer::Whole(bytes) if bytes.as_bytes(py).len() < WORTH_KEEPING => {
                response.send(bytes.as_bytes(py))?
            }
            Answer::Whole(bytes) => {
                response.send_owned(Box::new(PyBackedBytes::from(bytes.into_bound(py))))?
            }
            Answer::File(file, returned) => {
                response.file(file.descriptor, file.offset, file.length, Box::new(returned))?;
            }
            Answer::Stream(mut stream) => match stream.first.take() {
                Some(first) if first.as_bytes(py).len() < WORTH_KEEPING => {
                    response.stream_from(first.as_bytes(py), stream)?;
                }
                first => {
                    stream.first = first;
                    response.stream(stream)?;
                }
            },
        }
        Ok(())
    }
}

/// What the application returned, if it may have to be closed. Closes it when dropped.
#[derive(Debug)]
pub(super) struct Returned {
    /// None once it was closed.
    iterable: Option<Py<PyAny>>,
    context: Context,
    /// Told after that, when this is dropped.
    asked: Option<Asked>,
}

impl Returned {
    fn plain_file(&self, py: Python<'_>) -> Option<PlainFile> {
        let wrapper = self.iterable.as_ref()?.bind(py).cast_exact::<FileWrapper>().ok()?;
        wrapper.get().plain_file(py)
    }

    fn iterate(&self, py: Python<'_>) -> PyResult<Option<Py<PyIterator>>> {
        let Some(iterable) = &self.iterable else { return Ok(None) };
        let iterator = self.context.run(py, || iterable.bind(py).try_iter())??;
        Ok(Some(iterator.unbind()))
    }

    /// Calls `close()`, if it has one and it was not called yet.
    fn close(&mut self, py: Python<'_>) -> PyResult<()> {
        let Some(iterable) = self.iterable.take() else { return Ok(()) };
        let iterable = iterable.into_bound(py);
        self.context.run(py, || {
            if let Some(close) = iterable.getattr_opt(intern!(py, "close"))? {
                close.call0()?;
            }
            // Also what it still refers to is to see this context, in `__del__` and `finally`.
            drop(iterable);
            Ok(())
        })?
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        if self.iterable.is_some() {
            Python::attach(|py| {
                if let Err(error) = self.close(py) {
                    tracing::error!("Error closing a response\n{}", failure::report(py, &error));
                }
            });
        }
    }
}

/// A body that is pulled, item by item.
#[derive(Debug)]
pub(super) struct WsgiStream {
    exchange: Py<Exchange>,
    /// None once it has ended.
    iterator: Option<Py<PyIterator>>,
    /// The piece that was waited for before the head could be sent.
    first: Option<Py<PyBytes>>,
    returned: Returned,
}

impl WsgiStream {
    /// The next item, which may be empty; none at the end.
    fn next_item<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let Some(iterator) = &self.iterator else { return Ok(None) };
        let mut iterator = iterator.bind(py).clone();
        let item = self.returned.context.run(py, || iterator.next())?;
        if !matches!(item, Some(Ok(_))) {
            self.iterator = None;
        }
        let Some(item) = item.transpose()? else { return Ok(None) };
        item.cast_into::<PyBytes>().map(Some).map_err(|error| not_bytes(&error.into_inner()))
    }

    /// What comes next: what was written meanwhile, and an item, which may be empty; no item at the end.
    pub(super) fn pull<'py>(
        &mut self,
        py: Python<'py>,
    ) -> Result<(Vec<u8>, Option<Bound<'py, PyBytes>>), AppError> {
        if let Some(first) = self.first.take() {
            return Ok((Vec::new(), Some(first.into_bound(py))));
        }
        let exchange = self.exchange.clone_ref(py);
        exchange.get().set_streaming(true);
        let item = self.next_item(py);
        if !matches!(item, Ok(Some(_))) {
            exchange.get().set_streaming(false);
        }
        match item {
            Ok(item) => Ok((exchange.get().take_written(), item)),
            Err(error) => Err(failure::app_error(py, &error)),
        }
    }
}

impl BodyStream for WsgiStream {
    fn next(&mut self, sink: &mut Sink<'_>) -> Result<Flow, AppError> {
        Python::attach(|py| {
            let (written, item) = self.pull(py)?;
            if !written.is_empty() {
                sink.write(&written)?;
            }
            match item {
                Some(item) => {
                    if let Some(asked) = &mut self.returned.asked {
                        asked.add_sent(item.as_bytes().len());
                    }
                    supply(sink, item).map(|()| Flow::More)
                }
                // close() is called by drop(), which logs its errors: the client has its body.
                None => Ok(Flow::Done),
            }
        })
    }
}

fn supply(sink: &mut Sink<'_>, piece: Bound<'_, PyBytes>) -> Result<(), AppError> {
    if piece.as_bytes().len() < WORTH_KEEPING {
        sink.write(piece.as_bytes())?;
    } else {
        sink.give(Box::new(PyBackedBytes::from(piece)))?;
    }
    Ok(())
}
