//! A request head: found in a buffer, parsed, checked.
//!
//! Which rule is kept where, and whose it is. What breaks one is answered with 400 unless the table says otherwise.
//!
//! | rule | source | kept in |
//! | --- | --- | --- |
//! | one empty line before the request line is ignored, a second is not | RFC 9112 2.2 | `scan` |
//! | lines end with CRLF; no CR or LF stands anywhere else | RFC 9112 2.2 | `scan` |
//! | the request line has its limit (414) | RFC 9112 3, `limit_request_line` | `scan` |
//! | a field has its limit, and so has their number (431) | RFC 6585 5, `limit_request_field_size`, `limit_request_fields` | `scan` |
//! | the head as a whole has its limit (431) | RFC 6585 5, `limit_request_head` | `scan` |
//! | no folded lines (`permit_obsolete_folding`: they are joined) | RFC 9112 5.2 | `scan`, `fields` |
//! | method, target and version with one space between them | RFC 9112 3 | `request_line` |
//! | the method is a token, of 3 to 20 characters, without lower case and `#` (`permit_unconventional_http_method`: any token) | RFC 9110 9.1, gunicorn | `request_line` |
//! | the target is visible ASCII | RFC 9112 3.2, RFC 3986 2 | `request_line` |
//! | brackets in an absolute URI or `host:port` have an IP address in them | RFC 3986 3.2.2 | `request_line` |
//! | `*` with OPTIONS only, `host:port` with CONNECT only, else a path or an absolute URI | RFC 9112 3.2.1 to 3.2.4 | `request_line` |
//! | the version is HTTP/1.0 or HTTP/1.1 (`permit_unconventional_http_version`: any digits) | RFC 9112 2.3 | `request_line` |
//! | header names are tokens, with the colon right behind them (`strip_header_spaces`: or white space between) | RFC 9112 5.1 | `fields` |
//! | values are free of control characters, NUL above all | RFC 9110 5.5 | `fields` |
//! | at most one Host, one Content-Type | RFC 9112 3.2, RFC 9110 5.3 | `meaning` |
//! | Expect is `100-continue` (417) | RFC 9110 10.1.1 | `meaning` |
//! | scheme headers of a trusted peer agree | `secure_scheme_headers` | `meaning` |
//! | names with an underscore are dropped, refused or let through | `header_map`, `forwarder_headers` | `meaning` |
//! | at most one Content-Length, of digits, that fits into 64 bits | RFC 9110 8.6, RFC 9112 6.3 | `framing` |
//! | Transfer-Encoding is `chunked`, once (501 for other codings) | RFC 9112 6.1, 6.3 | `framing` |
//! | Transfer-Encoding neither with Content-Length nor in HTTP/1.0 | RFC 9112 6.1 | `framing` |
//! | `Connection: close` ends the connection, HTTP/1.0 needs `keep-alive`, CONNECT never goes on | RFC 9112 9.3 | `meaning`, here |
//!
//! As in gunicorn, an HTTP/1.1 request without Host is accepted (RFC 9112 3.2 would refuse it): health checks send such.

use std::ops::Range;

use super::meaning::Meaning;
use super::request_line::{self, RequestLine};
use super::scan::{Found, Scan};
use super::{BodyFraming, Policy, Refusal, fields};

/// A stretch of the buffer that a [`RequestHead`] was parsed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes that this span stands for, in the buffer that the head was parsed from.
    #[inline]
    pub fn of<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        buffer.get(self.start as usize..self.end as usize).unwrap_or(&[])
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }
}

/// One header field that was kept: spans of its name, as sent, and of its value without surrounding white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The name as the client spelt it; a token.
    pub name: Span,
    /// The value; no CR, LF, NUL or other control character but TAB.
    pub value: Span,
}

/// A protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1 in HTTP/1.1.
    pub major: u8,
    /// 1 in HTTP/1.1.
    pub minor: u8,
}

impl Version {
    /// HTTP/1.0.
    pub const HTTP_10: Version = Version { major: 1, minor: 0 };
    /// HTTP/1.1.
    pub const HTTP_11: Version = Version { major: 1, minor: 1 };
}

impl Default for Version {
    fn default() -> Self {
        Version::HTTP_11
    }
}

/// The scheme under which the client reached us, as far as we can believe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheme {
    /// `http`
    #[default]
    Http,
    /// `https`
    Https,
}

/// A request head: spans into the buffer that it was parsed from. One is reused for all requests of a connection.
#[derive(Debug, Clone, Default)]
pub struct RequestHead {
    /// Length of the whole head in the buffer, with the empty line that ends it (and one before it, if any).
    pub len: usize,
    /// The method, upper case if `casefold_http_method` says so.
    pub method: Span,
    /// The request target as sent (`RAW_URI`).
    pub target: Span,
    /// The path of the target, still percent-encoded.
    pub path: Span,
    /// The query of the target, without the question mark.
    pub query: Span,
    /// The protocol version.
    pub version: Version,
    /// The header fields that were kept, in order.
    pub headers: Vec<Header>,
    /// How the body is framed.
    pub body: BodyFraming,
    /// The scheme, from `secure_scheme_headers` of a trusted peer.
    pub scheme: Scheme,
    /// Whether the client lets the connection live after this request.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// Finds and parses request heads in a connection's buffer, however the bytes come in.
#[derive(Debug, Clone, Default)]
pub struct HeadReader {
    scan: Scan,
    line: RequestLine,
}

impl HeadReader {
    /// Looks for a whole request head at the beginning of `buffer`.
    ///
    /// `buffer` holds all bytes since the end of the last message; call again with more of them as long as this
    /// answers `Ok(false)`. On `Ok(true)`, `head` is filled and the reader ready for the next request. The buffer is
    /// changed only where a relaxing setting of `policy` asks for it (unfolding, case).
    ///
    /// `trusted` says whether the peer is on the policy's `forwarded_allow` list.
    ///
    /// # Errors
    /// A [`Refusal`] as soon as the bytes at hand can't become an acceptable head: a bad request line when its end has
    /// come, a part over its limit when the limit is passed, other faults of the fields at the end of the head. In that
    /// last case `head` has the request line and the fields before the fault, for logs; else its `len` is 0.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        head: &mut RequestHead,
        policy: &Policy,
        trusted: bool,
    ) -> Result<bool, Refusal> {
        let limits = policy.limits.effective();
        head.len = 0;
        loop {
            match self.scan.next(buffer, &limits, policy.permit_obsolete_folding)? {
                Found::Partial => return Ok(false),
                Found::RequestLine { start, end } => {
                    self.line = request_line::parse(buffer, start, end, policy)?;
                }
                Found::End { fields_start, fields, end } => {
                    let HeadReader { line, .. } = std::mem::take(self);
                    read_fields(buffer, fields_start..end, fields, &line, head, policy, trusted)?;
                    return Ok(true);
                }
            }
        }
    }
}

/// Fills `head` from the request line and the `count` fields in `section` of the buffer.
fn read_fields(
    buffer: &mut [u8],
    section: Range<usize>,
    count: usize,
    line: &RequestLine,
    head: &mut RequestHead,
    policy: &Policy,
    trusted: bool,
) -> Result<(), Refusal> {
    let (start, end) = (section.start, section.end);
    let bytes = buffer.get_mut(section).unwrap_or_default();
    fields::normalise(bytes, policy);

    // First, so that also a refusal can say what was asked for.
    head.len = end;
    head.method = line.method;
    head.target = line.target;
    head.path = line.path;
    head.query = line.query;
    head.version = line.version;
    head.headers.clear();
    let mut meaning = Meaning::new(policy, trusted, line.version);
    let origin = bytes.as_ptr() as usize;
    let span = |part: &[u8]| {
        let offset = start + (part.as_ptr() as usize - origin);
        Span { start: offset as u32, end: (offset + part.len()) as u32 }
    };
    fields::tokenise(bytes, count, |name, value| {
        if meaning.field(name, value)? {
            head.headers.push(Header { name: span(name), value: span(value) });
        }
        Ok(())
    })?;
    let said = meaning.conclude()?;

    head.body = said.body;
    head.scheme = said.scheme;
    // After a CONNECT come bytes of the tunnel, never a request (RFC 9110 section 9.3.6).
    head.keep_alive = said.keep_alive && !line.connect;
    head.expects_continue = said.expects_continue;
    Ok(())
}

#[cfg(test)]
mod tests;
