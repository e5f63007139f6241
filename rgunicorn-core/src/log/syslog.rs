//! The logs' way to syslog (gunicorn: `syslog`, `syslog_addr`, `syslog_prefix`, `syslog_facility`).
//!
//! A message is one datagram, or one `send(2)` to a stream, in the form of Python's `SysLogHandler`: `<priority>`, text, NUL.

use socket2::Type;

use super::receiver::{Place, Receiver};
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

/// The way to syslog, for one of the two logs.
#[derive(Debug)]
pub(super) struct Syslog {
    receiver: Receiver,
    facility: u8,
    /// `gunicorn.NAME.error` or `.access`: what filters of syslog's know.
    tag: String,
}

impl Syslog {
    /// The way to where the settings say, for the log `name`, and what is to be said if nobody is there; none if they don't
    /// want it.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub(super) fn open(config: &Config, name: &str) -> Result<(Option<Syslog>, Option<String>), String> {
        if !config.syslog {
            return Ok((None, None));
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
        let place = place(address).ok_or_else(|| format!("syslog_addr: {address:?}: {EXPECTED}"))?;
        let (mut receiver, failed) = Receiver::open("syslog_addr", address, place);
        let absence = failed.map(|error| receiver.absence(&error));
        let prefix = config.syslog_prefix.clone().unwrap_or_else(|| config.proc_name().replace(':', "."));
        Ok((Some(Syslog { receiver, facility, tag: format!("gunicorn.{prefix}.{name}") }), absence))
    }

    /// Sends a message. Returns what there is to say of some that were lost.
    #[must_use]
    pub(super) fn send(&mut self, level: LogLevel, message: &str) -> Option<String> {
        let severity = match level {
            LogLevel::Debug => 7,
            LogLevel::Info => 6,
            LogLevel::Warning => 4,
            LogLevel::Error => 3,
            LogLevel::Critical => 2,
        };
        let priority = self.facility * 8 + severity;
        let line = format!("<{priority}>{}: [{}] {message}\0", self.tag, std::process::id());
        self.receiver.send(line.as_bytes())
    }
}

const EXPECTED: &str =
    "an address is udp://HOST:PORT, tcp://HOST:PORT, or unix://PATH, perhaps with #dgram or #stream";

/// `udp://HOST:PORT`, `tcp://HOST:PORT`, `unix://PATH` with `#dgram` or `#stream` behind it where only that will do.
fn place(address: &str) -> Option<Place> {
    let (scheme, rest) = address.split_once("://")?;
    let internet = |kind| {
        let host = if rest.is_empty() { "localhost" } else { rest };
        // A port behind the last colon, but for one within brackets.
        let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.contains(']'));
        match port {
            Some(port) => port.parse::<u16>().is_ok().then(|| Place::Internet(host.to_owned(), kind)),
            None => Some(Place::Internet(format!("{host}:514"), kind)),
        }
    };
    match scheme {
        "unix" => {
            let (path, kind) = rest.split_once('#').unwrap_or((rest, ""));
            let kinds: &[Type] = match kind {
                "dgram" => &[Type::DGRAM],
                "stream" => &[Type::STREAM],
                _ => &[Type::DGRAM, Type::STREAM],
            };
            Some(Place::Unix(path.into(), kinds))
        }
        "udp" => internet(Type::DGRAM),
        "tcp" => internet(Type::STREAM),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    fn config(address: &str) -> Config {
        Config { syslog: true, syslog_addr: address.to_owned(), ..Config::default() }
    }

    #[test]
    fn messages_have_the_form_of_pythons_handler() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = format!("udp://{}", server.local_addr().unwrap());
        let config = Config { syslog_prefix: Some("shop".into()), ..config(&address) };
        let mut syslog = Syslog::open(&config, "error").unwrap().0.unwrap();
        assert_eq!(syslog.send(LogLevel::Warning, "watch out"), None);
        let mut buffer = [0; 200];
        let length = server.recv(&mut buffer).unwrap();
        let expected = format!("<12>gunicorn.shop.error: [{}] watch out\0", std::process::id());
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), expected);
    }

    #[test]
    fn unix_sockets_of_both_kinds_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        let absence = |kind: &str| {
            let config = config(&format!("unix://{}{kind}", path.display()));
            Syslog::open(&config, "error").unwrap().1
        };
        assert_eq!((absence(""), absence("#dgram")), (None, None));
        let wrong = absence("#stream").unwrap();
        assert!(wrong.ends_with("what is for it is lost until it is there"), "{wrong}");
        drop(server);
        std::fs::remove_file(&path).unwrap();
        let _server = UnixListener::bind(&path).unwrap();
        assert_eq!((absence(""), absence("#stream")), (None, None));
        assert!(absence("#dgram").is_some());
    }

    #[test]
    fn mistakes_name_the_setting() {
        for (address, facility, problem) in [
            ("localhost", "user", "syslog_addr: \"localhost\": an address is"),
            ("smoke://x", "user", "syslog_addr"),
            ("udp://localhost:many", "user", "syslog_addr"),
            ("udp://127.0.0.1:514", "nobody", "syslog_facility: \"nobody\" is no facility"),
        ] {
            let config = Config { syslog_facility: facility.into(), ..config(address) };
            let error = Syslog::open(&config, "error").unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        assert!(Syslog::open(&Config::default(), "error").unwrap().0.is_none());
    }
}
