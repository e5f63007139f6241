//! Reading and writing. Sockets are tried with `MSG_DONTWAIT`; anything else is asked by `poll` first. A regular file is
//! always ready: what its disk takes, it takes.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::time::Duration;

use libc::{iovec, msghdr, off_t, size_t, sockaddr, socklen_t, ssize_t, timeval};

use super::poll::{is_nonblocking, retrying, wait_before, wait_ready};
use super::{errno, fail, interpose, real};
use crate::coro::scheduler::Coroutine;

/// A pipe that is writable takes this much without blocking.
const PIPE_BUF: usize = libc::PIPE_BUF;

/// The time-out that a socket was given for one direction.
fn socket_timeout(descriptor: RawFd, option: c_int) -> Option<Duration> {
    let mut time = timeval { tv_sec: 0, tv_usec: 0 };
    let mut size = size_of::<timeval>() as socklen_t;
    // SAFETY: a valid place of this size.
    let got = unsafe {
        libc::getsockopt(descriptor, libc::SOL_SOCKET, option, (&raw mut time).cast(), &raw mut size)
    };
    let time = Duration::from_secs(u64::try_from(time.tv_sec).ok()?)
        + Duration::from_micros(u64::try_from(time.tv_usec).ok()?);
    (got == 0 && !time.is_zero()).then_some(time)
}

/// Receives as a blocking socket does, by a call that doesn't block.
fn receive(me: &Coroutine, descriptor: RawFd, event: i16, call: impl FnMut() -> ssize_t) -> ssize_t {
    retrying(me, descriptor, event, || socket_timeout(descriptor, libc::SO_RCVTIMEO), call)
}

/// What to wait for before the next try.
fn event_of(flags: c_int) -> i16 {
    if flags & libc::MSG_OOB != 0 { libc::POLLPRI } else { libc::POLLIN }
}

/// Sends as a blocking socket does: all of it, unless something fails on the way. `call` is given how much was sent before.
fn send_all(
    me: &Coroutine,
    descriptor: RawFd,
    length: usize,
    mut call: impl FnMut(usize) -> ssize_t,
) -> ssize_t {
    let mut sent = 0;
    loop {
        let timeout = || socket_timeout(descriptor, libc::SO_SNDTIMEO);
        let result = retrying(me, descriptor, libc::POLLOUT, timeout, || call(sent));
        match usize::try_from(result) {
            Err(_) if sent > 0 => return sent as ssize_t,
            Err(_) => return result,
            Ok(count) => sent += count,
        }
        // In non-blocking mode a part is an answer.
        if sent >= length || result == 0 || is_nonblocking(descriptor) {
            return sent as ssize_t;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Regular,
    Socket,
    Other,
}

fn kind(descriptor: RawFd) -> Kind {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: a valid place, which is read only if it was filled.
    let mode = unsafe {
        if libc::fstat(descriptor, stat.as_mut_ptr()) != 0 {
            return Kind::Other;
        }
        stat.assume_init().st_mode
    };
    match mode & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFBLK => Kind::Regular,
        libc::S_IFSOCK => Kind::Socket,
        _ => Kind::Other,
    }
}

/// Standard output and error, where there is no lock to tell our own writing from the application's: the log's writers
/// hold locks that a wait must not be spent under.
fn is_the_logs(me: &Coroutine, descriptor: RawFd) -> bool {
    (descriptor == 1 || descriptor == 2) && !me.scheduler().runtime().has_lock()
}

/// Writes all, in pieces that don't block.
unsafe fn write_all(
    me: &Coroutine,
    descriptor: RawFd,
    bytes: *const c_void,
    length: usize,
    write: unsafe extern "C" fn(c_int, *const c_void, size_t) -> ssize_t,
) -> ssize_t {
    if is_the_logs(me, descriptor) {
        return write(descriptor, bytes, length);
    }
    match kind(descriptor) {
        Kind::Regular => write(descriptor, bytes, length),
        Kind::Socket => send_all(me, descriptor, length, |sent| {
            libc::send(descriptor, bytes.byte_add(sent), length - sent, libc::MSG_DONTWAIT)
        }),
        Kind::Other if is_nonblocking(descriptor) => write(descriptor, bytes, length),
        Kind::Other => {
            let mut written = 0;
            loop {
                if let Err(error) = wait_before(me, descriptor, libc::POLLOUT) {
                    return if written > 0 { written as ssize_t } else { fail(error) as ssize_t };
                }
                let piece = (length - written).min(PIPE_BUF);
                let result = write(descriptor, bytes.byte_add(written), piece);
                match usize::try_from(result) {
                    Err(_) if written > 0 => return written as ssize_t,
                    Err(_) => return result,
                    Ok(count) => written += count,
                }
                if written >= length || result == 0 {
                    return written as ssize_t;
                }
            }
        }
    }
}

/// Waits until a `read` wouldn't block.
fn before_read(me: &Coroutine, descriptor: RawFd) -> Result<(), c_int> {
    if real::ready(descriptor, libc::POLLIN) != 0 || is_nonblocking(descriptor) {
        return Ok(());
    }
    let by = super::after(socket_timeout(descriptor, libc::SO_RCVTIMEO));
    wait_ready(me, descriptor, libc::POLLIN, by)?;
    // Somebody else may have been quicker.
    while real::ready(descriptor, libc::POLLIN) == 0 {
        wait_ready(me, descriptor, libc::POLLIN, by)?;
    }
    Ok(())
}

interpose! {
    fn recv(descriptor: c_int, into: *mut c_void, length: size_t, flags: c_int) -> ssize_t as (me, real) {
        let mut got = 0;
        loop {
            let result = receive(me, descriptor, event_of(flags), || {
                real(descriptor, into.byte_add(got), length - got, flags | libc::MSG_DONTWAIT)
            });
            let again = match usize::try_from(result) {
                Err(_) if got > 0 => return got as ssize_t,
                Err(_) => return result,
                Ok(count) => {
                    got += count;
                    flags & libc::MSG_WAITALL != 0 && flags & libc::MSG_PEEK == 0 && count > 0 && got < length
                }
            };
            if !again {
                return got as ssize_t;
            }
        }
    }

    fn __recv_chk(descriptor: c_int, into: *mut c_void, length: size_t, room: size_t, flags: c_int) -> ssize_t as (_me, real) {
        if length > room {
            return real(descriptor, into, length, room, flags);
        }
        recv(descriptor, into, length, flags)
    }

    fn recvfrom(descriptor: c_int, into: *mut c_void, length: size_t, flags: c_int, from: *mut sockaddr, size: *mut socklen_t) -> ssize_t as (me, real) {
        receive(me, descriptor, event_of(flags), || real(descriptor, into, length, flags | libc::MSG_DONTWAIT, from, size))
    }

    fn __recvfrom_chk(descriptor: c_int, into: *mut c_void, length: size_t, room: size_t, flags: c_int, from: *mut sockaddr, size: *mut socklen_t) -> ssize_t as (_me, real) {
        if length > room {
            return real(descriptor, into, length, room, flags, from, size);
        }
        recvfrom(descriptor, into, length, flags, from, size)
    }

    fn recvmsg(descriptor: c_int, message: *mut msghdr, flags: c_int) -> ssize_t as (me, real) {
        receive(me, descriptor, event_of(flags), || real(descriptor, message, flags | libc::MSG_DONTWAIT))
    }

    fn send(descriptor: c_int, bytes: *const c_void, length: size_t, flags: c_int) -> ssize_t as (me, real) {
        if flags & libc::MSG_DONTWAIT != 0 {
            return real(descriptor, bytes, length, flags);
        }
        send_all(me, descriptor, length, |sent| {
            real(descriptor, bytes.byte_add(sent), length - sent, flags | libc::MSG_DONTWAIT)
        })
    }

    fn sendto(descriptor: c_int, bytes: *const c_void, length: size_t, flags: c_int, to: *const sockaddr, size: socklen_t) -> ssize_t as (me, real) {
        if flags & libc::MSG_DONTWAIT != 0 {
            return real(descriptor, bytes, length, flags, to, size);
        }
        send_all(me, descriptor, length, |sent| {
            real(descriptor, bytes.byte_add(sent), length - sent, flags | libc::MSG_DONTWAIT, to, size)
        })
    }

    fn sendmsg(descriptor: c_int, message: *const msghdr, flags: c_int) -> ssize_t as (me, real) {
        // A part is an answer that callers are prepared for.
        let timeout = || socket_timeout(descriptor, libc::SO_SNDTIMEO);
        retrying(me, descriptor, libc::POLLOUT, timeout, || real(descriptor, message, flags | libc::MSG_DONTWAIT))
    }

    fn read(descriptor: c_int, into: *mut c_void, length: size_t) -> ssize_t as (me, real) {
        match before_read(me, descriptor) {
            Ok(()) => real(descriptor, into, length),
            Err(error) => fail(error) as ssize_t,
        }
    }

    fn __read_chk(descriptor: c_int, into: *mut c_void, length: size_t, room: size_t) -> ssize_t as (me, real) {
        match before_read(me, descriptor) {
            Ok(()) => real(descriptor, into, length, room),
            Err(error) => fail(error) as ssize_t,
        }
    }

    fn readv(descriptor: c_int, into: *const iovec, count: c_int) -> ssize_t as (me, real) {
        match before_read(me, descriptor) {
            Ok(()) => real(descriptor, into, count),
            Err(error) => fail(error) as ssize_t,
        }
    }

    fn write(descriptor: c_int, bytes: *const c_void, length: size_t) -> ssize_t as (me, real) {
        write_all(me, descriptor, bytes, length, real)
    }

    fn writev(descriptor: c_int, pieces: *const iovec, count: c_int) -> ssize_t as (me, real) {
        if is_the_logs(me, descriptor) {
            return real(descriptor, pieces, count);
        }
        match kind(descriptor) {
            Kind::Regular => real(descriptor, pieces, count),
            Kind::Socket => {
                let mut message: msghdr = std::mem::zeroed();
                message.msg_iov = pieces.cast_mut();
                message.msg_iovlen = count as _;
                sendmsg(descriptor, &raw const message, 0)
            }
            Kind::Other if is_nonblocking(descriptor) => real(descriptor, pieces, count),
            Kind::Other => match usize::try_from(count) {
                // The first that has anything in it: a part is an answer.
                Ok(count) if count > 0 => {
                    let all = std::slice::from_raw_parts(pieces, count);
                    let first = all.iter().find(|piece| piece.iov_len > 0).unwrap_or(&all[0]);
                    write(descriptor, first.iov_base, first.iov_len)
                }
                _ => real(descriptor, pieces, count),
            },
        }
    }

    fn sendfile(to: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t as (me, real) {
        send_file(me, to, || real(to, from, offset, count))
    }

    fn sendfile64(to: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t as (me, real) {
        send_file(me, to, || real(to, from, offset, count))
    }
}

/// There is no flag for a call of `sendfile`: the descriptor's own mode is changed for the moment of it.
fn send_file(me: &Coroutine, to: RawFd, mut call: impl FnMut() -> ssize_t) -> ssize_t {
    if is_nonblocking(to) || kind(to) == Kind::Regular {
        return call();
    }
    loop {
        let result = without_blocking(to, &mut call);
        if result != -1 || errno() != libc::EAGAIN {
            return result;
        }
        if let Err(error) = wait_ready(me, to, libc::POLLOUT, None) {
            return fail(error) as ssize_t;
        }
    }
}

/// Makes a call while the descriptor is in non-blocking mode.
pub(super) fn without_blocking<T>(descriptor: RawFd, call: impl FnOnce() -> T) -> T {
    // SAFETY: takes no pointer.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFL) };
    if flags == -1 || flags & libc::O_NONBLOCK != 0 {
        return call();
    }
    // SAFETY: as above.
    unsafe { libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK) };
    let result = call();
    let error = errno();
    // SAFETY: as above.
    unsafe { libc::fcntl(descriptor, libc::F_SETFL, flags) };
    fail(error);
    result
}
