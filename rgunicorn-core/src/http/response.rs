//! A response head: what an application may say, and how the body will be framed.

use std::io::Write;

use thiserror::Error;

use super::grammar::{decimal, is_text, is_token, list, trim};
use super::{Version, date};

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
    /// A field that says how the message is framed, routed or read, where that is settled already (RFC 9110 section 6.5.1).
    #[error("{0:?} can't be sent in the trailers: it belongs into the head of the response")]
    Trailer(String),
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
///
/// Everything is checked as it is said, and kept as it will be sent; so what could split the head never gets in.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// Status and reason, CRLF, then a line for each header, CRLF included.
    bytes: Vec<u8>,
    /// Where the headers begin in it.
    headers_start: usize,
    status: u16,
    length: Option<u64>,
    upgrade: bool,
    close: bool,
    /// Whether the application's own stand in place of ours.
    server: bool,
    date: bool,
}

impl ResponseHead {
    /// Begins the head with a status such as `200 OK`; forgets all that was said before.
    ///
    /// # Errors
    /// [`InvalidResponse::Status`]
    pub fn start(&mut self, status: &[u8]) -> Result<(), InvalidResponse> {
        self.clear();
        let invalid = || InvalidResponse::Status(status.escape_ascii().to_string());
        let code = status.get(..3).and_then(decimal).filter(|code| *code >= 100).ok_or_else(invalid)?;
        let reason = status.get(3..).unwrap_or(&[]);
        self.bytes.extend_from_slice(status);
        match reason.first() {
            // The space is needed even if no reason follows (RFC 9112 section 4).
            None => self.bytes.push(b' '),
            Some(b' ') if reason.iter().copied().all(is_text) => {}
            Some(_) => {
                self.clear();
                return Err(invalid());
            }
        }
        self.bytes.extend_from_slice(b"\r\n");
        self.headers_start = self.bytes.len();
        self.status = code as u16;
        Ok(())
    }

    /// Adds a header. Hop-by-hop headers, `Server` and `Date` are ours to write and are left out, as in gunicorn; of
    /// `Connection`, `close` and `upgrade` are heeded, and `Upgrade` is sent where it must be. So is `Content-Length`, except
    /// where it must not be.
    ///
    /// # Errors
    /// Anything that could split the head, and a malformed `Content-Length`. The head is as it was then.
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), InvalidResponse> {
        self.add(name, value, false)
    }

    /// As [`header`](Self::header), but an own `Server` and `Date` take the place of ours.
    ///
    /// # Errors
    /// As for [`header`](Self::header).
    pub fn header_over_ours(&mut self, name: &[u8], value: &[u8]) -> Result<(), InvalidResponse> {
        self.add(name, value, true)
    }

    fn add(&mut self, name: &[u8], value: &[u8], over_ours: bool) -> Result<(), InvalidResponse> {
        let value = checked(name, value)?;
        let kept = match Kind::of(name) {
            Kind::Ordinary => true,
            Kind::ContentLength => self.content_length(value)?,
            // What a 426 asks for is said there (RFC 9110 section 15.5.22).
            Kind::Upgrade if self.status == 426 => {
                self.upgrade = true;
                true
            }
            Kind::Upgrade => value.eq_ignore_ascii_case(b"websocket"),
            Kind::Server => {
                self.server |= over_ours;
                over_ours
            }
            Kind::Date => {
                self.date |= over_ours;
                over_ours
            }
            Kind::Connection => {
                for option in list(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                }
                false
            }
            Kind::Ours => false,
        };
        if kept {
            for part in [name, b": ", value, b"\r\n"] {
                self.bytes.extend_from_slice(part);
            }
        }
        Ok(())
    }

    /// Takes note of a length; says whether the header is sent. An equal second one is not; where no length may be
    /// sent (1xx and 204, RFC 9110 section 8.6), none is, nor for 205, which has ours.
    fn content_length(&mut self, value: &[u8]) -> Result<bool, InvalidResponse> {
        let length = decimal(value).filter(|length| self.length.is_none_or(|before| before == *length));
        let length =
            length.ok_or_else(|| InvalidResponse::ContentLength(value.escape_ascii().to_string()))?;
        let first = self.length.replace(length).is_none();
        Ok(first && self.status >= 200 && !matches!(self.status, 204 | 205))
    }

    /// The status line's part from the code on, as it was said.
    pub fn status_line(&self) -> &[u8] {
        let line = self.bytes.get(..self.headers_start).unwrap_or(&[]);
        line.strip_suffix(b"\r\n").unwrap_or(line)
    }

    /// The status code; 0 before [`start`](Self::start).
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether [`start`](Self::start) was called.
    pub fn is_started(&self) -> bool {
        self.status != 0
    }

    /// The length that the application gave the body, whether or not it may be sent.
    pub fn content_length_given(&self) -> Option<u64> {
        self.length
    }

    /// Forgets everything, for the next response.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.headers_start = 0;
        self.status = 0;
        self.length = None;
        self.upgrade = false;
        self.close = false;
        self.server = false;
        self.date = false;
    }

    /// The headers that will be sent of those that the application gave, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.bytes.get(self.headers_start..).unwrap_or(&[]);
        std::iter::from_fn(move || {
            let end = memchr::memchr(b'\r', rest)?;
            let line = rest.get(..end)?;
            rest = rest.get(end + 2..)?;
            let colon = memchr::memchr(b':', line)?;
            Some((line.get(..colon)?, line.get(colon + 2..)?))
        })
    }

    /// How the body must be framed.
    pub fn framing(&self, circumstances: &Circumstances) -> Framing {
        if circumstances.head_request || self.status < 200 || matches!(self.status, 204 | 304) {
            return Framing::None;
        }
        // Nothing follows, and that must be said (RFC 9110 section 15.3.6).
        if self.status == 205 {
            return Framing::Length(0);
        }
        match self.length.or(circumstances.known_length) {
            Some(length) => Framing::Length(length),
            None if circumstances.version >= Version::HTTP_11 => Framing::Chunked,
            None => Framing::UntilClose,
        }
    }

    /// Appends the finished head to `out`: status line, `Server`, `Date`, `Connection`, framing, the application's
    /// headers, the empty line. Says how the body must be framed, and whether the connection lives on after it.
    ///
    /// The status line has the request's version: 1.0, or else 1.1. A response that was not
    /// [started](Self::start) is a 500.
    pub fn finish(&self, out: &mut Vec<u8>, circumstances: &Circumstances) -> (Framing, bool) {
        let framing = self.framing(circumstances);
        // A final response can't have a 1xx status: what follows on the connection is not HTTP (101), or nonsense.
        let keep_alive =
            circumstances.keep_alive && !self.close && framing != Framing::UntilClose && self.status >= 200;

        let (status_line, headers) = self.bytes.split_at(self.headers_start);
        out.reserve(self.bytes.len() + 160);
        out.extend_from_slice(if circumstances.version >= Version::HTTP_11 {
            b"HTTP/1.1 "
        } else {
            b"HTTP/1.0 "
        });
        out.extend_from_slice(if self.is_started() { status_line } else { b"500 Internal Server Error\r\n" });
        if !self.server {
            out.extend_from_slice(SERVER.as_bytes());
        }
        if !self.date {
            out.extend_from_slice(b"Date: ");
            out.extend_from_slice(&date::now());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(match (self.upgrade, keep_alive) {
            (false, true) => b"Connection: keep-alive\r\n".as_slice(),
            (false, false) => b"Connection: close\r\n",
            (true, false) if self.status >= 200 => b"Connection: upgrade, close\r\n",
            (true, _) => b"Connection: upgrade\r\n",
        });
        match framing {
            Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Framing::Length(length) if self.length.is_none() || self.status == 205 => {
                // Can't fail: a `Vec` grows.
                let _ = write!(out, "Content-Length: {length}\r\n");
            }
            _ => {}
        }
        out.extend_from_slice(headers);
        out.extend_from_slice(b"\r\n");
        (framing, keep_alive)
    }
}

/// The value without white space around it, if the two can be sent as a field.
fn checked<'a>(name: &[u8], value: &'a [u8]) -> Result<&'a [u8], InvalidResponse> {
    if !is_token(name) {
        return Err(InvalidResponse::HeaderName(name.escape_ascii().to_string()));
    }
    if !value.iter().copied().all(is_text) {
        return Err(InvalidResponse::HeaderValue(name.escape_ascii().to_string()));
    }
    Ok(trim(value))
}

/// An informational response (RFC 9110 section 15.2): a status from 100 to 199, but for 101, and fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Informational {
    bytes: Vec<u8>,
}

impl Informational {
    /// One with this status line, such as `103 Early Hints`.
    ///
    /// # Errors
    /// Anything that could split the head, and a status that is final or switches protocols.
    pub fn new<'a>(
        status: &[u8],
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self, InvalidResponse> {
        let invalid = || InvalidResponse::Status(status.escape_ascii().to_string());
        let code = status.get(..3).and_then(decimal).ok_or_else(invalid)?;
        if !(100..200).contains(&code) || code == 101 || !status.iter().copied().all(is_text) {
            return Err(invalid());
        }
        let fields = Self::fields(fields)?;
        Ok(Informational { bytes: [b"HTTP/1.1 ", status, b"\r\n", &fields, b"\r\n"].concat() })
    }

    /// Lines of the fields behind a body.
    ///
    /// # Errors
    /// As for [`new`](Self::new); fields that have no place there.
    pub(crate) fn trailers<'a>(
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Vec<u8>, InvalidResponse> {
        let fields = fields.into_iter().collect::<Vec<_>>();
        for (name, _) in &fields {
            if NOT_IN_TRAILERS.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes())) {
                return Err(InvalidResponse::Trailer(name.escape_ascii().to_string()));
            }
        }
        Self::fields(fields)
    }

    /// Lines of fields.
    fn fields<'a>(
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Vec<u8>, InvalidResponse> {
        let mut lines = Vec::new();
        for (name, value) in fields {
            let value = checked(name, value)?;
            for part in [name, b": ", value, b"\r\n"] {
                lines.extend_from_slice(part);
            }
        }
        Ok(lines)
    }

    /// As it is sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The beginning of what the server says itself.
const SERVER: &str = "Server: rgunicorn\r\n";

/// Fields that whoever reads a body must know before it, or that are about the connection (RFC 9110 section 6.5.1).
const NOT_IN_TRAILERS: [&str; 12] = [
    "Connection",
    "Content-Encoding",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "Host",
    "Keep-Alive",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
];

/// What a header of the application's is to the server.
enum Kind {
    Ordinary,
    ContentLength,
    Connection,
    Upgrade,
    Server,
    Date,
    /// The server's to write, or of no concern to anybody but the next hop.
    Ours,
}

impl Kind {
    /// By its name (RFC 9110 section 7.6.1, PEP 3333 "Other HTTP Features"; gunicorn has the same list).
    fn of(name: &[u8]) -> Kind {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        match name.len() {
            14 if is("Content-Length") => Kind::ContentLength,
            10 if is("Connection") => Kind::Connection,
            7 if is("Upgrade") => Kind::Upgrade,
            2 if is("TE") => Kind::Ours,
            4 if is("Date") => Kind::Date,
            6 if is("Server") => Kind::Server,
            8 if is("Trailers") => Kind::Ours,
            10 if is("Keep-Alive") => Kind::Ours,
            17 if is("Transfer-Encoding") => Kind::Ours,
            18 if is("Proxy-Authenticate") => Kind::Ours,
            19 if is("Proxy-Authorization") => Kind::Ours,
            _ => Kind::Ordinary,
        }
    }
}

#[cfg(test)]
mod tests;
