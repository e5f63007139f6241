//! `pre_request` and `post_request`: the hooks around each request.
//!
//! A class that has none costs a request one look at an `Option`. Where the logs go through a logger in Python, its access log
//! is a hook, too: the last but `post_request`, as in gunicorn.

use std::sync::Arc;
use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use rgunicorn_core::app::{Request, Response};
use rgunicorn_core::http::Scheme;

use crate::python::ending::empty_at_the_end;
use crate::python::wsgi::latin1;
use crate::python::{failure, load};

/// The hooks of one worker.
#[derive(Debug, Clone)]
pub(crate) struct RequestHooks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    module: Py<PyModule>,
    /// `Requests` of `requests.py`.
    requests: Py<PyAny>,
    /// Whether access lines are written here.
    logs: bool,
}

/// A request that `pre_request` has seen. `post_request` is called when this is dropped, where Python's lock is held.
#[derive(Debug)]
pub(crate) struct Asked {
    shared: Arc<Shared>,
    request: Py<PyAny>,
    environ: Option<Py<PyAny>>,
    answer: Option<Py<PyAny>>,
    /// How many bytes of a body there were.
    sent: u64,
    begun: Instant,
}

/// `requests.py`.
///
/// # Errors
/// An exception of Python's own.
pub(super) fn helper(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    load::helper(py, include_str!("requests.py"), "rgunicorn_requests")
}

impl RequestHooks {
    /// The hooks that there are; with `logs`, or where hooks have put a filter on it, the access log is one of them.
    pub(super) fn of(
        module: &Bound<'_, PyModule>,
        server: &Bound<'_, PyAny>,
        logs: bool,
    ) -> PyResult<Option<Self>> {
        let requests = module.getattr("Requests")?.call1((server, logs))?;
        let logs = requests.getattr("logs")?.is_truthy()?;
        if !logs && requests.getattr("before")?.is_none() && requests.getattr("after")?.is_none() {
            return Ok(None);
        }
        empty_at_the_end(&requests.getattr("__dict__")?);
        let shared = Shared { module: module.clone().unbind(), requests: requests.unbind(), logs };
        Ok(Some(RequestHooks { shared: Arc::new(shared) }))
    }

    /// Whether the access log is one of them.
    pub(super) fn log_access(&self) -> bool {
        self.shared.logs
    }

    /// Calls `pre_request`.
    ///
    /// # Errors
    /// What it raises: the request is not to be answered.
    pub(crate) fn begin(&self, py: Python<'_>, request: &Request<'_>) -> PyResult<Asked> {
        let begun = Instant::now();
        let headers = PyList::empty(py);
        for (name, value) in request.headers() {
            headers.append((latin1(py, &name.to_ascii_uppercase())?, latin1(py, value)?))?;
        }
        let version = request.version();
        let scheme = if request.scheme() == Scheme::Https { "https" } else { "http" };
        let peer = (request.peer().address(), request.peer().port());
        let facts = (
            latin1(py, request.method())?,
            latin1(py, request.target())?,
            latin1(py, request.path())?,
            latin1(py, request.query())?,
            (version.major, version.minor),
            scheme,
            headers,
            peer,
            request.proxied().map(|proxied| {
                let server = (proxied.server.ip().to_string(), proxied.server.port());
                (
                    proxied.protocol(),
                    proxied.client.ip().to_string(),
                    proxied.client.port(),
                    server.0,
                    server.1,
                )
            }),
        );
        let request = self.shared.requests.bind(py).call_method1("begin", facts);
        failure::end_stray(py, request.as_ref().err());
        let request = request?.unbind();
        Ok(Asked { shared: Arc::clone(&self.shared), request, environ: None, answer: None, sent: 0, begun })
    }
}

impl Asked {
    /// The application is called with this; headers that the hook has changed are changed in it.
    pub(crate) fn with_environ(&mut self, environ: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = environ.py();
        self.apply_changes(py, "change_environ", environ)?;
        self.environ = Some(environ.clone().into_any().unbind());
        self.answer = Some(self.call(py, "unanswered", ())?.unbind());
        Ok(())
    }

    /// As [`with_environ`](Self::with_environ), for ASGI. The hook is given an environ all the same, as by gunicorn.
    pub(crate) fn with_scope(&mut self, scope: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = scope.py();
        self.apply_changes(py, "change_scope", scope)?;
        self.environ = Some(self.call(py, "environ_of", (&self.request,))?.unbind());
        self.answer = Some(self.call(py, "unanswered", ())?.unbind());
        Ok(())
    }

    fn apply_changes(&self, py: Python<'_>, how: &str, to: &Bound<'_, PyDict>) -> PyResult<()> {
        let headers = self.request.bind(py).call_method0("_changed")?;
        if !headers.is_none() {
            self.call(py, how, (to, headers))?;
        }
        Ok(())
    }

    /// The head is complete; what there is of the body by now counts as sent.
    pub(crate) fn answered(&mut self, py: Python<'_>, response: &mut Response) {
        if self.shared.logs {
            response.log_elsewhere();
        }
        let note = || {
            let headers = PyList::empty(py);
            for (name, value) in response.headers() {
                headers.append((latin1(py, name)?, latin1(py, value)?))?;
            }
            self.call(py, "Answer", (latin1(py, response.status_line())?, headers))
        };
        match note() {
            Ok(answer) => self.answer = Some(answer.unbind()),
            Err(error) => tracing::error!("Error in a server hook\n{}", failure::report(py, &error)),
        }
        self.sent = response.body_bytes();
    }

    /// So many more bytes of the body were given.
    pub(crate) fn add_sent(&mut self, count: usize) {
        self.sent += count as u64;
    }

    fn call<'py, A>(&self, py: Python<'py>, function: &str, arguments: A) -> PyResult<Bound<'py, PyAny>>
    where
        A: pyo3::call::PyCallArgs<'py>,
    {
        self.shared.module.bind(py).getattr(function)?.call1(arguments)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        Python::attach(|py| {
            let micros = self.begun.elapsed().as_micros() as u64;
            let arguments = (&self.request, &self.environ, &self.answer, self.sent, micros);
            let ended = self.shared.requests.bind(py).call_method1("end", arguments);
            failure::end_stray(py, ended.as_ref().err());
            if let Err(error) = ended {
                tracing::error!("Error in a server hook\n{}", failure::report(py, &error));
            }
        });
    }
}
