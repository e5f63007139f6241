//! A request head: found in a buffer, parsed, checked.

use super::{BodyFraming, Policy, Refusal};

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
    /// How far the buffer was searched for the end of the head.
    searched: usize,
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
    /// A [`Refusal`] as soon as the bytes at hand can't become an acceptable head.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        head: &mut RequestHead,
        policy: &Policy,
        trusted: bool,
    ) -> Result<bool, Refusal> {
        let _ = (buffer, head, policy, trusted, self.searched);
        todo!()
    }
}
