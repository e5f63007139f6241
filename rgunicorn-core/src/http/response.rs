//! A response head: what an application may say, and how the body will be framed.

use thiserror::Error;

use super::Version;

/// Something in a response head that can't be sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidResponse {
    /// Not three digits, optionally followed by a space and a reason phrase without control characters.
    #[error("invalid status line {0:?}: three digits are needed, then a space and a reason")]
    Status(String),
    /// Not a token (RFC 9110 section 5.6.2).
    #[error("invalid response header name {0:?}")]
    HeaderName(String),
    /// A control character in the value; the value itself stays out of the message, as it may be secret.
    #[error("invalid character in the value of response header {0:?}")]
    HeaderValue(String),
    /// Not a number, or two of them that differ.
    #[error("invalid Content-Length {0:?}")]
    ContentLength(String),
}

/// How the body of a response is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body is sent, whatever the application supplies (HEAD, 1xx, 204, 304).
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Until the connection is closed.
    UntilClose,
}

/// What the framing of a response depends on besides its own head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// The request's version.
    pub version: Version,
    /// Whether the request was a HEAD.
    pub head_request: bool,
    /// Whether client and server both let the connection live.
    pub keep_alive: bool,
    /// The length of the body, where it is known without the application having said it.
    pub known_length: Option<u64>,
}

/// A response head under construction; its buffer is reused from response to response.
#[derive(Debug, Default)]
pub struct ResponseHead {
    bytes: Vec<u8>,
    status: u16,
    length: Option<u64>,
    upgrade: bool,
    close: bool,
}

impl ResponseHead {
    /// Begins the head with a status such as `200 OK`; forgets all that was said before.
    ///
    /// # Errors
    /// [`InvalidResponse::Status`]
    pub fn start(&mut self, status: &[u8]) -> Result<(), InvalidResponse> {
        let _ = (status, &self.bytes, self.length, self.upgrade, self.close);
        todo!()
    }

    /// Adds a header. Hop-by-hop headers, `Server` and `Date` are ours to write and are left out, as in gunicorn; of
    /// `Connection`, `close` and `upgrade` are heeded.
    ///
    /// # Errors
    /// Anything that could split the head, and a malformed `Content-Length`.
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), InvalidResponse> {
        let _ = (name, value);
        todo!()
    }

    /// The status code; 0 before [`start`](Self::start).
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether [`start`](Self::start) was called.
    pub fn is_started(&self) -> bool {
        self.status != 0
    }

    /// Forgets everything, for the next response.
    pub fn clear(&mut self) {
        todo!()
    }

    /// The headers that will be sent of those that the application gave, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        std::iter::empty()
    }

    /// Appends the finished head to `out`: status line, `Server`, `Date`, `Connection`, framing, the application's
    /// headers, the empty line. Says how the body must be framed, and whether the connection lives on after it.
    pub fn finish(&self, out: &mut Vec<u8>, circumstances: &Circumstances) -> (Framing, bool) {
        let _ = (out, circumstances);
        todo!()
    }
}
