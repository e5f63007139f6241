//! `environ["gunicorn.socket"]`: the client's socket, for applications that speak another protocol than HTTP on it, as WSGI
//! libraries for WebSockets do (simple-websocket, and with it Flask-Sock and Flask-SocketIO).
//!
//! It is there for requests with an `Upgrade` header, where the class has a thread or a coroutine to spend on it. By raising
//! `StopIteration` the application says that it has answered by itself, and that the connection is over: gunicorn's
//! convention. `werkzeug.socket` is not there: libraries prefer it, and then have the server send a response behind the
//! last bytes of the other protocol.

use std::ffi::CStr;
use std::os::fd::IntoRawFd;

use super::interned::intern;
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use rgunicorn_core::app::Request;

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

/// Adds the socket of a request to its environ.
///
/// # Errors
/// `OSError` when there are no descriptors left.
pub(super) fn add_socket(environ: &Bound<'_, PyDict>, request: &mut Request<'_>) -> PyResult<()> {
    let py = environ.py();
    let Some((descriptor, early)) = request.share_socket()? else { return Ok(()) };
    let arguments = PyDict::new(py);
    // From here on Python closes it, whatever happens.
    arguments.set_item("fileno", descriptor.into_raw_fd())?;
    let socket = match early.is_empty() {
        true => py.import("socket")?.getattr("socket")?.call((), Some(&arguments))?,
        false => {
            let socket = client_socket(py)?.call((), Some(&arguments))?;
            socket.setattr("early", PyBytes::new(py, early))?;
            socket
        }
    };
    environ.set_item(intern!(py, SOCKET), socket)
}

/// Made anew each time, which is rare: a lock would be waited for with the thread of the one that has it, in a coroutine.
fn client_socket(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    PyModule::from_code(py, WITH_EARLY_BYTES, c"rgunicorn_socket.py", c"rgunicorn_socket")?
        .getattr("ClientSocket")
}

/// Whether an exception says that the application has answered on the socket by itself.
pub(super) fn says_answered(environ: &Bound<'_, PyDict>, error: &PyErr) -> bool {
    let py = environ.py();
    error.is_instance_of::<PyStopIteration>(py) && environ.contains(intern!(py, SOCKET)).unwrap_or(false)
}
