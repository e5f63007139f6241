//! One who came to the arbiter's desk: bytes in, one question, bytes out.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::PollFlags;
use socket2::Socket;

use crate::http::{HeadReader, Policy, RequestHead};
use crate::sys::net;

/// How long a visitor may stay, in milliseconds.
const PATIENCE: u64 = 5000;
/// How much a visitor may say, in bytes.
const LONGEST: usize = 16 * 1024;

/// What a visitor wants.
#[derive(Debug)]
pub(super) enum Asked {
    /// A page, by HTTP.
    Page { path: String, head_only: bool },
    /// Nothing that can be understood.
    Bad,
}

/// One who came to the arbiter's desk.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) id: u64,
    /// When patience with it ends, in milliseconds of the monotonic clock.
    pub(super) leaves_at: u64,
    stream: Socket,
    input: Vec<u8>,
    reader: HeadReader,
    /// What it is answered, and how much of that is sent; none until it has asked.
    output: Option<(Vec<u8>, usize)>,
    asked: bool,
    gone: bool,
}

impl Visitor {
    pub(super) fn new(id: u64, stream: Socket, now: u64) -> Visitor {
        Visitor {
            id,
            leaves_at: now + PATIENCE,
            stream,
            input: Vec::new(),
            reader: HeadReader::default(),
            output: None,
            asked: false,
            gone: false,
        }
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> PollFlags {
        if self.output.is_some() { PollFlags::POLLOUT } else { PollFlags::POLLIN }
    }

    /// Whether there is nothing left to do for it.
    pub(super) fn is_done(&self) -> bool {
        self.gone || self.output.as_ref().is_some_and(|(bytes, sent)| *sent >= bytes.len())
    }

    /// Reads and sends as far as that goes; its question, once it is complete.
    pub(super) fn turn(&mut self) -> Option<Asked> {
        if self.output.is_some() {
            self.send();
            return None;
        }
        if self.asked {
            return None;
        }
        loop {
            self.input.reserve(2048);
            match net::receive(&self.stream, &mut self.input) {
                Ok(0) => self.gone = true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => self.gone = true,
            }
            if self.gone || self.input.len() > LONGEST {
                break;
            }
        }
        let asked = self.question();
        self.asked = asked.is_some();
        asked
    }

    fn question(&mut self) -> Option<Asked> {
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

    /// Gives it its answer.
    pub(super) fn answer(&mut self, answer: Vec<u8>) {
        self.output = Some((answer, 0));
        self.send();
    }

    fn send(&mut self) {
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
    }
}

impl AsFd for Visitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
