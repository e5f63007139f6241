//! Bytes on their way to a client: what was produced and not yet taken by its socket.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;

use super::transport::{Moved, Transport};
use crate::app::OwnedBytes;

/// A stretch of output behind the buffer.
enum Segment {
    Bytes(Vec<u8>),
    Owned(OwnedBytes),
    /// `remaining` bytes of `file` from `offset` on. `owner` keeps alive what the file belongs to.
    File {
        file: File,
        offset: u64,
        remaining: u64,
        owner: Option<Box<dyn Send>>,
    },
}

/// What a flush came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// All is in the kernel.
    Everything,
    /// The client's socket is full.
    Blocked,
}

/// A queue of bytes for one client. The buffer goes first, then the segments; almost every response needs the buffer
/// alone, which is reused.
#[derive(Default)]
pub(crate) struct Output {
    buffer: Vec<u8>,
    /// How much of the front (the buffer if it isn't used up, else the first segment's bytes) was sent.
    sent: usize,
    segments: VecDeque<Segment>,
    /// How many bytes were ever sent.
    taken: u64,
    /// Owners of files that were sent, to be dropped where the application runs.
    retired: Vec<Box<dyn Send>>,
}

impl Output {
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.buffer.len() && self.segments.is_empty()
    }

    /// How many bytes wait in memory.
    pub(crate) fn in_memory(&self) -> usize {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Bytes(bytes) => bytes.len(),
            Segment::Owned(bytes) => (**bytes).as_ref().len(),
            Segment::File { .. } => 0,
        });
        self.buffer.len().saturating_add(segments.sum()).saturating_sub(self.sent)
    }

    /// Whether files are part of it, or were and wait to be dropped.
    pub(crate) fn holds_files(&self) -> bool {
        self.has_retired() || self.segments.iter().any(|segment| matches!(segment, Segment::File { .. }))
    }

    /// How many bytes clients have taken of it so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// The place to append bytes to.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        if self.segments.is_empty() {
            return &mut self.buffer;
        }
        if !matches!(self.segments.back(), Some(Segment::Bytes(_))) {
            self.segments.push_back(Segment::Bytes(Vec::new()));
        }
        match self.segments.back_mut() {
            Some(Segment::Bytes(bytes)) => bytes,
            _ => &mut self.buffer,
        }
    }

    pub(crate) fn push_owned(&mut self, bytes: OwnedBytes) {
        self.segments.push_back(Segment::Owned(bytes));
    }

    pub(crate) fn push_file(
        &mut self,
        file: File,
        offset: u64,
        remaining: u64,
        owner: Option<Box<dyn Send>>,
    ) {
        self.segments.push_back(Segment::File { file, offset, remaining, owner });
    }

    /// Moves the bytes in memory at the end of the queue to a temporary file made by `create`.
    ///
    /// # Errors
    /// When they can't be written; they stay where they are.
    pub(crate) fn spill(&mut self, create: impl FnOnce() -> io::Result<File>) -> io::Result<()> {
        let (bytes, before) = match self.segments.make_contiguous() {
            [] => (self.buffer.get(self.sent..).unwrap_or(&[]), None),
            [before @ .., Segment::Bytes(bytes)] => (bytes.as_slice(), before.last_mut()),
            _ => return Ok(()),
        };
        let length = bytes.len() as u64;
        // Only files of our own making have no owner; those may grow.
        let made = match before {
            Some(Segment::File { file, offset, remaining, owner: None }) => {
                file.write_all_at(bytes, *offset + *remaining)?;
                *remaining += length;
                None
            }
            _ => {
                let file = create()?;
                file.write_all_at(bytes, 0)?;
                Some(file)
            }
        };
        if self.segments.pop_back().is_none() {
            self.buffer.truncate(self.sent);
        }
        if let Some(file) = made {
            self.push_file(file, 0, length, None);
        }
        Ok(())
    }

    /// Writes as much as the client takes.
    pub(crate) fn flush(&mut self, transport: &Transport) -> io::Result<Flushed> {
        loop {
            let front = self.buffer.get(self.sent..).unwrap_or(&[]);
            let moved = match (front.is_empty(), self.segments.front_mut()) {
                (true, None) => {
                    self.buffer.clear();
                    self.sent = 0;
                    return Ok(Flushed::Everything);
                }
                (false, Some(Segment::Owned(bytes))) => {
                    transport.write_vectored(&[IoSlice::new(front), IoSlice::new((**bytes).as_ref())])?
                }
                (false, _) => transport.write(front)?,
                (true, Some(Segment::Bytes(_))) => {
                    // The next stretch of bytes becomes the buffer: one place knows how to send bytes.
                    if let Some(Segment::Bytes(bytes)) = self.segments.pop_front() {
                        self.buffer = bytes;
                        self.sent = 0;
                    }
                    continue;
                }
                (true, Some(Segment::Owned(bytes))) => {
                    let rest = (**bytes).as_ref().get(self.sent - self.buffer.len()..).unwrap_or(&[]);
                    if rest.is_empty() {
                        self.next_segment();
                        continue;
                    }
                    transport.write(rest)?
                }
                (true, Some(Segment::File { file, offset, remaining, .. })) => {
                    if *remaining == 0 {
                        self.next_segment();
                        continue;
                    }
                    match transport.write_file(file, *offset, *remaining)? {
                        Moved::Some(count) => {
                            self.taken += count as u64;
                            *offset += count as u64;
                            *remaining -= count as u64;
                            continue;
                        }
                        Moved::Blocked => Moved::Blocked,
                        Moved::Closed => {
                            return Err(io::Error::new(
                                io::ErrorKind::UnexpectedEof,
                                format!(
                                    "the file being sent ended {remaining} bytes before its announced length"
                                ),
                            ));
                        }
                    }
                }
            };
            match moved {
                Moved::Some(count) => {
                    self.taken += count as u64;
                    self.sent += count;
                }
                Moved::Blocked | Moved::Closed => {
                    self.forget_sent();
                    return Ok(Flushed::Blocked);
                }
            }
        }
    }

    /// A client that always leaves a little behind must not make the buffer grow for good.
    fn forget_sent(&mut self) {
        if self.sent <= self.buffer.len() && self.sent > self.buffer.len() / 2 {
            self.buffer.drain(..self.sent);
            self.sent = 0;
        }
    }

    fn next_segment(&mut self) {
        if let Some(Segment::File { owner: Some(owner), .. }) = self.segments.pop_front() {
            self.retired.push(owner);
        }
        self.buffer.clear();
        self.sent = 0;
    }

    /// Whether something waits to be dropped by [`clear`](Self::clear) or [`drop_retired`](Self::drop_retired), where
    /// the application runs.
    pub(crate) fn holds_owners(&self) -> bool {
        !self.retired.is_empty()
            || self.segments.iter().any(|s| matches!(s, Segment::File { owner: Some(_), .. }))
    }

    /// Drops the owners of files that were sent.
    pub(crate) fn drop_retired(&mut self) {
        self.retired.clear();
    }

    /// Whether owners of files that were sent wait to be dropped.
    pub(crate) fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Forgets everything that was not sent.
    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.sent = 0;
        self.segments.clear();
        self.retired.clear();
    }

    /// Takes the buffer away, if nothing is in it, for use elsewhere.
    pub(crate) fn take_buffer(&mut self) -> Option<Vec<u8>> {
        (self.is_empty() && self.buffer.capacity() > 0).then(|| {
            self.sent = 0;
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            buffer
        })
    }

    /// Keeps no large buffer without need.
    pub(crate) fn trim(&mut self) {
        const SMALL: usize = 4096;
        if self.is_empty() && self.buffer.capacity() > SMALL {
            self.buffer = Vec::new();
            self.sent = 0;
        }
    }

    /// Gives it a buffer to start with, if it has none.
    pub(crate) fn lend_buffer(&mut self, make: impl FnOnce() -> Vec<u8>) {
        if self.buffer.capacity() == 0 {
            self.buffer = make();
        }
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("in_memory", &self.in_memory())
            .field("segments", &self.segments.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn pair() -> (Transport, Socket) {
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
        ours.set_nonblocking(true).unwrap();
        (Transport::new(ours, 0), theirs)
    }

    #[test]
    fn what_can_t_be_spilled_stays() {
        let (transport, mut client) = pair();
        let mut output = Output::default();
        for piece in ["one", " two", " three"] {
            output.tail().extend_from_slice(piece.as_bytes());
            assert!(output.spill(|| Err(io::ErrorKind::StorageFull.into())).is_err());
        }
        output.spill(tempfile::tempfile).unwrap();
        output.tail().extend_from_slice(b" four");
        output.spill(|| panic!("there is a file already")).unwrap();
        output.push_owned(Box::new(" five"));
        output.tail().extend_from_slice(b" six");
        output.spill(tempfile::tempfile).unwrap();
        assert_eq!(output.in_memory(), " five".len());
        assert_eq!(output.flush(&transport).unwrap(), Flushed::Everything);
        drop(transport);
        let mut got = String::new();
        client.read_to_string(&mut got).unwrap();
        assert_eq!(got, "one two three four five six");
    }

    #[test]
    fn a_client_that_always_leaves_a_little_behind_costs_no_more_than_that() {
        let (transport, mut client) = pair();
        let mut output = Output::default();
        let mut taken = vec![0; 64 * 1024];
        let mut bytes = 0;
        while bytes < 64 << 20 {
            output.tail().extend_from_slice(&[b'x'; 60 * 1024]);
            if output.flush(&transport).unwrap() == Flushed::Blocked {
                bytes += client.read(&mut taken).unwrap();
            }
        }
        assert_eq!(output.taken() as usize / (1 << 20), 64);
        assert!(output.buffer.capacity() < 4 << 20, "{}", output.buffer.capacity());
    }
}
