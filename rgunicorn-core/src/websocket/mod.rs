//! The WebSocket protocol without I/O, a server's side (RFC 6455, RFC 7692): bytes in, events and bytes out.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`handshake`] | what a request must say to become a WebSocket, and what it is answered |
//! | `frame` | frame heads, read and written; masks |
//! | `deflate` | the extension permessage-deflate |
//! | [`Contexts`] | what that needs, shared by all WebSockets of a worker |
//! | [`Codec`] | the state of one WebSocket: messages put together and checked, pings answered, the closing handshake |
//!
//! Nothing here knows Python or the engine; everything can be tested with a byte string.

mod codec;
mod contexts;
mod deflate;
mod frame;
pub mod handshake;

pub use codec::{Codec, Event};
pub use contexts::Contexts;

/// Close codes (RFC 6455 section 7.4.1).
pub mod code {
    /// All is well.
    pub const NORMAL: u16 = 1000;
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// There was no code in the peer's close frame; never sent.
    pub const NO_STATUS: u16 = 1005;
    /// The connection broke without a close frame; never sent.
    pub const ABNORMAL: u16 = 1006;
    /// Text that isn't UTF-8.
    pub const INVALID_DATA: u16 = 1007;
    /// A message larger than is taken.
    pub const TOO_BIG: u16 = 1009;
    /// The server failed.
    pub const INTERNAL_ERROR: u16 = 1011;
    /// The server restarts.
    pub const RESTART: u16 = 1012;
}

/// Whether an endpoint may put this code into a close frame.
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
