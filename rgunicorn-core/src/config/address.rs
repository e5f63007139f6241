//! Where a server listens.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::Ipv6Addr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::str::FromStr;

/// The port of an address that names none.
const DEFAULT_PORT: u16 = 8000;

/// An address to bind, in one of gunicorn's forms.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BindAddress {
    /// `host:port`, `[v6]:port`, `:port`, `host`, each with or without `tcp://`.
    Tcp {
        /// A name or an address in lower case, IPv6 without brackets; `0.0.0.0` where none was given.
        host: String,
        /// The port; 0 lets the system choose.
        port: u16,
    },
    /// `unix:path`, `unix://path`.
    Unix(PathBuf),
    /// `unix:@name`, `unix:\0name`: Linux's abstract name space, the name without what stands before it.
    Abstract(Vec<u8>),
    /// `fd://N`: a listening socket inherited from the parent process.
    Fd(i32),
}

impl FromStr for BindAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        BindAddress::read(OsStr::new(text))
    }
}

impl BindAddress {
    /// Reads an address; a path in it may be any bytes.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub fn read(text: &OsStr) -> Result<Self, String> {
        let bytes = text.as_bytes().trim_ascii();
        if let Some(path) = bytes.strip_prefix(b"unix:") {
            return unix(path.strip_prefix(b"//").unwrap_or(path));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| format!("{text:?} is not UTF-8"))?.trim();
        if let Some(number) = text.strip_prefix("fd://") {
            return match number.parse() {
                Ok(number) if number >= 0 => Ok(BindAddress::Fd(number)),
                _ => Err(format!("{text:?} does not name a file descriptor, as fd://3 does")),
            };
        }
        tcp(text.strip_prefix("tcp://").unwrap_or(text))
    }

    /// The address as [`read`](Self::read) takes it.
    pub fn written(&self) -> OsString {
        let unix = |bytes: &[u8]| OsString::from_vec([b"unix:", bytes].concat());
        match self {
            BindAddress::Unix(path) => unix(path.as_os_str().as_bytes()),
            BindAddress::Abstract(name) => unix(&[b"@", name.as_slice()].concat()),
            other => other.to_string().into(),
        }
    }
}

fn unix(path: &[u8]) -> Result<BindAddress, String> {
    // As C and Python have an abstract name, or as tools show it.
    let name = path.strip_prefix(b"\0").or_else(|| path.strip_prefix(b"@"));
    match name.unwrap_or(path) {
        [] => Err("\"unix:\" needs a path behind it, as unix:/run/app.sock".into()),
        text if text.contains(&0) => {
            Err(format!("{:?} has a NUL in it, which no path can have", OsStr::from_bytes(text)))
        }
        name if name.len() < path.len() => Ok(BindAddress::Abstract(name.into())),
        path => Ok(BindAddress::Unix(OsStr::from_bytes(path).into())),
    }
}

fn tcp(text: &str) -> Result<BindAddress, String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) if is_ipv6(host) => (host, None),
            Some((host, rest)) if is_ipv6(host) && rest.starts_with(':') => (host, rest.strip_prefix(':')),
            _ => return Err(format!("{text:?} is not an IPv6 address with a port, as [::1]:8000 is")),
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if text.contains(',') {
        return Err(format!(
            "{text:?} is several addresses in one; give each its own --bind, or a list in a file"
        ));
    }
    let foreign = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    if text.contains(foreign) {
        return Err(format!("{text:?} is not an address: host:port, [v6]:port, :port, unix:path or fd://N"));
    }
    // `::1` read as gunicorn would read it has an empty host and the port ":1".
    if port.is_some_and(|port| port.contains(':')) {
        return Err(format!("{text:?} is not host:port; an IPv6 address goes in brackets, as [::1]:8000"));
    }
    if port.is_none() && !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{text:?} is a port without a host; write :{text} or 127.0.0.1:{text}"));
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port
            .parse()
            .map_err(|_| format!("{port:?} in {text:?} is not a port, which is a number from 0 to 65535"))?,
    };
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    Ok(BindAddress::Tcp { host: host.to_lowercase(), port })
}

/// With or without a scope, as in `fe80::1%eth0`.
fn is_ipv6(host: &str) -> bool {
    let (address, scope) = host.split_once('%').unwrap_or((host, "x"));
    address.parse::<Ipv6Addr>().is_ok() && !scope.is_empty()
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindAddress::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            BindAddress::Tcp { host, port } => write!(f, "{host}:{port}"),
            BindAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            BindAddress::Abstract(name) => write!(f, "unix:@{}", String::from_utf8_lossy(name)),
            BindAddress::Fd(number) => write!(f, "fd://{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> BindAddress {
        BindAddress::Tcp { host: host.into(), port }
    }

    #[test]
    fn gunicorns_forms_are_read() {
        for (text, address, shown) in [
            ("127.0.0.1:8000", tcp("127.0.0.1", 8000), "127.0.0.1:8000"),
            ("LocalHost:0", tcp("localhost", 0), "localhost:0"),
            ("localhost", tcp("localhost", 8000), "localhost:8000"),
            (":9000", tcp("0.0.0.0", 9000), "0.0.0.0:9000"),
            ("", tcp("0.0.0.0", 8000), "0.0.0.0:8000"),
            ("tcp://1.2.3.4:5", tcp("1.2.3.4", 5), "1.2.3.4:5"),
            ("[::1]:80", tcp("::1", 80), "[::1]:80"),
            ("[::]", tcp("::", 8000), "[::]:8000"),
            ("[fe80::1%eth0]:80", tcp("fe80::1%eth0", 80), "[fe80::1%eth0]:80"),
            ("tcp://[::1]:80", tcp("::1", 80), "[::1]:80"),
            ("unix:/run/A.sock", BindAddress::Unix("/run/A.sock".into()), "unix:/run/A.sock"),
            ("unix:///run/a.sock", BindAddress::Unix("/run/a.sock".into()), "unix:/run/a.sock"),
            ("unix:a.sock", BindAddress::Unix("a.sock".into()), "unix:a.sock"),
            ("unix:@app", BindAddress::Abstract(b"app".to_vec()), "unix:@app"),
            ("unix:\0app", BindAddress::Abstract(b"app".to_vec()), "unix:@app"),
            ("fd://3", BindAddress::Fd(3), "fd://3"),
        ] {
            let read: BindAddress = text.parse().unwrap();
            assert_eq!(read, address, "{text}");
            assert_eq!(read.to_string(), shown);
            assert_eq!(shown.parse::<BindAddress>().unwrap(), address, "what is shown reads back");
        }
    }

    #[test]
    fn others_are_refused_with_what_would_be_right() {
        for (text, part) in [
            ("localhost:http", "from 0 to 65535"),
            ("localhost:65536", "from 0 to 65535"),
            ("localhost:", "from 0 to 65535"),
            ("8000", "write :8000"),
            ("::1", "[::1]:8000"),
            ("::1:8000", "[::1]:8000"),
            ("[::1]80", "[::1]:8000"),
            ("[::1", "[::1]:8000"),
            ("[localhost]:80", "[::1]:8000"),
            ("http://localhost", "host:port"),
            ("127.0.0.1:8000,127.0.0.1:8001", "its own --bind"),
            ("unix:", "needs a path"),
            ("unix:@", "needs a path"),
            ("unix:\0", "needs a path"),
            ("unix:a\0b", "has a NUL"),
            ("unix:\0a\0b", "has a NUL"),
            ("fd://x", "fd://3"),
            ("fd://-1", "fd://3"),
        ] {
            let error = text.parse::<BindAddress>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
