//! Metrics for StatsD, under gunicorn's names (gunicorn: `statsd_host`, `statsd_prefix`, `dogstatsd_tags`).
//!
//! Lines gather and go out together, as many as fit into a datagram, before the process waits. What can't be sent is dropped.

use std::fmt::Write;
use std::io;
use std::net::{ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use socket2::Socket;

use crate::config::Config;

/// What a datagram may hold to pass any network unfragmented, in bytes.
const DATAGRAM: usize = 1400;

/// A connection to a StatsD server.
#[derive(Debug)]
pub struct Statsd {
    socket: Socket,
    prefix: String,
    /// What stands behind each line.
    tags: String,
    lines: String,
}

impl Statsd {
    /// Connects to where the settings say; none if they don't want it.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn open(config: &Config) -> Result<Option<Statsd>, String> {
        let Some(address) = &config.statsd_host else { return Ok(None) };
        let socket = connect(address).map_err(|error| format!("statsd_host: {address:?}: {error}"))?;
        let prefix = match config.statsd_prefix.trim_end_matches('.') {
            "" => String::new(),
            prefix => format!("{prefix}."),
        };
        let tags = match config.dogstatsd_tags.as_str() {
            "" => String::new(),
            tags => format!("|#{tags}"),
        };
        Ok(Some(Statsd { socket, prefix, tags, lines: String::new() }))
    }

    /// A request was answered.
    pub fn request(&mut self, status: u16, took: Duration) {
        let milliseconds = took.as_secs_f64() * 1000.0;
        self.line(format_args!("gunicorn.request.duration:{milliseconds:.3}|ms"));
        self.line(format_args!("gunicorn.requests:1|c|@1.0"));
        self.line(format_args!("gunicorn.request.status.{status}:1|c|@1.0"));
    }

    /// Something has the value `value` now.
    pub fn gauge(&mut self, name: &str, value: u64) {
        self.line(format_args!("{name}:{value}|g"));
    }

    /// Something has happened once more.
    pub fn count(&mut self, name: &str) {
        self.line(format_args!("{name}:1|c|@1.0"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let start = self.lines.len();
        // A string takes anything.
        let _ = writeln!(self.lines, "{}{line}{}", self.prefix, self.tags);
        if self.lines.len() > DATAGRAM && start > 0 {
            let last = self.lines.split_off(start);
            self.flush();
            self.lines = last;
        }
    }

    /// Sends what has gathered. Cheap if nothing has.
    pub fn flush(&mut self) {
        if !self.lines.is_empty() {
            let lines = self.lines.trim_end();
            // As gunicorn, which sends to nobody in silence.
            let _ = self.socket.send_with_flags(lines.as_bytes(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
            self.lines.clear();
        }
    }
}

impl Drop for Statsd {
    fn drop(&mut self) {
        self.flush();
    }
}

/// `HOST:PORT` or `unix://PATH`.
fn connect(address: &str) -> io::Result<Socket> {
    if let Some(path) = address.strip_prefix("unix://") {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        return Ok(socket.into());
    }
    let expected = || io::Error::new(io::ErrorKind::InvalidInput, "an address is HOST:PORT or unix://PATH");
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    port.ok_or_else(expected)?;
    let address = address.to_socket_addrs()?.next().ok_or_else(expected)?;
    let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(address)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> (UdpSocket, Config) {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let statsd_host = Some(server.local_addr().unwrap().to_string());
        (server, Config { statsd_host, ..Config::default() })
    }

    fn received(server: &UdpSocket) -> String {
        let mut buffer = [0; 2000];
        let length = server.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn lines_are_gunicorns_and_go_out_together() {
        let (server, config) = server();
        let mut statsd = Statsd::open(&config).unwrap().unwrap();
        statsd.request(404, Duration::from_micros(12_345));
        statsd.gauge("gunicorn.workers", 3);
        statsd.flush();
        assert_eq!(
            received(&server),
            "gunicorn.request.duration:12.345|ms\ngunicorn.requests:1|c|@1.0\n\
             gunicorn.request.status.404:1|c|@1.0\ngunicorn.workers:3|g"
        );
    }

    #[test]
    fn prefix_and_tags_are_around_each_line() {
        let (server, config) = server();
        let config =
            Config { statsd_prefix: "shop..".into(), dogstatsd_tags: "env:prod,tier:web".into(), ..config };
        Statsd::open(&config).unwrap().unwrap().count("gunicorn.log.error");
        assert_eq!(received(&server), "shop.gunicorn.log.error:1|c|@1.0|#env:prod,tier:web");
    }

    #[test]
    fn a_datagram_is_never_too_long() {
        let (server, config) = server();
        let mut statsd = Statsd::open(&config).unwrap().unwrap();
        (0..100).for_each(|_| statsd.request(200, Duration::ZERO));
        drop(statsd);
        server.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let (mut buffer, mut lines) = ([0; 2000], 0);
        while let Ok(length) = server.recv(&mut buffer) {
            assert!(length <= DATAGRAM);
            lines += String::from_utf8_lossy(&buffer[..length]).lines().count();
        }
        assert_eq!(lines, 300);
    }

    #[test]
    fn mistakes_name_the_setting() {
        for address in ["localhost", "localhost:many", "unix:///nowhere/statsd"] {
            let config = Config { statsd_host: Some(address.into()), ..Config::default() };
            assert!(Statsd::open(&config).unwrap_err().starts_with("statsd_host: "), "{address}");
        }
    }
}
