//! A request, as an application sees it.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::{Body, Peer, ServerAddress};
use crate::engine::Transport;
use crate::http::proxy::Proxied;
use crate::http::{RequestHead, Scheme, Version};

/// A request whose head, and as much of the body as the worker class buffers, has arrived.
#[derive(Debug)]
pub struct Request<'a> {
    pub(crate) head: &'a RequestHead,
    pub(crate) bytes: &'a [u8],
    pub(crate) body: &'a mut Body,
    /// Where in `bytes` the body lies, if it came whole with the head and nobody has taken it.
    pub(crate) in_place: Option<&'a mut Range<usize>>,
    pub(crate) peer: &'a Peer,
    pub(crate) server: &'a ServerAddress,
    pub(crate) proxied: Option<&'a Proxied>,
    pub(crate) started: Instant,
    pub(crate) socket: Option<SharedSocket<'a>>,
}

/// What it takes to share the client's socket with the application.
#[derive(Debug)]
pub(crate) struct SharedSocket<'a> {
    pub(crate) transport: &'a Transport,
    /// What came behind the request.
    pub(crate) early: &'a [u8],
    /// Whether it was shared.
    pub(crate) shared: &'a mut bool,
}

impl<'a> Request<'a> {
    /// A request whose head was parsed from `bytes`; for hosts and tests that bring their own transport.
    pub fn new(
        head: &'a RequestHead,
        bytes: &'a [u8],
        body: &'a mut Body,
        peer: &'a Peer,
        server: &'a ServerAddress,
    ) -> Self {
        let started = Instant::now();
        Request { head, bytes, body, in_place: None, peer, server, proxied: None, started, socket: None }
    }

    /// The method, such as `GET`: a token.
    pub fn method(&self) -> &'a [u8] {
        self.head.method.of(self.bytes)
    }

    /// The request target as the client sent it; visible ASCII.
    pub fn target(&self) -> &'a [u8] {
        self.head.target.of(self.bytes)
    }

    /// The path of the target, percent-encoded as it came.
    pub fn path(&self) -> &'a [u8] {
        self.head.path.of(self.bytes)
    }

    /// The query of the target without its question mark; empty if there is none.
    pub fn query(&self) -> &'a [u8] {
        self.head.query.of(self.bytes)
    }

    /// The protocol version.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// `http`, or `https` where a trusted proxy says so.
    pub fn scheme(&self) -> Scheme {
        self.head.scheme
    }

    /// The header fields in order, names as the client spelt them.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let bytes = self.bytes;
        self.head.headers.iter().map(move |header| (header.name.of(bytes), header.value.of(bytes)))
    }

    /// The value of the first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// The body.
    pub fn body(&mut self) -> &mut Body {
        if let Some(bytes) = self.take_body_in_place() {
            *self.body = Body::from(bytes.to_vec());
        }
        self.body
    }

    /// Takes the body out of the request, for applications that outlive the call with it.
    pub fn take_body(&mut self) -> Body {
        std::mem::take(self.body())
    }

    /// Takes the body without a copy, in the buffer that it was read into, if it came whole with the head, as small ones
    /// do. None otherwise; then [`body`](Self::body) has it.
    pub fn take_body_in_place(&mut self) -> Option<&'a [u8]> {
        let range = std::mem::take(&mut **self.in_place.as_mut()?);
        self.bytes.get(range).filter(|bytes| !bytes.is_empty())
    }

    /// A descriptor of the client's socket, blocking, for applications that speak another protocol than HTTP on it, and
    /// what was received behind the request already. An application that has answered on it says so by
    /// [`Response::answered_elsewhere`](super::Response::answered_elsewhere), and the connection ends; otherwise it must not
    /// have used it. None for a request without a socket.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn share_socket(&mut self) -> io::Result<Option<(OwnedFd, &'a [u8])>> {
        let Some(socket) = &mut self.socket else { return Ok(None) };
        let descriptor = socket.transport.share()?;
        *socket.shared = true;
        Ok(Some((descriptor, socket.early)))
    }

    /// The client's end of the connection.
    pub fn peer(&self) -> &'a Peer {
        self.peer
    }

    /// What a PROXY header has said about the connection; [`peer`](Self::peer) is then the client that it names.
    pub fn proxied(&self) -> Option<&'a Proxied> {
        self.proxied
    }

    /// Our end of the connection.
    pub fn server(&self) -> &'a ServerAddress {
        self.server
    }

    /// When the request was complete enough to be handed on.
    pub fn started(&self) -> Instant {
        self.started
    }
}
