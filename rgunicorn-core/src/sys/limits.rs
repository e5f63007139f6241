//! Resource limits.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many descriptors this process might have open when it was started, where it has raised that for itself.
static STARTED_WITH: AtomicU64 = AtomicU64::new(NOT_RAISED);
const NOT_RAISED: u64 = u64::MAX;

/// Raises the limit of open descriptors (`RLIMIT_NOFILE`) as far as this process may; answers what it was, and is then.
///
/// # Errors
/// None that can happen on Linux.
pub fn raise_descriptors() -> std::io::Result<(u64, u64)> {
    let (before, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if before < most {
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        STARTED_WITH.store(before, Ordering::Relaxed);
    }
    Ok((before, most))
}

/// How many descriptors this process may have open.
pub fn descriptors() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(limit, _)| limit)
}

/// Somebody has set the limit to what he wants it to be: nothing is [given back](give_back) from here on.
pub fn keep() {
    STARTED_WITH.store(NOT_RAISED, Ordering::Relaxed);
}

/// What [`give_back`] has lowered.
#[derive(Debug)]
pub struct Lowered(libc::rlimit64);

impl Lowered {
    /// The program could not be executed.
    pub fn undo(self) {
        let _ = change(0, Some(&self.0));
    }
}

/// Gives the program that is about to be executed the limit that this one was started with, if it was raised. System calls
/// only, as between a fork and that.
pub fn give_back() -> Option<Lowered> {
    lower(0).map(Lowered)
}

/// The same for another process, which has been started just now.
pub fn give_back_to(process: libc::pid_t) {
    lower(process);
}

/// Lowers the limit to what it was, unless it is that or less; what it was instead.
fn lower(process: libc::pid_t) -> Option<libc::rlimit64> {
    let before = STARTED_WITH.load(Ordering::Relaxed);
    if before == NOT_RAISED {
        return None;
    }
    let now = change(process, None)?;
    let lowered = libc::rlimit64 { rlim_cur: before, ..now };
    (before < now.rlim_cur).then(|| change(process, Some(&lowered)))?
}

/// Sets the limit, or leaves it; what it was before.
fn change(process: libc::pid_t, limit: Option<&libc::rlimit64>) -> Option<libc::rlimit64> {
    let mut before = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let limit = limit.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both places are valid, or null; by the system call, since libc's functions are others where programs are executed.
    let changed =
        unsafe { libc::syscall(libc::SYS_prlimit64, process, libc::RLIMIT_NOFILE, limit, &raw mut before) };
    (changed == 0).then_some(before)
}
