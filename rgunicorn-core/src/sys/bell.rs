//! A bell that child processes ring to wake the one that they were forked from.
//!
//! It says nothing but that there is news: whoever rings it can give no orders, since what comes through the pipe is thrown
//! away. Nor can it hold up who hears it: the end that is read is no child's, so that nobody can have a read of it block, and
//! one that rings without end is heard a hundred times a second.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;

/// For how long it isn't listened to once it has rung, in milliseconds.
const REST: u64 = 10;

/// The bell, where it is heard.
#[derive(Debug)]
pub struct Bell {
    heard: OwnedFd,
    rope: OwnedFd,
    /// Until when it isn't listened to, in milliseconds of the monotonic clock.
    rests_until: u64,
}

/// What rings the bell, in a process forked from the one that hears it.
#[derive(Debug)]
pub struct Rope(OwnedFd);

impl Bell {
    /// Makes one.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn new() -> io::Result<Bell> {
        let (heard, rope) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Bell { heard, rope, rests_until: 0 })
    }

    /// The descriptor that is readable once it has rung; none while it isn't listened to.
    pub fn watched(&self, now: u64) -> Option<BorrowedFd<'_>> {
        (now >= self.rests_until).then(|| self.heard.as_fd())
    }

    /// When it is listened to again, if it isn't now; in milliseconds of the monotonic clock.
    pub fn due(&self, now: u64) -> Option<u64> {
        (now < self.rests_until).then_some(self.rests_until)
    }

    /// Takes in that it has rung, if it has and is listened to.
    pub fn hush(&mut self, now: u64) {
        if self.watched(now).is_some() && nix::unistd::read(&self.heard, &mut [0; 4096]).is_ok() {
            self.rests_until = now + REST;
        }
    }

    /// In the child: all that it needs of it.
    pub fn into_rope(self) -> Rope {
        Rope(self.rope)
    }
}

impl Rope {
    /// Rings. If the pipe is full it has rung anyway.
    pub fn ring(&self) {
        let _ = nix::unistd::write(&self.0, &[0]);
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn rings(bell: &Bell, now: u64) -> bool {
        let mut watched: Vec<_> =
            bell.watched(now).into_iter().map(|it| PollFd::new(it, PollFlags::POLLIN)).collect();
        poll(&mut watched, PollTimeout::ZERO).unwrap() > 0
    }

    #[test]
    fn it_rings_until_it_is_hushed_and_then_rests() {
        let mut bell = Bell::new().unwrap();
        let rope = Rope(bell.rope.try_clone().unwrap());
        bell.hush(100);
        assert!(!rings(&bell, 100) && bell.due(100).is_none());
        rope.ring();
        assert!(rings(&bell, 100));
        bell.hush(100);
        assert!(!rings(&bell, 100));
        rope.ring();
        bell.hush(105);
        assert_eq!((rings(&bell, 105), bell.due(105)), (false, Some(110)));
        assert!(rings(&bell, 110) && bell.due(110).is_none());
    }

    #[test]
    fn one_who_rings_without_end_holds_up_nobody() {
        let mut bell = Bell::new().unwrap();
        while nix::unistd::write(&bell.rope, &[15; 4096]).is_ok() {}
        bell.hush(100);
        assert_eq!(bell.due(100), Some(110));
    }
}
