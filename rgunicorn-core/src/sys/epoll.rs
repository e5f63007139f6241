//! What mio leaves out of epoll: watches that wake up one of all the processes that watch a listener.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

fn control(
    epoll: RawFd,
    operation: libc::c_int,
    descriptor: RawFd,
    event: Option<libc::epoll_event>,
) -> io::Result<()> {
    let mut event = event.unwrap_or(libc::epoll_event { events: 0, u64: 0 });
    // SAFETY: `event` lives through the call, which reads it and keeps nothing.
    match unsafe { libc::epoll_ctl(epoll, operation, descriptor, &raw mut event) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Watches a listener for connections, level-triggered, under `token`. Of all epoll instances that watch it, each is woken
/// up; of those that watch it exclusively, one or a few are (`EPOLLEXCLUSIVE`).
///
/// # Errors
/// Those of `epoll_ctl(2)`.
pub fn watch(epoll: RawFd, listener: RawFd, token: usize, exclusive: bool) -> io::Result<()> {
    let events = (libc::EPOLLIN | if exclusive { libc::EPOLLEXCLUSIVE } else { 0 }) as u32;
    control(epoll, libc::EPOLL_CTL_ADD, listener, Some(libc::epoll_event { events, u64: token as u64 }))
}

/// Another descriptor of the same epoll instance.
///
/// # Errors
/// When there are no descriptors left.
pub fn duplicate(epoll: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: touches no memory; the result is checked, new and ours.
    match unsafe { libc::fcntl(epoll, libc::F_DUPFD_CLOEXEC, 0) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: as above.
        descriptor => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
    }
}

/// Whether an epoll instance has something to tell. Takes nothing out of it.
pub fn has_events(epoll: RawFd) -> bool {
    is_readable(epoll)
}

/// Whether a descriptor is readable now.
pub fn is_readable(descriptor: RawFd) -> bool {
    let mut polled = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid structure, for as long as the call takes, which doesn't wait.
    unsafe { libc::poll(&raw mut polled, 1, 0) > 0 }
}

/// Ends a watch.
///
/// # Errors
/// Those of `epoll_ctl(2)`.
pub fn forget(epoll: RawFd, descriptor: RawFd) -> io::Result<()> {
    control(epoll, libc::EPOLL_CTL_DEL, descriptor, None)
}
