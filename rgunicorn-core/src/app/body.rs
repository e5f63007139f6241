//! A request body, as an application reads it.

use std::io::{self, Read};

use super::Spool;

/// The body of a request, free of its framing. Outlives the request if it is [taken](super::Request::take_body).
///
/// Today a worker class has the whole body buffered before it calls the application; a class whose threads may wait
/// will supply one that reads on from the socket, behind this same interface.
#[derive(Debug, Default)]
pub struct Body {
    spool: Spool,
}

impl Body {
    /// A body that has arrived in full.
    pub(crate) fn buffered(spool: Spool) -> Self {
        Body { spool }
    }

    /// How many bytes are left to be read.
    pub fn remaining(&self) -> u64 {
        self.spool.remaining()
    }

    /// What is left to be read, where all of it is in memory.
    pub fn in_memory(&self) -> Option<&[u8]> {
        self.spool.in_memory()
    }
}

impl Read for Body {
    /// Reads some of the body; 0 at its end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.spool.read(buffer)
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Body { spool: Spool::from(bytes) }
    }
}
