//! Bytes that are kept in memory while they are few, and in an unlinked temporary file once they are many.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use super::{Admission, Allowance, Charge, Scratch};

/// When a [`Spool`] leaves memory, and where it goes.
#[derive(Debug, Clone)]
pub struct SpoolLimits {
    /// The most bytes kept in memory.
    pub memory: usize,
    /// Where the temporary file is made.
    pub scratch: Scratch,
    /// How much all of the worker's may have there, if they are request bodies.
    pub allowance: Arc<Allowance>,
}

impl Default for SpoolLimits {
    fn default() -> Self {
        SpoolLimits { memory: 256 * 1024, scratch: Scratch::default(), allowance: Arc::default() }
    }
}

/// A queue of bytes: written at its end, read from its beginning.
#[derive(Debug, Default)]
pub struct Spool {
    memory: Vec<u8>,
    /// Written in pieces of some size: a client may send its body in chunks of one byte.
    file: Option<(BufWriter<File>, Charge)>,
    written: u64,
    read: u64,
}

impl Spool {
    /// Appends `bytes`; past `limits.memory` all of it moves to a temporary file that has no name.
    ///
    /// # Errors
    /// When the file can't be made or written, such as on a full disk.
    pub fn write(&mut self, bytes: &[u8], limits: &SpoolLimits) -> io::Result<()> {
        if self.file.is_none() && self.memory.len() + bytes.len() > limits.memory {
            let mut file = limits.scratch.file()?;
            file.write_all(&self.memory)?;
            let mut charge = limits.allowance.begin();
            charge.add(self.memory.len());
            self.memory = Vec::new();
            self.file = Some((BufWriter::new(file), charge));
        }
        match &mut self.file {
            Some((file, charge)) => {
                file.write_all(bytes)?;
                charge.add(bytes.len());
            }
            None => self.memory.extend_from_slice(bytes),
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Whether it may have more in its file, and may have one.
    pub(crate) fn admission(&self, limits: &SpoolLimits) -> Admission {
        limits.allowance.admits(self.file.as_ref().map(|(_, charge)| charge))
    }

    /// Ends the writing: what follows is reading, from the first byte on.
    ///
    /// # Errors
    /// When the temporary file can't be rewound.
    pub fn rewind(&mut self) -> io::Result<()> {
        self.read = 0;
        match &mut self.file {
            Some((file, charge)) => {
                charge.arrived();
                file.seek(SeekFrom::Start(0)).map(|_| ())
            }
            None => Ok(()),
        }
    }

    /// How many bytes were written in all.
    pub fn len(&self) -> u64 {
        self.written
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.written == 0
    }

    /// How many bytes are left to be read.
    pub fn remaining(&self) -> u64 {
        self.written - self.read
    }

    /// What is left to be read, where all of it is in memory.
    pub fn in_memory(&self) -> Option<&[u8]> {
        self.file.is_none().then(|| self.memory.get(self.read as usize..).unwrap_or(&[]))
    }
}

impl From<Vec<u8>> for Spool {
    fn from(memory: Vec<u8>) -> Self {
        Spool { written: memory.len() as u64, memory, file: None, read: 0 }
    }
}

impl Read for Spool {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.file {
            Some((file, _)) => file.get_mut().read(buffer)?,
            None => {
                let mut rest = self.memory.get(self.read as usize..).unwrap_or(&[]);
                rest.read(buffer)?
            }
        };
        self.read += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(pieces: &[&[u8]], memory: usize) -> (Vec<u8>, bool) {
        let limits = SpoolLimits { memory, ..SpoolLimits::default() };
        let mut spool = Spool::default();
        for piece in pieces {
            spool.write(piece, &limits).unwrap();
        }
        spool.rewind().unwrap();
        let on_disk = spool.in_memory().is_none();
        let mut out = Vec::new();
        spool.read_to_end(&mut out).unwrap();
        assert_eq!(spool.remaining(), 0);
        (out, on_disk)
    }

    #[test]
    fn few_bytes_stay_in_memory() {
        assert_eq!(round_trip(&[b"ab", b"cd"], 4), (b"abcd".to_vec(), false));
    }

    #[test]
    fn many_bytes_go_to_a_file_in_order() {
        assert_eq!(round_trip(&[b"ab", b"cd", b"e"], 4), (b"abcde".to_vec(), true));
    }

    #[test]
    fn a_byte_at_a_time_is_not_a_system_call_at_a_time() {
        let limits = SpoolLimits { memory: 4, ..SpoolLimits::default() };
        let mut spool = Spool::default();
        for _ in 0..1000 {
            spool.write(b"x", &limits).unwrap();
        }
        let on_disk = spool.file.as_ref().unwrap().0.get_ref().metadata().unwrap().len();
        assert!(on_disk < 10, "{on_disk}");
        assert_eq!(spool.len(), 1000);
        assert_eq!(round_trip(&[&b"x"[..]; 1000], 4), (vec![b'x'; 1000], true));
    }
}
