//! Buffers belong to requests, not to connections: an idle connection has none.

/// How many bytes one read asks for, and so how large a buffer starts out: most requests fit, body included.
pub(crate) const READ_SIZE: usize = 16 * 1024;

/// Buffers that wait for their next request.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Vec<Vec<u8>>,
}

impl Buffers {
    /// How many are kept; more are given back to the allocator.
    const KEPT: usize = 256;
    /// A buffer that grew beyond this is not kept.
    const LARGEST: usize = 64 * 1024;

    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_else(|| Vec::with_capacity(READ_SIZE))
    }

    pub(crate) fn give_back(&mut self, mut buffer: Vec<u8>) {
        if self.free.len() < Self::KEPT && (READ_SIZE..=Self::LARGEST).contains(&buffer.capacity()) {
            buffer.clear();
            self.free.push(buffer);
        }
    }
}
