//! A request body, as an application reads it.

use std::io::{self, Read};
use std::sync::Arc;

use super::Spool;
use crate::engine::Upload;

/// The body of a request, free of its framing. Outlives the request if it is [taken](super::Request::take_body); what had
/// not arrived by the end of the response is then an error.
///
/// It has arrived in full, or it arrives while it is read: as [`Bodies`](crate::engine::Bodies) of the engine says.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Arrived(Spool),
    Arriving(Arc<Upload>),
}

impl Body {
    /// A body that has arrived in full.
    pub(crate) fn buffered(spool: Spool) -> Self {
        Body(Kind::Arrived(spool))
    }

    /// A body that is still to come, or some of it.
    pub(crate) fn arriving(upload: Arc<Upload>) -> Self {
        Body(Kind::Arriving(upload))
    }

    /// Whether all of it is here.
    pub fn has_arrived(&self) -> bool {
        matches!(self.0, Kind::Arrived(_))
    }

    /// How many bytes are left to be read; none if the client hasn't said how many will come.
    pub fn remaining(&self) -> Option<u64> {
        match &self.0 {
            Kind::Arrived(spool) => Some(spool.remaining()),
            Kind::Arriving(upload) => upload.remaining(),
        }
    }

    /// What is left to be read, where all of it has arrived and is in memory.
    pub fn in_memory(&self) -> Option<&[u8]> {
        match &self.0 {
            Kind::Arrived(spool) => spool.in_memory(),
            Kind::Arriving(_) => None,
        }
    }

    /// Reads what is there, without waiting; 0 at the end.
    ///
    /// # Errors
    /// `WouldBlock` where nothing has come yet: [`wait`](Self::wait), or try again when the engine
    /// [tells](crate::engine::Engine::next_stirred). Anything else is final: the client has left (`ConnectionReset`),
    /// paused for too long (`TimedOut`), or broken a rule or a limit (`InvalidData`).
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Arrived(spool) => spool.read(buffer),
            Kind::Arriving(upload) => upload.read(buffer),
        }
    }

    /// Waits, by `poll(2)`, until [`try_read`](Self::try_read) has something to say: at most `client_body_timeout`, which
    /// is then an error that it reports.
    pub fn wait(&self) {
        if let Kind::Arriving(upload) = &self.0 {
            upload.wait();
        }
    }

    /// Makes reading fail because the client has paused for longer than it may; for those who wait in another way than by
    /// [`wait`](Self::wait).
    pub fn time_out(&self) {
        if let Kind::Arriving(upload) = &self.0 {
            upload.time_out();
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Body::buffered(Spool::default())
    }
}

impl Read for Body {
    /// Reads some of the body, and waits for it if it must; 0 at its end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(),
                other => return other,
            }
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Body::buffered(Spool::from(bytes))
    }
}
