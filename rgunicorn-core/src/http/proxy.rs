//! The PROXY protocol, versions 1 and 2: what a proxy says about its client before the first request of a connection.
//!
//! As HAProxy's `doc/proxy-protocol.txt` has it. A header is optional, as in gunicorn: bytes that don't begin like one are
//! HTTP's. Only TCP is spoken; a header that says that there is no client (`UNKNOWN`, `LOCAL`: the proxy's own health
//! checks), or one by something else (a Unix socket, datagrams), leaves the connection its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Refusal;

/// What begins a header of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What begins one of version 1.
const PREFIX: &[u8; 6] = b"PROXY ";
/// The longest header of version 1, with its line end.
const LONGEST_LINE: usize = 107;

/// Which versions are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProxyVersions {
    /// Version 1, a line of text.
    pub v1: bool,
    /// Version 2, in binary.
    pub v2: bool,
}

impl ProxyVersions {
    /// Whether none is.
    pub fn none(self) -> bool {
        !self.v1 && !self.v2
    }
}

impl From<&str> for ProxyVersions {
    /// From the setting's value: `off`, `v1`, `v2` or `auto`.
    fn from(setting: &str) -> Self {
        ProxyVersions { v1: ["v1", "auto"].contains(&setting), v2: ["v2", "auto"].contains(&setting) }
    }
}

/// Who a proxy speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proxied {
    /// The client.
    pub client: SocketAddr,
    /// What the client has connected to.
    pub server: SocketAddr,
}

impl Proxied {
    /// The protocol as the header names it.
    pub fn protocol(&self) -> &'static str {
        if self.client.is_ipv4() { "TCP4" } else { "TCP6" }
    }
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preface {
    /// It can't be said yet.
    Incomplete,
    /// They are HTTP.
    None,
    /// A header of so many bytes, and what it says, if it says anything.
    Header(usize, Option<Proxied>),
}

/// Looks for a header at the beginning of `bytes`. `trusted` says whether this peer may send one.
///
/// # Errors
/// 403 if it may not, 400 if it is malformed: nothing that follows can be made sense of.
pub fn read(bytes: &[u8], versions: ProxyVersions, trusted: bool) -> Result<Preface, Refusal> {
    let begins = |expected: &[u8]| bytes.iter().zip(expected).all(|(a, b)| a == b);
    let (v1, v2) = (versions.v1 && begins(PREFIX), versions.v2 && begins(SIGNATURE));
    if !v1 && !v2 {
        return Ok(Preface::None);
    }
    if bytes.len() < if v1 { PREFIX.len() } else { SIGNATURE.len() } {
        return Ok(Preface::Incomplete);
    }
    if !trusted {
        return Err(Refusal::forbidden("this peer is not in proxy_allow_ips, and has sent a PROXY header"));
    }
    if v1 { version_1(bytes) } else { version_2(bytes) }
}

fn version_1(bytes: &[u8]) -> Result<Preface, Refusal> {
    let window = bytes.get(..LONGEST_LINE).unwrap_or(bytes);
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return match window.len() < LONGEST_LINE {
            true => Ok(Preface::Incomplete),
            false => Err(Refusal::bad("a PROXY header without an end")),
        };
    };
    let line = String::from_utf8_lossy(window.get(..end).unwrap_or(window));
    let parts: Vec<&str> = line.split(' ').collect();
    let proxied = match parts.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Some(None),
        ["PROXY", protocol, client, server, client_port, server_port] => {
            let end = |address: &str, port: &str| {
                let ip: IpAddr = match *protocol {
                    "TCP4" => address.parse::<Ipv4Addr>().ok()?.into(),
                    "TCP6" => address.parse::<Ipv6Addr>().ok()?.into(),
                    _ => return None,
                };
                let digits = port.bytes().all(|byte| byte.is_ascii_digit());
                Some(SocketAddr::new(ip, port.parse().ok().filter(|_| digits)?))
            };
            let (client, server) = (end(client, client_port), end(server, server_port));
            client.zip(server).map(|(client, server)| Some(Proxied { client, server }))
        }
        _ => None,
    };
    match proxied {
        Some(proxied) => Ok(Preface::Header(end + 2, proxied)),
        None => Err(Refusal::bad(format!("invalid PROXY header {line:?}"))),
    }
}

fn version_2(bytes: &[u8]) -> Result<Preface, Refusal> {
    let invalid = |what: &str| Err(Refusal::bad(format!("invalid PROXY header of version 2: {what}")));
    let Some(&[version_and_command, family_and_protocol, high, low]) =
        bytes.get(12..16).and_then(|fixed| <&[u8; 4]>::try_from(fixed).ok())
    else {
        return Ok(Preface::Incomplete);
    };
    if version_and_command >> 4 != 2 {
        return invalid("another version");
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    let Some(addresses) = bytes.get(16..16 + length) else { return Ok(Preface::Incomplete) };
    let header = |proxied| Ok(Preface::Header(16 + length, proxied));
    match (version_and_command & 0x0f, family_and_protocol >> 4, family_and_protocol & 0x0f) {
        // The proxy speaks for itself, or can't say for whom.
        (0, ..) | (1, 0, _) => header(None),
        (1, 1, 1) => match four(addresses) {
            Some(proxied) => header(Some(proxied)),
            None => invalid("its addresses are cut short"),
        },
        (1, 2, 1) => match six(addresses) {
            Some(proxied) => header(Some(proxied)),
            None => invalid("its addresses are cut short"),
        },
        // Datagrams and Unix sockets: valid, and nothing of theirs means anything here (section 2.2: as if unspecified).
        (1, 1 | 2, 2) | (1, 3, 1 | 2) => header(None),
        (1, ..) => invalid("an unknown family or protocol"),
        _ => invalid("unknown command"),
    }
}

fn four(bytes: &[u8]) -> Option<Proxied> {
    let ip = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
    Some(Proxied { client: (ip(0)?, port(bytes, 8)?).into(), server: (ip(4)?, port(bytes, 10)?).into() })
}

fn six(bytes: &[u8]) -> Option<Proxied> {
    let ip = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?));
    Some(Proxied { client: (ip(0)?, port(bytes, 32)?).into(), server: (ip(16)?, port(bytes, 34)?).into() })
}

fn port(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(<[u8; 2]>::try_from(bytes.get(at..at + 2)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(bytes: &[u8]) -> Result<Preface, u16> {
        read(bytes, "auto".into(), true).map_err(|refusal| refusal.status)
    }

    fn proxied(client: &str, server: &str) -> Option<Proxied> {
        Some(Proxied { client: client.parse().unwrap(), server: server.parse().unwrap() })
    }

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = (addresses.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, addresses].concat()
    }

    #[test]
    fn version_1_is_a_line() {
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n";
        let expected = Preface::Header(line.len(), proxied("192.0.2.1:56324", "198.51.100.2:443"));
        assert_eq!(auto(&[line, &b"GET / HTTP/1.1\r\n"[..]].concat()), Ok(expected));
        for end in 0..line.len() {
            assert_eq!(auto(&line[..end]), Ok(Preface::Incomplete), "{end}");
        }
        let line = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n";
        let expected = Preface::Header(line.len(), proxied("[2001:db8::1]:1", "[2001:db8::2]:65535"));
        assert_eq!(auto(line), Ok(expected));
        assert_eq!(auto(b"PROXY UNKNOWN\r\n"), Ok(Preface::Header(15, None)));
        assert_eq!(auto(b"PROXY UNKNOWN a b c d\r\n"), Ok(Preface::Header(23, None)));
    }

    #[test]
    fn malformed_lines_are_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
            "PROXY TCP4 2001:db8::1 198.51.100.2 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 65536 2\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY \r\n",
            &format!("PROXY {}", "x".repeat(200)),
        ] {
            assert_eq!(auto(line.as_bytes()), Err(400), "{line}");
        }
    }

    #[test]
    fn version_2_is_binary() {
        let addresses = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb];
        let header = v2(1, 0x11, &[&addresses[..], b"\x04\0\x01x"].concat());
        let expected = Preface::Header(header.len(), proxied("192.0.2.1:56324", "198.51.100.2:443"));
        assert_eq!(auto(&[&header[..], b"GET"].concat()), Ok(expected));
        for end in 0..header.len() {
            assert_eq!(auto(&header[..end]), Ok(Preface::Incomplete), "{end}");
        }
        let six: Vec<u8> = [[0x20; 16], [0x30; 16]].concat().into_iter().chain([0, 1, 0, 2]).collect();
        let Ok(Preface::Header(_, Some(said))) = auto(&v2(1, 0x21, &six)) else { panic!("IPv6") };
        assert_eq!((said.client.port(), said.server.port(), said.protocol()), (1, 2, "TCP6"));
        assert_eq!(auto(&v2(0, 0, b"")), Ok(Preface::Header(16, None)), "LOCAL");
        assert_eq!(auto(&v2(1, 0, b"tlv")), Ok(Preface::Header(19, None)), "UNSPEC");
        assert_eq!(auto(&v2(1, 0x11, &addresses[..11])), Err(400));
        for (family, length) in [(0x12, 12), (0x22, 36), (0x31, 216), (0x32, 216)] {
            let header = v2(1, family, &vec![7; length]);
            assert_eq!(auto(&header), Ok(Preface::Header(header.len(), None)), "{family:x}: as unspecified");
        }
        for family in [0x10, 0x13, 0x20, 0x30, 0x33, 0x41] {
            assert_eq!(auto(&v2(1, family, &[0; 216])), Err(400), "{family:x}");
        }
        assert_eq!(auto(&v2(2, 0x11, &addresses)), Err(400));
        let mut other = header.clone();
        other[12] = 0x11;
        assert_eq!(auto(&other), Err(400));
    }

    #[test]
    fn only_what_is_asked_for_is_looked_for_and_only_from_the_trusted() {
        let line = b"PROXY UNKNOWN\r\n";
        assert_eq!(read(line, "v2".into(), true), Ok(Preface::None));
        assert_eq!(read(line, "off".into(), true), Ok(Preface::None));
        assert_eq!(read(&v2(0, 0, b""), "v1".into(), true), Ok(Preface::None));
        assert_eq!(read(line, "v1".into(), false).unwrap_err().status, 403);
        assert_eq!(read(b"GET / HTTP/1.1", "auto".into(), false), Ok(Preface::None));
        assert_eq!(read(b"POST / HTTP/1.1", "auto".into(), false), Ok(Preface::None));
        assert_eq!(read(b"PROX", "auto".into(), false), Ok(Preface::Incomplete));
    }
}
