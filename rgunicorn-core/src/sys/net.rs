//! Accepting connections; receiving; descriptors that we were started with.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::time::TimeSpec;
use socket2::{SockAddr, Socket};

/// Accepts a connection: non-blocking, closed on exec, by one system call.
///
/// # Errors
/// Those of `accept4(2)`: `WouldBlock` when nobody waits; EMFILE and its kin when there are no descriptors left.
pub fn accept(listener: &Socket) -> io::Result<(Socket, SockAddr)> {
    loop {
        // SAFETY: `storage` and `length` are valid places of the size that `length` says; on success the kernel has
        // filled them in, and the descriptor is new and ours.
        let accepted = unsafe {
            SockAddr::try_init(|storage, length| {
                let descriptor = libc::accept4(
                    listener.as_raw_fd(),
                    storage.cast(),
                    length,
                    libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                );
                match descriptor {
                    -1 => Err(io::Error::last_os_error()),
                    descriptor => Ok(Socket::from_raw_fd(descriptor)),
                }
            })
        };
        match accepted {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            accepted => return accepted,
        }
    }
}

/// How many connections wait to be accepted from a listening TCP socket, and how many there is room for. None for other
/// sockets.
pub fn listen_queue(listener: &Socket) -> Option<(u32, u32)> {
    if listener.protocol().ok()? != Some(socket2::Protocol::TCP) {
        return None;
    }
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: all-zero is a valid `tcp_info`; the kernel writes at most `length` bytes of it.
    let (asked, info) = unsafe {
        let mut info: libc::tcp_info = std::mem::zeroed();
        let place = (&raw mut info).cast();
        let asked =
            libc::getsockopt(listener.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, place, &raw mut length);
        (asked, info)
    };
    // Of a socket that listens, these two are the length of its queue and its limit.
    (asked == 0).then_some((info.tcpi_unacked, info.tcpi_sacked))
}

/// Receives into the spare capacity of `buffer` and lengthens it by what came. 0 is the end of the stream, or a buffer
/// without spare capacity. Never blocks.
///
/// # Errors
/// Those of `recv(2)`.
pub fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let count = socket.recv_with_flags(buffer.spare_capacity_mut(), libc::MSG_DONTWAIT)?;
    // SAFETY: the kernel has initialised the first `count` bytes of the spare capacity.
    unsafe { buffer.set_len(buffer.len() + count) };
    Ok(count)
}

/// Waits until the socket has room for something to be sent, or has failed; false if it has none for so long, or a signal
/// came and there is no time left.
///
/// Really waits, in a coroutine as well: by the system call itself, not by libc's `poll`, which has another coroutine run that
/// may want the locks that are held here.
///
/// # Errors
/// Those of `ppoll(2)`, but for an interruption.
pub fn has_room(socket: BorrowedFd<'_>, most: Duration) -> io::Result<bool> {
    let end = Instant::now() + most;
    loop {
        let mut polled = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        let mut left = *TimeSpec::from(end.saturating_duration_since(Instant::now())).as_ref();
        // SAFETY: one `pollfd`, a time, and no mask of signals; the kernel writes to the first two at most.
        let found = unsafe {
            libc::syscall(
                libc::SYS_ppoll,
                &raw mut polled,
                1 as libc::c_long,
                &raw mut left,
                std::ptr::null::<libc::sigset_t>(),
                0 as libc::c_long,
            )
        };
        match Errno::result(found) {
            Ok(found) => return Ok(found > 0),
            Err(Errno::EINTR) if Instant::now() < end => {}
            Err(Errno::EINTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends a TCP connection by a reset, whoever else has its socket.
///
/// # Errors
/// Those of `connect(2)`: sockets of other kinds can't be.
pub fn reset(socket: &Socket) -> io::Result<()> {
    // SAFETY: all-zero is a valid `sockaddr`, of the family AF_UNSPEC, which dissolves the association; the kernel reads no
    // more of it than its size.
    let dissolved = unsafe {
        let nowhere: libc::sockaddr = std::mem::zeroed();
        libc::connect(socket.as_raw_fd(), &raw const nowhere, size_of_val(&nowhere) as libc::socklen_t)
    };
    if dissolved == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets a program that this process becomes have the descriptor.
///
/// # Errors
/// None for an open descriptor.
pub fn keep_on_exec(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

/// Takes over a descriptor that this process was started with, such as `fd://3`; programs started from here don't get it.
///
/// # Errors
/// EBADF when there is no such descriptor, or it is one of the standard three.
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: only used to ask whether it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: open, as `fcntl` has just said. Named by the operator, who says with it that nobody else uses it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
