//! What bytes come from and go to: a socket. Where TLS will stand later: nothing above knows that it is a bare socket.

use std::fs::File;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::Socket;

use crate::sys::{forks, net};

/// What came of an attempt to read or write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// So many bytes; never 0.
    Some(usize),
    /// None now: the descriptor will become ready.
    Blocked,
    /// None ever again: the peer has ended its side (when reading).
    Closed,
}

/// Also where the socket itself would block, as one that is [shared](Transport::share) does.
const WRITING: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;

/// One client's socket, non-blocking.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: Socket,
    /// How often this process had forked when it got the socket; 0 if some other process had forked with it.
    forks: u64,
}

impl Transport {
    /// A socket that this process got when it had forked [so often](forks::count).
    pub(crate) fn new(socket: Socket, forks: u64) -> Self {
        Transport { socket, forks }
    }

    /// Whether a process that an application has forked may have the socket as well: closing ours alone then ends neither the
    /// connection nor what epoll tells of it.
    pub(crate) fn is_inherited(&self) -> bool {
        self.forks != forks::count()
    }

    /// Reads into the spare capacity of `buffer`, which must have some.
    pub(crate) fn read(&self, buffer: &mut Vec<u8>) -> io::Result<Moved> {
        forks::end_if_stray();
        loop {
            return match net::receive(&self.socket, buffer) {
                Ok(0) => Ok(Moved::Closed),
                Ok(count) => Ok(Moved::Some(count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Moved::Blocked),
                Err(error) => Err(error),
            };
        }
    }

    /// Another descriptor of the socket, blocking. So are ours from now on, where a call doesn't say otherwise.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        let descriptor = self.socket.as_fd().try_clone_to_owned()?;
        self.socket.set_nonblocking(false)?;
        Ok(descriptor)
    }

    /// Makes the socket non-blocking again.
    pub(crate) fn take_back(&self) {
        if let Err(error) = self.socket.set_nonblocking(true) {
            tracing::error!("cannot make a connection non-blocking again: {error}");
        }
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<Moved> {
        moved(|| self.socket.send_with_flags(bytes, WRITING))
    }

    pub(crate) fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<Moved> {
        moved(|| self.socket.send_vectored_with_flags(slices, WRITING))
    }

    /// Has the kernel copy up to `count` bytes of `file`, from `offset` on. [`Moved::Closed`] says that the file is
    /// shorter than that.
    pub(crate) fn write_file(&self, file: &File, offset: u64, count: u64) -> io::Result<Moved> {
        // Linux moves at most 0x7ffff000 bytes a call; a smaller step keeps one download from holding up the others.
        const STEP: u64 = 1024 * 1024;
        forks::end_if_stray();
        loop {
            let mut offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
            let step = usize::try_from(count.min(STEP)).unwrap_or(usize::MAX);
            return match nix::sys::sendfile::sendfile(&self.socket, file, Some(&mut offset), step) {
                Ok(0) => Ok(Moved::Closed),
                Ok(count) => Ok(Moved::Some(count)),
                Err(nix::errno::Errno::EINTR) => continue,
                Err(nix::errno::Errno::EAGAIN) => Ok(Moved::Blocked),
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Tells the client that nothing more will come, so that what was sent can be read to its end.
    pub(crate) fn finish_writing(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// Ends our reading, and wakes up whoever waits for something to read.
    pub(crate) fn end_reading(&self) {
        // As for shut_down().
        let _ = self.socket.shutdown(Shutdown::Read);
    }

    /// Ends both directions, for whoever else has the descriptor as well.
    pub(crate) fn shut_down(&self) {
        // A connection that isn't there any more needs no end.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Our end of the connection; none on a Unix socket.
    pub(crate) fn local_address(&self) -> Option<std::net::SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }

    /// Makes the coming close a reset, where an orderly one would look like a proper end of the response.
    pub(crate) fn reset_on_close(&self) {
        // If it can't be set the client sees an ordinary close: worse, but no reason to fail.
        let _ = self.socket.set_linger(Some(Duration::ZERO));
        if self.is_inherited() {
            let _ = net::reset(&self.socket);
        }
    }
}

impl AsRawFd for Transport {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn moved(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Moved> {
    // Whoever has the socket by a fork has nothing to say to the client.
    forks::end_if_stray();
    loop {
        return match call() {
            Ok(0) => Ok(Moved::Blocked),
            Ok(count) => Ok(Moved::Some(count)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Moved::Blocked),
            Err(error) => Err(error),
        };
    }
}
