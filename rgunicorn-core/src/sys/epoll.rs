//! What mio leaves out of epoll: one watcher woken up for each connection, of all the processes that watch a listener.

use std::io;
use std::os::fd::RawFd;

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

/// Watches a listener for connections, level-triggered, under `token`; of all epoll instances that watch it so, one or
/// a few are woken up (`EPOLLEXCLUSIVE`).
///
/// # Errors
/// Those of `epoll_ctl(2)`.
pub fn watch_exclusively(epoll: RawFd, listener: RawFd, token: usize) -> io::Result<()> {
    let events = (libc::EPOLLIN | libc::EPOLLEXCLUSIVE) as u32;
    control(epoll, libc::EPOLL_CTL_ADD, listener, Some(libc::epoll_event { events, u64: token as u64 }))
}

/// Ends a watch.
///
/// # Errors
/// Those of `epoll_ctl(2)`.
pub fn forget(epoll: RawFd, descriptor: RawFd) -> io::Result<()> {
    control(epoll, libc::EPOLL_CTL_DEL, descriptor, None)
}
