//! Making, awaiting and leaving processes.

use std::io;

use super::forks;
use super::signals::Blocked;

pub use nix::unistd::Pid;

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Forked {
    /// The one that forked, and the process that it made.
    Parent(Pid),
    /// The new one. Its signals wait until the guard is dropped: it installs its own handlers first.
    Child(Blocked),
}

/// Forks this process, with all signals blocked.
///
/// The new process has this thread alone. What it may then do is plain if there was no other; where an interpreter was
/// loaded before (`--preload`), its own fork hooks must be called around this.
///
/// # Errors
/// When the system has no room for another process (EAGAIN, ENOMEM).
pub fn fork() -> io::Result<Forked> {
    let blocked = Blocked::all()?;
    // SAFETY: memory stays valid in both; the arbiter runs no threads of its own whose locks could stay held, and libc
    // keeps its allocator usable across a fork.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Forked::Parent(child)),
        nix::unistd::ForkResult::Child => {
            forks::is_ours();
            Ok(Forked::Child(blocked))
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited, with this status.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

/// The next child that has ended and was not reaped yet, ours or adopted. Never waits.
pub fn reap() -> Option<(Pid, Ended)> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for an int.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    let ended = if libc::WIFSIGNALED(status) {
        Ended::Killed(libc::WTERMSIG(status))
    } else {
        Ended::Exited(libc::WEXITSTATUS(status))
    };
    Some((Pid::from_raw(pid), ended))
}

/// Ends this process here and now: no exit handlers, no destructors. They belong to the process that it was forked from.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` has no conditions.
    unsafe { libc::_exit(status) }
}
