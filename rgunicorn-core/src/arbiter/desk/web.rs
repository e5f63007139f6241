//! HTTP for the arbiter's desk, as far as it is needed there: one answer a connection.

use crate::SERVER;
use crate::config::{BindAddress, Config};
use crate::socket::{BindError, Listener};

/// Listens for those who want metrics. In this process alone, whatever is shared among workers.
pub(super) fn listen(address: &BindAddress, config: &Config) -> Result<Listener, BindError> {
    Listener::bind_one(address, &Config { reuse_port: false, ..config.clone() })
}

/// The bytes of an answer.
pub(super) fn answer(status: &str, kind: &str, body: &str, head_only: bool) -> Vec<u8> {
    let length = body.len();
    let body = if head_only { "" } else { body };
    format!(
        "HTTP/1.1 {status}\r\nServer: {SERVER}\r\nConnection: close\r\nContent-Type: {kind}\r\n\
         Cache-Control: no-store\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
