//! Who is at the two ends of a connection.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// The client's end of a connection, as accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    address: String,
    port: Option<u16>,
    ip: Option<IpAddr>,
}

impl Peer {
    /// A TCP client. An IPv4 address mapped into IPv6 stays as it is, as in gunicorn.
    pub fn tcp(address: SocketAddr) -> Self {
        Peer { address: address.ip().to_string(), port: Some(address.port()), ip: Some(address.ip()) }
    }

    /// A client on a Unix socket: it has no address, and is trusted.
    pub fn unix() -> Self {
        Peer { address: String::new(), port: None, ip: None }
    }

    /// The address in text, as `REMOTE_ADDR` has it; empty on a Unix socket.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The port; none on a Unix socket.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The IP address; none on a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }
}

/// Our end of a connection: what the listener is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAddress {
    /// A TCP listener.
    Tcp(SocketAddr),
    /// A Unix socket in the file system, or (starting with a NUL) in the abstract name space.
    Unix(PathBuf),
}
