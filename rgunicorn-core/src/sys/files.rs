//! Opening and locking files; writing to, and replacing, open descriptors.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Standard input.
pub const STDIN: RawFd = libc::STDIN_FILENO;
/// Standard output.
pub const STDOUT: RawFd = libc::STDOUT_FILENO;
/// Standard error.
pub const STDERR: RawFd = libc::STDERR_FILENO;

/// For how long a log may hold us up whose reader has stopped reading, in milliseconds.
const PATIENCE: u16 = 1000;

/// Writes all of `bytes` to the descriptor with this number, by one `write(2)` if the other side takes it.
///
/// # Errors
/// Those of `write(2)`, such as ENOSPC; EAGAIN when a non-blocking pipe stays full for a second.
pub fn write_all(descriptor: RawFd, mut bytes: &[u8]) -> io::Result<()> {
    if descriptor < 0 {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: not -1. Should it have been closed meanwhile, `write` says so (EBADF).
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    while !bytes.is_empty() {
        match nix::unistd::write(descriptor, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or(&[]),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                match poll(&mut [PollFd::new(descriptor, PollFlags::POLLOUT)], PollTimeout::from(PATIENCE)) {
                    Ok(0) => return Err(Errno::EAGAIN.into()),
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes the descriptor with the number `target` another name of `source`, in one step: whoever writes to it meanwhile
/// hits one or the other. Standard descriptors survive an `exec`, others don't.
///
/// # Errors
/// Those of `dup3(2)`; none if both are open.
pub fn replace(source: impl AsFd, target: RawFd) -> io::Result<()> {
    let source = source.as_fd().as_raw_fd();
    if source == target {
        return Ok(());
    }
    let flags = if target <= STDERR { 0 } else { libc::O_CLOEXEC };
    // SAFETY: `dup3` touches no memory; the callers own what `target` stands for.
    match unsafe { libc::dup3(source, target, flags) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A file in memory, which has no other name than `name` in `/proc/PID/fd`. What is written goes to its end, whoever
/// writes; programs that are started from here don't get it.
///
/// # Errors
/// When there is no memory, or there are no descriptors, left.
pub fn scratch(name: &str) -> io::Result<File> {
    let file = memfd_create(name, MFdFlags::MFD_CLOEXEC)?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    Ok(file.into())
}

/// As [`scratch`], for one who writes where he likes.
///
/// # Errors
/// When there is no memory, or there are no descriptors, left.
pub fn memory(name: &CStr) -> io::Result<File> {
    Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC)?.into())
}

/// Opens a file for reading: not what a link leads to, and without waiting, should it be no plain file.
///
/// # Errors
/// Those of `open(2)`: ELOOP for a link.
pub fn open_plain(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// Locks a file that is open for writing, until its last descriptor is closed.
///
/// # Errors
/// When another has locked it, or the file system knows no locks.
pub fn lock(file: &File) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK)))?;
    Ok(())
}

/// Whether another has [locked](lock) the file: somebody who may write to it.
pub fn is_locked(file: &File) -> bool {
    let mut wanted = whole(libc::F_RDLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut wanted)).is_ok() && i32::from(wanted.l_type) != libc::F_UNLCK
}

fn whole(kind: libc::c_int) -> libc::flock {
    // SAFETY: all-zero is a valid `flock`: of the whole file, and of no process.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

/// Whether the descriptor with this number is a pipe.
pub fn is_pipe(descriptor: RawFd) -> bool {
    if descriptor < 0 {
        return false;
    }
    // SAFETY: not -1, and only asked about.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    nix::sys::stat::fstat(descriptor).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFIFO)
}
