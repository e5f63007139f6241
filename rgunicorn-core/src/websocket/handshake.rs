//! The opening handshake (RFC 6455 section 4.2): what a request must say, and what it is answered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use super::deflate::Agreement;
use crate::app::Request;
use crate::http::Version;

/// What a request is, as far as WebSockets are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// Nothing of the kind.
    None,
    /// A WebSocket's opening that can be accepted.
    Good {
        /// The value of `Sec-WebSocket-Accept`.
        accept: String,
        /// The compression that can be agreed on.
        deflate: Option<Agreement>,
    },
    /// One that can't: why.
    Bad(&'static str),
    /// One of another version than 13.
    OtherVersion,
}

impl Opening {
    /// Looks at a request.
    pub fn of(request: &Request<'_>) -> Opening {
        // Almost every request has none of this, and no `Upgrade`.
        let Some(upgrade) = request.header("upgrade") else { return Opening::None };
        if request.method() != b"GET"
            || request.version() < Version::HTTP_11
            || !has(upgrade, b"websocket")
            || !request
                .headers()
                .any(|(name, value)| name.eq_ignore_ascii_case(b"connection") && has(value, b"upgrade"))
        {
            return Opening::None;
        }
        let values = |name: &'static str| {
            request
                .headers()
                .filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
                .map(|(_, value)| value.trim_ascii())
        };
        // Of two, others in between may have seen the other one (RFC 6455 sections 11.3.1 and 11.3.5).
        if values("sec-websocket-version").count() > 1 {
            return Opening::Bad("a WebSocket's opening has one Sec-WebSocket-Version");
        }
        if values("sec-websocket-version").next() != Some(b"13") {
            return Opening::OtherVersion;
        }
        if values("sec-websocket-key").count() > 1 {
            return Opening::Bad("a WebSocket's opening has one Sec-WebSocket-Key");
        }
        let Some(key) = values("sec-websocket-key").next() else {
            return Opening::Bad("a WebSocket's opening needs a Sec-WebSocket-Key");
        };
        if STANDARD.decode(key).map_or(0, |key| key.len()) != 16 {
            return Opening::Bad("Sec-WebSocket-Key must be 16 bytes in base64");
        }
        let offers: Vec<_> = values("sec-websocket-extensions").map(String::from_utf8_lossy).collect();
        Opening::Good { accept: accept(key), deflate: Agreement::from_offers(&offers.join(",")) }
    }
}

impl Agreement {
    /// The value of `Sec-WebSocket-Extensions` in the answer.
    pub fn header(self) -> String {
        self.answer()
    }
}

/// The answer to a key.
fn accept(key: &[u8]) -> String {
    let mut sha = sha1_smol::Sha1::new();
    sha.update(key);
    sha.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(sha.digest().bytes())
}

/// Whether a comma-separated list has an entry.
fn has(list: &[u8], entry: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_has_the_answer_of_the_rfc() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
