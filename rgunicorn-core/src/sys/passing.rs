//! Passing descriptors from process to process, by messages on a Unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, sendmsg,
    socketpair,
};

/// The two ends of a queue of messages: what is sent into the first is received from the second, by whichever process asks
/// first, whole. Neither end ever blocks.
///
/// # Errors
/// When there are no descriptors left.
pub fn queue() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// Sends the parts as one message, with a descriptor. Once this has succeeded the receiver has a descriptor of its own,
/// whatever becomes of ours or of this process; if it fails nothing was sent.
///
/// # Errors
/// `WouldBlock` when the queue is full; ETOOMANYREFS when more descriptors are under way than a process may have open.
pub fn send(queue: BorrowedFd<'_>, parts: &[&[u8]], descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let descriptors = [descriptor.as_raw_fd()];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        match sendmsg::<()>(
            queue.as_raw_fd(),
            &slices,
            &[ControlMessage::ScmRights(&descriptors)],
            flags,
            None,
        ) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes a message into `buffer`: its length, and the descriptor that came with it. None when there is no message. The
/// descriptor is missing if this process may not open another one: then it is lost.
///
/// # Errors
/// Those of `recvmsg(2)`.
pub fn receive(queue: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<(usize, Option<OwnedFd>)>> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut space = nix::cmsg_space!([libc::c_int; 1]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    loop {
        let message = match recvmsg::<()>(queue.as_raw_fd(), &mut slices, Some(&mut space), flags) {
            Ok(message) => message,
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut taken = None;
        // Where there was no descriptor left they say that they were cut off.
        for control in message.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(descriptors) = control {
                for descriptor in descriptors {
                    // SAFETY: the kernel has just made it for us, and nobody else knows of it.
                    taken = Some(unsafe { OwnedFd::from_raw_fd(descriptor) });
                }
            }
        }
        return Ok(Some((message.bytes, taken)));
    }
}

/// The first byte of the next message, which stays where it is. None when there is no message.
///
/// # Errors
/// Those of `recv(2)`.
pub fn peek(queue: BorrowedFd<'_>) -> io::Result<Option<u8>> {
    let mut byte = [0];
    loop {
        match recv(queue.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Ok(0) | Err(Errno::EAGAIN) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn messages_come_whole_in_order_with_their_descriptors() {
        let (into, from) = queue().unwrap();
        let mut buffer = [0; 64];
        assert!(receive(from.as_fd(), &mut buffer).unwrap().is_none());
        let (mut near, far) = UnixStream::pair().unwrap();
        send(into.as_fd(), &[b"one", b"", b" two"], far.as_fd()).unwrap();
        send(into.as_fd(), &[b"three"], far.as_fd()).unwrap();
        // Ours is gone, as it would be had this process been killed.
        drop(far);
        assert_eq!(peek(from.as_fd()).unwrap(), Some(b'o'));
        let (length, descriptor) = receive(from.as_fd(), &mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..length], b"one two");
        let mut far = UnixStream::from(descriptor.unwrap());
        far.write_all(b"still here").unwrap();
        drop(far);
        let (length, descriptor) = receive(from.as_fd(), &mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..length], b"three");
        drop(descriptor);
        let mut heard = String::new();
        near.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "still here");
    }

    #[test]
    fn a_full_queue_refuses_and_keeps_what_it_has() {
        let (into, from) = queue().unwrap();
        let (_near, far) = UnixStream::pair().unwrap();
        let piece = [7; 4096];
        let mut sent = 0;
        let full = loop {
            match send(into.as_fd(), &[&piece], far.as_fd()) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(sent > 4);
        let mut buffer = [0; 8192];
        for _ in 0..sent {
            assert_eq!(receive(from.as_fd(), &mut buffer).unwrap().unwrap().0, piece.len());
        }
        assert!(receive(from.as_fd(), &mut buffer).unwrap().is_none());
    }
}
