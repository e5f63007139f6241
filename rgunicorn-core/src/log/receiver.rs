//! Another program that takes what is sent to it, syslog or StatsD: it may come late, be started again, or be slow.
//!
//! As gunicorn, we wait for one that is slow, for a Unix socket has room for some ten messages and a burst is no fault of
//! anybody's; unlike gunicorn never for long, for a server that waits for a daemon that hangs is down. What is lost is
//! counted, and said.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::sync::lock;
use crate::sys::net;

/// How long we wait for one message to be taken. Who has taken nothing for so long isn't waited for, until it takes something.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How long we wait for a burst, all in all. What was waited comes back at half the pace of time: a daemon that is always
/// slower than we are slows us down to half.
const CREDIT: Duration = Duration::from_secs(5);
/// Between two attempts to make a connection by TCP: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Between two words on messages that were lost: at first, and at most.
const SILENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3600));
/// For how long a name that can't be resolved isn't looked up by others.
const LOOK_UP: Duration = Duration::from_secs(60);
/// What is left of a message that is too long for a datagram, in bytes.
const CUT: usize = 8 * 1024;

/// Where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// At a Unix socket, of the first of these kinds that it is.
    Unix(PathBuf, &'static [Type]),
    /// At `HOST:PORT`.
    Internet(String, Type),
}

/// One such program, and the way to it.
#[derive(Debug)]
pub(super) struct Receiver {
    /// What messages about it begin with: the setting, and its value.
    name: String,
    place: Place,
    /// What the host's name stood for when it was last asked for.
    addresses: Vec<SocketAddr>,
    link: Option<Link>,
    /// When TCP may be tried again, and how long it is to be left alone after that.
    retry: Option<(Instant, Duration)>,
    credit: Duration,
    credited: Instant,
    /// Whether it has taken nothing for all of a wait.
    stuck: bool,
    /// Messages of which nobody knows yet, and why the last of them is lost.
    lost: u64,
    reason: String,
    /// When something was last said, and for how long nothing is to be said after it.
    said: Option<(Instant, Duration)>,
}

#[derive(Debug)]
struct Link {
    socket: Socket,
    kind: Type,
    /// Whether it has taken anything: by TCP it may not be there yet.
    proven: bool,
}

impl Receiver {
    /// The program at `place`, which need not be there yet; `setting` and `value` name it. With an error where it isn't.
    pub(super) fn open(setting: &str, value: &str, place: Place) -> (Receiver, Option<io::Error>) {
        let mut receiver = Receiver {
            name: format!("{setting}: {value:?}"),
            place,
            addresses: Vec::new(),
            link: None,
            retry: None,
            credit: CREDIT,
            credited: Instant::now(),
            stuck: false,
            lost: 0,
            reason: String::new(),
            said: None,
        };
        if let Place::Internet(host, _) = &receiver.place {
            match look_up(host) {
                Ok(addresses) => receiver.addresses = addresses,
                Err(error) => return (receiver, Some(error)),
            }
        }
        let failed = receiver.connect().and_then(|()| receiver.arrive()).err();
        (receiver, failed)
    }

    /// What is to be said of a receiver that isn't there at the start. Nothing more is said of it for a while.
    pub(super) fn absence(&mut self, error: &io::Error) -> String {
        self.said = Some((Instant::now(), SILENCE.0));
        let later = match (&self.place, self.addresses.is_empty()) {
            (Place::Internet(..), true) => "until a worker starts, or a reload, that can find it",
            _ => "until it is there",
        };
        format!("{}: {error}; what is for it is lost {later}", self.name)
    }

    /// Sends a message. Returns what there is to say of messages that were lost.
    #[must_use]
    pub(super) fn send(&mut self, message: &[u8]) -> Option<String> {
        match self.deliver(message) {
            Ok(()) => self.recovered(),
            Err(error) => self.lose(&error),
        }
    }

    fn deliver(&mut self, mut message: &[u8]) -> io::Result<()> {
        let mut again = true;
        loop {
            let made = self.link.is_none();
            if made {
                self.connect()?;
            }
            let Err(error) = self.push(message) else { return Ok(()) };
            let kind = self.link.as_ref().map(|link| link.kind);
            match error.raw_os_error() {
                // It is there, and has no room.
                Some(libc::EAGAIN | libc::ENOBUFS) => return Err(error),
                Some(libc::EMSGSIZE) if message.len() > CUT && kind == Some(Type::DGRAM) => {
                    message = message.get(..CUT).unwrap_or(message);
                    continue;
                }
                _ => {}
            }
            if matches!(self.place, Place::Internet(_, Type::DGRAM)) {
                // What is said here is said of a datagram before this one.
                if !std::mem::take(&mut again) {
                    return Err(error);
                }
                self.count(&error);
                continue;
            }
            // It is gone, or another one has come in its place.
            if self.link.take().is_some_and(|link| !link.proven) {
                self.leave_alone();
                return Err(error);
            }
            if made || !std::mem::take(&mut again) {
                return Err(error);
            }
            if kind == Some(Type::STREAM) {
                // Nobody knows how much of what was on its way.
                self.count(&error);
            }
        }
    }

    /// Gives the message to the kernel, all of it.
    fn push(&mut self, mut message: &[u8]) -> io::Result<()> {
        let Some(Link { socket, kind, proven }) = &mut self.link else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let (flags, stream) = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL, *kind == Type::STREAM);
        let mut begun = false;
        let mut waited: Option<Instant> = None;
        let result = loop {
            match socket.send_with_flags(message, flags) {
                Ok(count) if stream && count < message.len() => {
                    begun = true;
                    message = message.get(count..).unwrap_or(&[]);
                }
                Ok(_) => break Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && !self.stuck => {
                    let start = *waited.get_or_insert_with(Instant::now);
                    self.credit = CREDIT.min(self.credit + (start - self.credited.min(start)) / 2);
                    self.credited = start;
                    let left = LONGEST_WAIT.min(self.credit).saturating_sub(start.elapsed());
                    if left.is_zero() || !net::has_room(socket.as_fd(), left)? {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        if let Some(start) = waited {
            let spent = start.elapsed();
            self.credit = self.credit.saturating_sub(spent);
            self.credited = start + spent;
            self.stuck = result.is_err() && spent >= LONGEST_WAIT;
        }
        if result.is_ok() {
            (*proven, self.stuck, self.retry) = (true, false, None);
        }
        if begun && result.is_err() {
            // Half a message went out: nothing behind it would be understood.
            self.link = None;
        }
        result
    }

    fn connect(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let link = match &self.place {
            Place::Unix(path, kinds) => {
                let address = SockAddr::unix(path)?;
                first(kinds.iter().map(|kind| {
                    let socket = Socket::new(Domain::UNIX, *kind, None)?;
                    // A stream whose listener has no room is as one that isn't there.
                    socket.set_nonblocking(true)?;
                    socket.connect(&address)?;
                    Ok((socket, *kind))
                }))
            }
            Place::Internet(_, kind) => {
                if let Some((at, _)) = self.retry.filter(|(at, _)| now < *at && *kind == Type::STREAM) {
                    let seconds = (at - now).as_secs() + 1;
                    return Err(io::Error::other(format!(
                        "it can't be reached, and is tried again in {seconds} s"
                    )));
                }
                first(self.addresses.iter().map(|address| {
                    let socket = Socket::new(Domain::for_address(*address), *kind, None)?;
                    socket.set_nonblocking(true)?;
                    match socket.connect(&(*address).into()) {
                        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
                        _ => Ok((socket, *kind)),
                    }
                }))
            }
        };
        match link {
            Ok((socket, kind)) => {
                self.link = Some(Link { socket, kind, proven: false });
                Ok(())
            }
            Err(error) => {
                self.leave_alone();
                Err(error)
            }
        }
    }

    /// Waits for a moment until the connection is made, so that what is wrong with it is known.
    fn arrive(&mut self) -> io::Result<()> {
        let Some(Link { socket, .. }) = &self.link else { return Ok(()) };
        if !net::has_room(socket.as_fd(), LONGEST_WAIT)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match socket.take_error()? {
            None => Ok(()),
            Some(error) => {
                self.link = None;
                self.leave_alone();
                Err(error)
            }
        }
    }

    /// There was no connection to be had: for a while it isn't asked for, and then first at the host's next address.
    fn leave_alone(&mut self) {
        let pause = self.retry.map_or(RETRY.0, |(_, pause)| RETRY.1.min(pause * 2));
        self.retry = Some((Instant::now() + pause, pause));
        if !self.addresses.is_empty() {
            self.addresses.rotate_left(1);
        }
    }

    /// A message is lost. What is to be said about it, if it is time to say something.
    fn lose(&mut self, error: &io::Error) -> Option<String> {
        self.count(error);
        let silence = self.next_word()?;
        Some(self.say(silence))
    }

    fn count(&mut self, error: &io::Error) {
        self.lost += 1;
        self.reason = error.to_string();
    }

    fn say(&mut self, silence: Duration) -> String {
        self.said = Some((Instant::now(), silence));
        let lost = std::mem::take(&mut self.lost);
        format!("{}: {}; messages lost since this was last said: {lost}", self.name, self.reason)
    }

    /// A message was taken. What is to be said about others, if it is time to say something.
    fn recovered(&mut self) -> Option<String> {
        if self.lost == 0 {
            return None;
        }
        let longer = self.next_word()?;
        // A datagram that is sent to nobody looks no different.
        let certain = !matches!(self.place, Place::Internet(_, Type::DGRAM));
        Some(self.say(if certain { SILENCE.0 } else { longer }))
    }

    /// For how long nothing is to be said after a word now; none if it isn't time for one.
    fn next_word(&self) -> Option<Duration> {
        match self.said {
            None => Some(SILENCE.0),
            Some((at, silence)) => (at.elapsed() >= silence).then(|| SILENCE.1.min(silence * 2)),
        }
    }
}

/// Hosts that the main process found no address for, and when: the workers that it forks then need not wait for that again.
static UNKNOWN: Mutex<Vec<(String, u32, Instant)>> = Mutex::new(Vec::new());

/// The addresses of `HOST:PORT`.
fn look_up(host: &str) -> io::Result<Vec<SocketAddr>> {
    let own = std::process::id();
    let is_recent = |(name, process, at): &(String, u32, Instant)| {
        name == host && *process != own && at.elapsed() < LOOK_UP
    };
    if lock(&UNKNOWN).iter().any(is_recent) {
        return Err(io::Error::other("its name could not be resolved a moment ago"));
    }
    let found = host.to_socket_addrs();
    if found.is_err() {
        let mut unknown = lock(&UNKNOWN);
        unknown.retain(|(name, ..)| name != host);
        unknown.push((host.to_owned(), own, Instant::now()));
    }
    found.map(Iterator::collect)
}

/// The first that can be had, or why the last one can't.
fn first<T>(all: impl Iterator<Item = io::Result<T>>) -> io::Result<T> {
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for one in all {
        match one {
            Ok(one) => return Ok(one),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;

    use super::*;

    fn at(path: &Path) -> Receiver {
        let place = Place::Unix(path.to_owned(), &[Type::DGRAM]);
        Receiver::open("syslog_addr", "unix:///log", place).0
    }

    #[test]
    fn a_burst_waits_for_a_reader_that_is_slow() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut receiver = at(&path);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 100];
            (0..500_u32).all(|number| {
                // Slower than they come.
                std::thread::sleep(Duration::from_micros(200));
                let length = server.recv(&mut buffer).unwrap();
                buffer[..length] == *number.to_string().as_bytes()
            })
        });
        for number in 0..500 {
            assert_eq!(receiver.send(number.to_string().as_bytes()), None);
        }
        assert!(reader.join().unwrap(), "all came, in order");
    }

    #[test]
    fn one_that_hangs_is_waited_for_once_and_what_is_lost_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut receiver = at(&path);
        let start = Instant::now();
        let said: Vec<String> = (0..2000).filter_map(|_| receiver.send(b"x")).collect();
        assert!(start.elapsed() >= LONGEST_WAIT && receiver.stuck);
        // Not a second for each of them.
        assert!(start.elapsed() < LONGEST_WAIT * 60, "{:?}", start.elapsed());
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("syslog_addr: \"unix:///log\": Resource temporarily unavailable"),
            "{said:?}"
        );
        assert!(receiver.lost > 1000, "{}", receiver.lost);
        // It has recovered: the rest is said when it is time, and it is waited for again.
        let mut buffer = [0; 10];
        (0..5).for_each(|_| assert_eq!(server.recv(&mut buffer).unwrap(), 1));
        receiver.said = Some((Instant::now(), Duration::ZERO));
        let said = receiver.send(b"y").unwrap();
        assert!(said.contains("messages lost since this was last said: 1") && receiver.lost == 0, "{said}");
        assert!(!receiver.stuck);
    }

    #[test]
    fn one_that_comes_late_or_again_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut receiver = at(&path);
        let said = receiver.send(b"lost").unwrap();
        assert!(said.contains("No such file or directory") && said.ends_with(": 1"), "{said}");
        for round in 0..3 {
            let server = UnixDatagram::bind(&path).unwrap();
            server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            drop(receiver.send(format!("{round}").as_bytes()));
            let mut buffer = [0; 10];
            assert_eq!(server.recv(&mut buffer).unwrap(), 1);
            assert_eq!(buffer[0], b'0' + round);
            drop(server);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_stream_is_made_anew_and_takes_whole_messages() {
        use std::io::Read;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (mut receiver, failed) =
            Receiver::open("syslog_addr", "tcp://", Place::Internet(address, Type::STREAM));
        assert!(failed.is_none());
        drop(listener.accept().unwrap());
        // What is sent to one that is gone is lost before it is known to be gone.
        let (sender, received) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut connection = listener.accept().unwrap().0;
            sender.send(()).unwrap();
            let mut text = String::new();
            connection.read_to_string(&mut text).unwrap();
            text
        });
        while received.try_recv().is_err() {
            drop(receiver.send(b"early "));
            std::thread::sleep(Duration::from_millis(5));
        }
        let long = "x".repeat(3_000_000);
        assert_eq!(receiver.deliver(long.as_bytes()).err().map(|error| error.to_string()), None);
        drop(receiver);
        let text = reader.join().unwrap();
        assert!(text.starts_with("early ") && text.ends_with(&long), "{} bytes", text.len());
    }

    #[test]
    fn a_host_that_has_no_address_is_no_reason_to_wait() {
        let place = Place::Internet("agent.invalid:8125".into(), Type::DGRAM);
        let (mut receiver, failed) = Receiver::open("statsd_host", "agent.invalid:8125", place);
        let said = receiver.absence(&failed.unwrap());
        assert!(said.starts_with("statsd_host: \"agent.invalid:8125\": "), "{said}");
        assert!(
            said.ends_with("what is for it is lost until a worker starts, or a reload, that can find it"),
            "{said}"
        );
        assert_eq!(receiver.send(b"x"), None, "it was said");
        // Nor has one that is forked from here to wait for that again, for a minute.
        let unknown = |own: u32, at| *lock(&UNKNOWN) = vec![("localhost:1".into(), own, at)];
        let own = std::process::id();
        for (process, age, asks) in [(own + 1, 0, false), (own + 1, 61, true), (own, 0, true)] {
            let Some(at) = Instant::now().checked_sub(Duration::from_secs(age)) else { continue };
            unknown(process, at);
            assert_eq!(look_up("localhost:1").is_ok(), asks, "{process} {age}");
        }
    }

    #[test]
    fn datagrams_to_nobody_are_told_of_once() {
        let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (mut receiver, failed) =
            Receiver::open("statsd_host", &nobody, Place::Internet(nobody.clone(), Type::DGRAM));
        assert!(failed.is_none(), "nobody can know yet");
        let said: Vec<String> = (0..50).filter_map(|_| receiver.send(b"x")).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("Connection refused") && said[0].ends_with(": 1"), "{said:?}");
        assert!(receiver.lost > 10, "{}", receiver.lost);
    }

    #[test]
    fn a_message_that_is_too_long_is_cut() {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let place = Place::Internet(server.local_addr().unwrap().to_string(), Type::DGRAM);
        let (mut receiver, _) = Receiver::open("syslog_addr", "udp://", place);
        assert_eq!(receiver.send(&[b'x'; 100_000]), None);
        assert_eq!(server.recv(&mut [0; 20_000]).unwrap(), CUT);
    }
}
