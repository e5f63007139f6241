//! One who came to the arbiter's desk: bytes in, a question, bytes out; with commands, one after the other.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::PollFlags;
use socket2::Socket;

use crate::http::{HeadReader, Policy, RequestHead};
use crate::sys::net;

/// How much a visitor may say at a time, in bytes.
const LONGEST: usize = 16 * 1024;

/// What a visitor has come for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A page, by HTTP: one a connection.
    Web,
    /// Commands, one a line.
    Control,
}

impl Kind {
    /// How many there can be of it at a time.
    pub(super) fn places(self) -> usize {
        match self {
            Kind::Web => 64,
            Kind::Control => 16,
        }
    }

    /// How long a visitor may go without asking, or take for an answer, in milliseconds.
    fn patience(self) -> u64 {
        match self {
            Kind::Web => 5000,
            Kind::Control => 60_000,
        }
    }
}

/// What a visitor asks.
#[derive(Debug)]
pub(super) enum Asked {
    /// For a page.
    Page { path: String, head_only: bool },
    /// A command.
    Command(Vec<u8>),
    /// Nothing that can be understood.
    Bad,
}

/// One who came to the arbiter's desk.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) id: u64,
    /// When patience with it ends, in milliseconds of the monotonic clock.
    pub(super) leaves_at: u64,
    pub(super) kind: Kind,
    stream: Socket,
    input: Vec<u8>,
    reader: HeadReader,
    /// What it is answered, and how much of that is sent; none until it has asked.
    output: Option<(Vec<u8>, usize)>,
    /// It has asked, and was not answered.
    waits: bool,
    gone: bool,
}

impl Visitor {
    pub(super) fn new(id: u64, kind: Kind, stream: Socket, now: u64) -> Visitor {
        Visitor {
            id,
            leaves_at: now + kind.patience(),
            kind,
            stream,
            input: Vec::new(),
            reader: HeadReader::default(),
            output: None,
            waits: false,
            gone: false,
        }
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> PollFlags {
        match (&self.output, self.waits) {
            (Some(_), _) => PollFlags::POLLOUT,
            // It will hear from us; should it leave, that is told unasked.
            (None, true) => PollFlags::empty(),
            (None, false) => PollFlags::POLLIN,
        }
    }

    /// Tells who is to leave when there is no room: the least first; none for one that waits for us.
    pub(super) fn uselessness(&self) -> Option<(bool, u64)> {
        (!self.waits).then_some((self.output.is_some(), self.leaves_at))
    }

    /// Whether there is nothing left to do for it.
    pub(super) fn is_done(&self) -> bool {
        self.gone
    }

    /// Reads and sends as far as that goes; its question, once it is complete.
    pub(super) fn turn(&mut self, now: u64) -> Option<Asked> {
        self.send(now);
        if self.output.is_some() || self.waits || self.gone {
            return None;
        }
        let asked = self.question().or_else(|| {
            self.receive();
            self.question()
        });
        self.waits = asked.is_some();
        asked
    }

    fn receive(&mut self) {
        while !self.gone && self.input.len() <= LONGEST {
            self.input.reserve(2048);
            match net::receive(&self.stream, &mut self.input) {
                Ok(0) => self.gone = true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.gone = true,
            }
        }
    }

    fn question(&mut self) -> Option<Asked> {
        match self.kind {
            Kind::Web => self.page(),
            Kind::Control => self.command(),
        }
    }

    fn page(&mut self) -> Option<Asked> {
        let mut head = RequestHead::default();
        match self.reader.read(&mut self.input, &mut head, &Policy::default(), false) {
            Ok(true) => {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                let head_only = head.method.of(&self.input) == b"HEAD";
                Some(Asked::Page { path: text(head.path.of(&self.input)), head_only })
            }
            Ok(false) if self.input.len() <= LONGEST => None,
            Ok(false) | Err(_) => Some(Asked::Bad),
        }
    }

    fn command(&mut self) -> Option<Asked> {
        let Some(end) = memchr::memchr(b'\n', &self.input) else {
            // No command is so long.
            self.gone |= self.input.len() > LONGEST;
            return None;
        };
        let mut line: Vec<u8> = self.input.drain(..=end).collect();
        line.truncate(end);
        Some(Asked::Command(line))
    }

    /// Gives it its answer.
    pub(super) fn answer(&mut self, answer: Vec<u8>, now: u64) {
        self.output = Some((answer, 0));
        self.waits = false;
        self.send(now);
    }

    fn send(&mut self, now: u64) {
        let Some((bytes, sent)) = &mut self.output else { return };
        while let Some(rest) = bytes.get(*sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.gone |= error.kind() != io::ErrorKind::WouldBlock;
                    return;
                }
            }
        }
        self.output = None;
        self.gone |= self.kind == Kind::Web;
        self.leaves_at = now + self.kind.patience();
    }
}

impl AsFd for Visitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
