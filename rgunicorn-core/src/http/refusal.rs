//! Why a request is refused, and with which status.

use thiserror::Error;

/// A reason to refuse a request: the application is never called, the client is told, the connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Refusal {
    /// The status code of the answer.
    pub status: u16,
    /// The reason phrase of the answer.
    pub reason: &'static str,
    /// What was wrong, for the log and for the body of the answer. May hold bytes of the client's: escape it for HTML.
    pub message: String,
}

impl Refusal {
    /// 400: the request breaks the protocol.
    pub fn bad(message: impl Into<String>) -> Self {
        Refusal { status: 400, reason: "Bad Request", message: message.into() }
    }
}
