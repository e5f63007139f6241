//! A connection on its way from worker to worker: what is known of it, and how that is written down.
//!
//! The next worker gets the socket, the bytes that were not made use of, and the [`Facts`]: all that was established by bytes
//! that it will not see. What is a matter of settings (whom we trust, say) isn't among them: that is judged anew, by the same
//! facts. A message is its reason, the facts as fields of a kind and a length, and the bytes.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;

use crate::app::{Peer, ServerAddress};
use crate::http::proxy::Proxied;

/// A connection, but for its socket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parcel {
    pub(crate) facts: Facts,
    /// What was read of it and not made use of.
    pub(crate) input: Vec<u8>,
}

/// What is known of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Who has connected to us: a proxy, where there is one.
    pub(crate) peer: Peer,
    /// Where.
    pub(crate) server: ServerAddress,
    /// What a PROXY header has said.
    pub(crate) proxied: Option<Proxied>,
    /// A request comes next: a PROXY header has come, or can't any more.
    pub(crate) opened: bool,
    /// How many requests were answered.
    pub(crate) served: u64,
    /// A process that an application has forked may have the socket as well.
    pub(crate) inherited: bool,
}

impl Facts {
    /// Those of a connection just accepted.
    pub(crate) fn new(peer: Peer, server: ServerAddress) -> Facts {
        Facts { peer, server, proxied: None, opened: false, served: 0, inherited: false }
    }
}

/// The kinds of fields.
mod kind {
    pub(super) const PEER_TCP: u8 = b'p';
    pub(super) const PEER_UNIX: u8 = b'q';
    pub(super) const SERVER_TCP: u8 = b's';
    pub(super) const SERVER_UNIX: u8 = b't';
    pub(super) const PROXIED_CLIENT: u8 = b'c';
    pub(super) const PROXIED_SERVER: u8 = b'd';
    pub(super) const OPENED: u8 = b'o';
    pub(super) const SERVED: u8 = b'n';
    pub(super) const INHERITED: u8 = b'i';
    /// The last one, before the bytes.
    pub(super) const END: u8 = b'.';
}

/// All of a message but the bytes.
pub(super) fn encode(reason: u8, facts: &Facts) -> Vec<u8> {
    let Facts { peer, server, proxied, opened, served, inherited } = facts;
    let mut head = vec![reason];
    let mut field = |kind: u8, bytes: &[u8]| {
        head.push(kind);
        head.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
        head.extend_from_slice(bytes);
    };
    match (peer.ip(), peer.port()) {
        (Some(ip), Some(port)) => {
            field(kind::PEER_TCP, SocketAddr::from((ip, port)).to_string().as_bytes());
        }
        _ => field(kind::PEER_UNIX, b""),
    }
    match server {
        ServerAddress::Tcp(address) => field(kind::SERVER_TCP, address.to_string().as_bytes()),
        ServerAddress::Unix(path) => field(kind::SERVER_UNIX, path.as_os_str().as_bytes()),
    }
    if let Some(Proxied { client, server }) = proxied {
        field(kind::PROXIED_CLIENT, client.to_string().as_bytes());
        field(kind::PROXIED_SERVER, server.to_string().as_bytes());
    }
    for (kind, _) in [(kind::OPENED, opened), (kind::INHERITED, inherited)].iter().filter(|(_, is)| **is) {
        field(*kind, b"");
    }
    field(kind::SERVED, &served.to_le_bytes());
    field(kind::END, b"");
    head
}

/// What [`encode`] made, and the bytes behind it; none if that is anything else.
pub(super) fn decode(message: &[u8]) -> Option<Parcel> {
    let (_reason, mut rest) = message.split_first()?;
    let (mut peer, mut server, mut served) = (None, None, None);
    let (mut client, mut destination) = (None, None);
    let (mut opened, mut inherited) = (false, false);
    let address = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<SocketAddr>().ok();
    loop {
        let (kind, bytes, behind) = field(rest)?;
        rest = behind;
        match kind {
            kind::PEER_TCP => peer = Some(Peer::tcp(address(bytes)?)),
            kind::PEER_UNIX => peer = Some(Peer::unix()),
            kind::SERVER_TCP => server = Some(ServerAddress::Tcp(address(bytes)?)),
            kind::SERVER_UNIX => server = Some(ServerAddress::Unix(OsStr::from_bytes(bytes).into())),
            kind::PROXIED_CLIENT => client = Some(address(bytes)?),
            kind::PROXIED_SERVER => destination = Some(address(bytes)?),
            kind::OPENED => opened = true,
            kind::SERVED => served = Some(u64::from_le_bytes(bytes.try_into().ok()?)),
            kind::INHERITED => inherited = true,
            kind::END => break,
            _ => return None,
        }
    }
    let proxied = match (client, destination) {
        (Some(client), Some(server)) => Some(Proxied { client, server }),
        (None, None) => None,
        _ => return None,
    };
    let facts = Facts { peer: peer?, server: server?, proxied, opened, served: served?, inherited };
    Some(Parcel { facts, input: rest.to_vec() })
}

fn field(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (content, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    Some((*kind, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_arrives() {
        let plain = |peer, server| Facts::new(peer, server);
        let tcp = || {
            plain(Peer::tcp("127.0.0.1:1".parse().unwrap()), ServerAddress::Tcp("[::]:80".parse().unwrap()))
        };
        let proxied = |client: &str, server: &str| {
            Some(Proxied { client: client.parse().unwrap(), server: server.parse().unwrap() })
        };
        let all = [
            tcp(),
            plain(
                Peer::tcp("[2001:db8::7]:1".parse().unwrap()),
                ServerAddress::Tcp("0.0.0.0:8000".parse().unwrap()),
            ),
            plain(Peer::unix(), ServerAddress::Unix("/run/with\nline ends".into())),
            plain(Peer::unix(), ServerAddress::Unix("\0abstract".into())),
            Facts { proxied: proxied("203.0.113.7:4711", "198.51.100.1:443"), ..tcp() },
            Facts { proxied: proxied("[2001:db8::7]:4711", "[2001:db8::1]:443"), ..tcp() },
            Facts { opened: true, ..tcp() },
            Facts { served: u64::MAX, ..tcp() },
            Facts { inherited: true, ..tcp() },
        ];
        for facts in all {
            let message = [encode(b'W', &facts).as_slice(), b"GET "].concat();
            assert_eq!(decode(&message), Some(Parcel { facts, input: b"GET ".to_vec() }));
        }
    }

    #[test]
    fn nonsense_is_no_parcel() {
        let facts = Facts::new(Peer::unix(), ServerAddress::Unix("".into()));
        let whole = encode(b'W', &facts);
        for cut in 0..whole.len() {
            assert_eq!(decode(&whole[..cut]), None, "{cut}");
        }
        for field in [&b"!\x00\x00"[..], b"p\x03\x00abc", b"n\x01\x00a", b"c\x09\x00192.0.2.1", b".\x00\x00"]
        {
            assert_eq!(decode(&[b"W", field, &whole[1..]].concat()), None, "{field:?}");
        }
        let half = [b"W".as_slice(), b"c\x0b\x00192.0.2.1:1", &whole[1..]].concat();
        assert_eq!(decode(&half), None);
    }
}
