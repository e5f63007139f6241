//! `environ["gunicorn.socket"]`: the client's socket, for applications that speak another protocol than HTTP on it, as WSGI
//! libraries for WebSockets do (simple-websocket, and with it Flask-Sock and Flask-SocketIO).
//!
//! It is there for requests with an `Upgrade` header, where the class has a thread or a coroutine to spend on it. By raising
//! `StopIteration` the application says that it has answered by itself, and that the connection is over: gunicorn's
//! convention. `werkzeug.socket` is not there: libraries prefer it, and then have the server send a response behind the
//! last bytes of the other protocol.

use std::ffi::CStr;
use std::os::fd::IntoRawFd;
use std::sync::Mutex;

use super::interned::intern;
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use rgunicorn_core::app::Request;
use rgunicorn_core::sync::lock;

/// The key, which is gunicorn's.
const SOCKET: &str = "gunicorn.socket";

/// What a client has sent behind its request is in our buffer, and can't be put back.
const WITH_EARLY_BYTES: &CStr = cr#"
import socket


class ClientSocket(socket.socket):
    """A client's socket, from which a few bytes were received before it was handed over."""

    early = b""

    def recv(self, bufsize, flags=0):
        if not self.early or bufsize <= 0:
            return super().recv(bufsize, flags)
        piece = self.early[:bufsize]
        if not flags & socket.MSG_PEEK:
            self.early = self.early[bufsize:]
        return piece

    def recv_into(self, buffer, nbytes=0, flags=0):
        if not self.early:
            return super().recv_into(buffer, nbytes, flags)
        with memoryview(buffer).cast("B") as view:
            piece = self.recv(nbytes or len(view), flags)
            view[: len(piece)] = piece
        return len(piece)

    def recvfrom(self, bufsize, flags=0):
        if not self.early:
            return super().recvfrom(bufsize, flags)
        return self.recv(bufsize, flags), None
"#;

/// Makes the sockets of clients that ask for another protocol.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// The class, once it was needed.
    class: Mutex<Option<Py<PyAny>>>,
}

impl Sockets {
    /// Adds the socket of a request to its environ.
    ///
    /// # Errors
    /// `OSError` when there are no descriptors left.
    pub(super) fn add(&self, environ: &Bound<'_, PyDict>, request: &mut Request<'_>) -> PyResult<()> {
        let py = environ.py();
        let class = self.class(py)?;
        let Some((descriptor, early)) = request.share_socket()? else { return Ok(()) };
        let arguments = PyDict::new(py);
        // From here on Python closes it, whatever happens.
        arguments.set_item("fileno", descriptor.into_raw_fd())?;
        let socket = class.call((), Some(&arguments))?;
        if !early.is_empty() {
            socket.setattr("early", PyBytes::new(py, early))?;
        }
        environ.set_item(intern!(py, SOCKET), socket)
    }

    fn class<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let known = lock(&self.class).as_ref().map(|class| class.bind(py).clone());
        if let Some(class) = known {
            return Ok(class);
        }
        // Not locked meanwhile: whoever comes while it is made makes one of their own.
        let class = PyModule::from_code(py, WITH_EARLY_BYTES, c"rgunicorn_socket.py", c"rgunicorn_socket")?
            .getattr("ClientSocket")?;
        let before = lock(&self.class).replace(class.clone().unbind());
        drop(before);
        Ok(class)
    }
}

/// Whether an exception says that the application has answered on the socket by itself.
pub(super) fn says_answered(environ: &Bound<'_, PyDict>, error: &PyErr) -> bool {
    let py = environ.py();
    error.is_instance_of::<PyStopIteration>(py) && environ.contains(intern!(py, SOCKET)).unwrap_or(false)
}
