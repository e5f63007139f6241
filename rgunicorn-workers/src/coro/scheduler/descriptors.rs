//! Who waits for which descriptor.
//!
//! One epoll instance for all. A descriptor is registered for one event (`EPOLLONESHOT`), for the union of what its waiters
//! want, and armed again only if somebody still waits. Several coroutines may wait for one descriptor, and for both of its
//! directions. The registration stays after its use, disarmed: the next wait is one `epoll_ctl`.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::Token;
use crate::coro::interposed::real;

/// What an event of a descriptor that isn't a waiter's is about: a number that no descriptor and round has.
const OTHERS: u64 = u64::MAX - 16;

/// What [`Descriptors::wait`] found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Waits that are over.
    pub(super) woken: Vec<Token>,
    /// Bit `n` for the descriptor that was [watched](Descriptors::watch) under the number `n`.
    pub(super) watched: u32,
}

/// The epoll instance and what it is told.
#[derive(Debug)]
pub(super) struct Descriptors {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
    /// By descriptor.
    entries: Vec<Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    waiters: Vec<(Token, u32)>,
    /// What it is armed for.
    armed: u32,
    /// Whether the kernel knew it when we last looked.
    known: bool,
    /// Tells the events of this file from those of one that had the number before.
    round: u32,
}

/// Why a descriptor can't be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CannotWait {
    /// It is closed.
    Closed,
    /// It is a file that is always ready, or the system has no room.
    AlwaysReady,
}

impl Descriptors {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: has no conditions; a descriptor that it returns is ours.
        let epoll = unsafe {
            match libc::epoll_create1(libc::EPOLL_CLOEXEC) {
                -1 => return Err(io::Error::last_os_error()),
                epoll => OwnedFd::from_raw_fd(epoll),
            }
        };
        let none = libc::epoll_event { events: 0, u64: 0 };
        Ok(Descriptors { epoll, events: vec![none; 512], entries: Vec::new() })
    }

    /// The epoll instance, which is readable while there are events in it.
    pub(super) fn descriptor(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// Watches a descriptor for good: it is told by the number, which is below 16, as long as it is readable.
    pub(super) fn watch(&self, descriptor: RawFd, number: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: OTHERS + u64::from(number) };
        // SAFETY: `event` is valid for the call.
        match unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, descriptor, &raw mut event)
        } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Has `token` woken up once one of `events` comes, or an error.
    pub(super) fn add(
        &mut self,
        descriptor: RawFd,
        events: u32,
        token: Token,
        is_live: impl Fn(Token) -> bool,
    ) -> Result<(), CannotWait> {
        let Ok(index) = usize::try_from(descriptor) else { return Err(CannotWait::Closed) };
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, Entry::default);
        }
        let entry = &mut self.entries[index];
        entry.waiters.retain(|(token, _)| is_live(*token));
        entry.waiters.push((token, events));
        let armed = self.arm(index);
        if armed.is_err() {
            self.entries[index].waiters.pop();
        }
        armed
    }

    fn arm(&mut self, index: usize) -> Result<(), CannotWait> {
        let entry = &mut self.entries[index];
        let wanted = entry.waiters.iter().fold(0, |all, (_, events)| all | events);
        // Armed for more, it may be the file that had this number before: its new owner must be made known.
        let descriptor = index as RawFd;
        let mut operation = if entry.known { libc::EPOLL_CTL_MOD } else { libc::EPOLL_CTL_ADD };
        for _ in 0..2 {
            if operation == libc::EPOLL_CTL_ADD {
                entry.round = entry.round.wrapping_add(1) & 0x7fff_ffff;
            }
            let mut event = libc::epoll_event {
                events: wanted | libc::EPOLLONESHOT as u32,
                u64: u64::from(entry.round) << 32 | index as u64,
            };
            // SAFETY: `event` is valid for the call.
            if unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, descriptor, &raw mut event) } == 0
            {
                entry.known = true;
                entry.armed = wanted;
                return Ok(());
            }
            operation = match io::Error::last_os_error().raw_os_error() {
                Some(libc::ENOENT) => libc::EPOLL_CTL_ADD,
                Some(libc::EEXIST) => libc::EPOLL_CTL_MOD,
                Some(libc::EBADF) => {
                    entry.known = false;
                    return Err(CannotWait::Closed);
                }
                _ => return Err(CannotWait::AlwaysReady),
            };
        }
        Err(CannotWait::AlwaysReady)
    }

    /// Forgets a descriptor that is about to be closed, or given to another file; answers those who wait for it.
    pub(super) fn forget(&mut self, descriptor: RawFd) -> Vec<Token> {
        let Some(entry) = usize::try_from(descriptor).ok().and_then(|index| self.entries.get_mut(index))
        else {
            return Vec::new();
        };
        if std::mem::take(&mut entry.known) {
            // A copy of the descriptor may keep the file open, and with it the registration.
            // SAFETY: no event is needed to take one out.
            unsafe {
                libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, descriptor, std::ptr::null_mut())
            };
        }
        entry.armed = 0;
        entry.waiters.drain(..).map(|(token, _)| token).collect()
    }

    /// Whether a descriptor has ever been waited for, and may still be registered.
    pub(super) fn knows(&self, descriptor: RawFd) -> bool {
        usize::try_from(descriptor)
            .ok()
            .and_then(|index| self.entries.get(index))
            .is_some_and(|entry| entry.known)
    }

    /// Which of a range of descriptors are [known](Self::knows).
    pub(super) fn known_in(&self, range: RangeInclusive<usize>) -> Vec<RawFd> {
        let known =
            self.entries.iter().enumerate().filter(|(index, entry)| entry.known && range.contains(index));
        known.map(|(index, _)| index as RawFd).collect()
    }

    /// Waits for events, at most for `most`, and says who is to be woken up.
    pub(super) fn wait(
        &mut self,
        most: Option<Duration>,
        is_live: impl Fn(Token) -> bool,
        found: &mut Found,
    ) -> io::Result<()> {
        let count = self.collect(most)?;
        for at in 0..count {
            let libc::epoll_event { events, u64: data } = self.events[at];
            if data >= OTHERS {
                found.watched |= 1 << (data - OTHERS);
                continue;
            }
            let index = (data & 0xffff_ffff) as usize;
            let Some(entry) = self.entries.get_mut(index) else { continue };
            if u64::from(entry.round) != data >> 32 {
                continue;
            }
            entry.armed = 0;
            let always = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
            entry.waiters.retain(|(token, wanted)| {
                let over = events & (wanted | always) != 0;
                if over {
                    found.woken.push(*token);
                }
                !over && is_live(*token)
            });
            if !entry.waiters.is_empty() && self.arm(index).is_err() {
                let entry = &mut self.entries[index];
                found.woken.extend(entry.waiters.drain(..).map(|(token, _)| token));
            }
        }
        Ok(())
    }

    fn collect(&mut self, most: Option<Duration>) -> io::Result<usize> {
        let room = self.events.len() as libc::c_int;
        match real::epoll_wait_for(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), room, most) {
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            },
            count => Ok(count as usize),
        }
    }
}
