//! The logs' way to syslog (gunicorn: `syslog`, `syslog_addr`, `syslog_prefix`, `syslog_facility`).
//!
//! A message is one datagram, or one `send(2)` to a stream, in the form of Python's `SysLogHandler`: `<priority>`, text, NUL.
//! What can't be sent is dropped: a log that waits for another program would make the server wait for it.

use std::io;
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};

use socket2::Socket;

use crate::config::{Config, LogLevel};

/// The codes of the facilities.
const FACILITIES: [(&str, u8); 21] = [
    ("auth", 4),
    ("authpriv", 10),
    ("cron", 9),
    ("daemon", 3),
    ("ftp", 11),
    ("kern", 0),
    ("lpr", 6),
    ("mail", 2),
    ("news", 7),
    ("security", 4),
    ("syslog", 5),
    ("user", 1),
    ("uucp", 8),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// A connection to syslog, for one of the two logs.
#[derive(Debug)]
pub(super) struct Syslog {
    socket: Socket,
    facility: u8,
    /// `gunicorn.NAME.error` or `.access`: what filters of syslog's know.
    tag: String,
}

impl Syslog {
    /// Connects to where the settings say, for the log `name`; none if they don't want it.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub(super) fn open(config: &Config, name: &str) -> Result<Option<Syslog>, String> {
        if !config.syslog {
            return Ok(None);
        }
        let wanted = config.syslog_facility.to_ascii_lowercase();
        let facility = FACILITIES.iter().find(|(facility, _)| *facility == wanted).map(|(_, code)| *code);
        let Some(facility) = facility else {
            let known: Vec<_> = FACILITIES.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "syslog_facility: {wanted:?} is no facility; there are {}",
                known.join(", ")
            ));
        };
        let address = &config.syslog_addr;
        let socket = connect(address).map_err(|error| format!("syslog_addr: {address:?}: {error}"))?;
        socket.set_nonblocking(true).map_err(|error| format!("syslog_addr: {address:?}: {error}"))?;
        let prefix = config.syslog_prefix.clone().unwrap_or_else(|| config.proc_name().replace(':', "."));
        Ok(Some(Syslog { socket, facility, tag: format!("gunicorn.{prefix}.{name}") }))
    }

    /// Sends a message, if it can be sent now.
    pub(super) fn send(&self, level: LogLevel, message: &str) {
        let severity = match level {
            LogLevel::Debug => 7,
            LogLevel::Info => 6,
            LogLevel::Warning => 4,
            LogLevel::Error => 3,
            LogLevel::Critical => 2,
        };
        let priority = self.facility * 8 + severity;
        let line = format!("<{priority}>{}: [{}] {message}\0", self.tag, std::process::id());
        // There is nowhere left to complain to.
        let _ = self.socket.send_with_flags(line.as_bytes(), libc::MSG_NOSIGNAL);
    }
}

/// `udp://HOST:PORT`, `tcp://HOST:PORT`, `unix://PATH` with `#dgram` or `#stream` behind it where only that will do.
fn connect(address: &str) -> io::Result<Socket> {
    let invalid = || {
        let expected =
            "an address is udp://HOST:PORT, tcp://HOST:PORT, or unix://PATH, perhaps with #dgram or #stream";
        io::Error::new(io::ErrorKind::InvalidInput, expected)
    };
    let (scheme, rest) = address.split_once("://").ok_or_else(invalid)?;
    match scheme {
        "unix" => {
            let (path, kind) = rest.split_once('#').unwrap_or((rest, ""));
            let datagram = || {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path).map(|()| Socket::from(socket))
            };
            let stream = || UnixStream::connect(path).map(Socket::from);
            match kind {
                "dgram" => datagram(),
                "stream" => stream(),
                _ => datagram().or_else(|_| stream()),
            }
        }
        "udp" | "tcp" => {
            let host = if rest.is_empty() { "localhost" } else { rest };
            // A port behind the last colon, but for one within brackets.
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
            let host = if has_port { host.to_owned() } else { format!("{host}:514") };
            let mut failure = invalid();
            for address in host.to_socket_addrs()? {
                let connected = match scheme {
                    "tcp" => TcpStream::connect_timeout(&address, std::time::Duration::from_secs(5))
                        .map(Socket::from),
                    _ => {
                        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                        UdpSocket::bind(any)
                            .and_then(|socket| socket.connect(address).map(|()| socket.into()))
                    }
                };
                match connected {
                    Ok(socket) => return Ok(socket),
                    Err(error) => failure = error,
                }
            }
            Err(failure)
        }
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(address: &str) -> Config {
        Config { syslog: true, syslog_addr: address.to_owned(), ..Config::default() }
    }

    #[test]
    fn messages_have_the_form_of_pythons_handler() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = format!("udp://{}", server.local_addr().unwrap());
        let config = Config { syslog_prefix: Some("shop".into()), ..config(&address) };
        let syslog = Syslog::open(&config, "error").unwrap().unwrap();
        syslog.send(LogLevel::Warning, "watch out");
        let mut buffer = [0; 200];
        let length = server.recv(&mut buffer).unwrap();
        let expected = format!("<12>gunicorn.shop.error: [{}] watch out\0", std::process::id());
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), expected);
    }

    #[test]
    fn unix_sockets_of_both_kinds_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let _server = UnixDatagram::bind(&path).unwrap();
        assert!(Syslog::open(&config(&format!("unix://{}", path.display())), "error").is_ok());
        assert!(Syslog::open(&config(&format!("unix://{}#dgram", path.display())), "error").is_ok());
        assert!(Syslog::open(&config(&format!("unix://{}#stream", path.display())), "error").is_err());
    }

    #[test]
    fn mistakes_name_the_setting() {
        for (address, facility, problem) in [
            ("localhost", "user", "syslog_addr: \"localhost\": an address is"),
            ("smoke://x", "user", "syslog_addr"),
            ("unix:///nowhere/log", "user", "syslog_addr"),
            ("udp://127.0.0.1:514", "nobody", "syslog_facility: \"nobody\" is no facility"),
        ] {
            let config = Config { syslog_facility: facility.into(), ..config(address) };
            let error = Syslog::open(&config, "error").unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        assert!(Syslog::open(&Config::default(), "error").unwrap().is_none());
    }
}
