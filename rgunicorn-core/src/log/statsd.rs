//! Metrics for StatsD, under gunicorn's names (gunicorn: `statsd_host`, `statsd_prefix`, `dogstatsd_tags`).
//!
//! Lines gather and go out together, as many as fit into a datagram, before the process waits.

use std::fmt::Write;
use std::time::Duration;

use socket2::Type;

use super::receiver::{Place, Receiver};
use crate::config::Config;

/// What a datagram may hold to pass any network unfragmented, in bytes.
const DATAGRAM: usize = 1400;

/// The way to a StatsD server.
#[derive(Debug)]
pub struct Statsd {
    receiver: Receiver,
    prefix: String,
    /// What stands behind each line.
    tags: String,
    lines: String,
    /// What is to be said of lines that were lost.
    complaint: Option<String>,
}

impl Statsd {
    /// The way to where the settings say; none if they don't want it.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn open(config: &Config) -> Result<Option<Statsd>, String> {
        Self::find(config).map(|(statsd, _)| statsd)
    }

    /// As [`open`](Self::open), with what is to be said if nobody is there.
    pub(super) fn find(config: &Config) -> Result<(Option<Statsd>, Option<String>), String> {
        let Some(address) = &config.statsd_host else { return Ok((None, None)) };
        let expected = "an address is HOST:PORT or unix://PATH";
        let place = place(address).ok_or_else(|| format!("statsd_host: {address:?}: {expected}"))?;
        let (mut receiver, failed) = Receiver::open("statsd_host", address, place);
        let absence = failed.map(|error| receiver.absence(&error));
        let prefix = match config.statsd_prefix.trim_end_matches('.') {
            "" => String::new(),
            prefix => format!("{prefix}."),
        };
        let tags = match config.dogstatsd_tags.as_str() {
            "" => String::new(),
            tags => format!("|#{tags}"),
        };
        Ok((Some(Statsd { receiver, prefix, tags, lines: String::new(), complaint: None }), absence))
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

    /// One of many values of something.
    pub fn histogram(&mut self, name: &str, value: u64) {
        self.line(format_args!("{name}:{value}|h"));
    }

    /// A metric as the host's language has put it: what stands behind the prefix and before the tags.
    pub fn metric(&mut self, metric: &str) {
        self.line(format_args!("{metric}"));
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
            let complaint = self.receiver.send(self.lines.trim_end().as_bytes());
            self.complaint = complaint.or(self.complaint.take());
            self.lines.clear();
        }
    }

    /// What there is to say of metrics that were lost.
    #[must_use]
    pub fn take_complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }
}

impl Drop for Statsd {
    fn drop(&mut self) {
        self.flush();
    }
}

/// `HOST:PORT` or `unix://PATH`.
fn place(address: &str) -> Option<Place> {
    if let Some(path) = address.strip_prefix("unix://") {
        return Some(Place::Unix(path.into(), &[Type::DGRAM]));
    }
    let (_, port) = address.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    Some(Place::Internet(address.to_owned(), Type::DGRAM))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

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
        for address in ["localhost", "localhost:many"] {
            let config = Config { statsd_host: Some(address.into()), ..Config::default() };
            assert!(Statsd::open(&config).unwrap_err().starts_with("statsd_host: "), "{address}");
        }
    }

    #[test]
    fn one_that_is_not_there_is_no_mistake() {
        let config = Config { statsd_host: Some("unix:///nowhere/statsd".into()), ..Config::default() };
        let (statsd, absence) = Statsd::find(&config).unwrap();
        assert!(absence.unwrap().starts_with("statsd_host: \"unix:///nowhere/statsd\": No such file"));
        let mut statsd = statsd.unwrap();
        statsd.count("x");
        statsd.flush();
        assert_eq!(statsd.take_complaint(), None, "it was said");
    }
}
