//! `poll`, `select` and `epoll_wait`: first asked without waiting, then waited for with our own epoll instance, then asked
//! again, so that the answer is always the kernel's.

use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use libc::{epoll_event, fd_set, nfds_t, pollfd, sigset_t, timespec, timeval};

use super::{after, duration, errno, fail, interpose, real};
use crate::coro::scheduler::{CannotWait, Coroutine, Wake};

/// How often is asked for signals that are let in only for the time of the call, of which nothing else tells.
const LOOK: Duration = Duration::from_millis(20);

/// Asks again and again until there is an answer, waiting in between. `ask` answers 0 while there is none.
fn ask_until(
    me: &Coroutine,
    by: Option<Instant>,
    descriptors: impl Fn() -> Vec<(RawFd, u32)>,
    ask: impl FnMut() -> c_int,
) -> c_int {
    ask_masked_until(me, by, std::ptr::null(), descriptors, ask)
}

/// The same, of a call that has a signal mask, if it isn't null.
fn ask_masked_until(
    me: &Coroutine,
    by: Option<Instant>,
    mask: *const sigset_t,
    descriptors: impl Fn() -> Vec<(RawFd, u32)>,
    mut ask: impl FnMut() -> c_int,
) -> c_int {
    loop {
        let answer = ask();
        if answer != 0 {
            return answer;
        }
        if by.is_some_and(|by| by <= Instant::now()) {
            return 0;
        }
        let look = if mask.is_null() { None } else { after(Some(LOOK)) };
        match me.wait_for(descriptors(), [by, look].into_iter().flatten().min()) {
            Ok(Wake::Interrupted) => return fail(me.interrupted()),
            Ok(Wake::Ready | Wake::Closed | Wake::TimedOut) => {}
            // Closed meanwhile, which the next answer will say; or what can't be waited for: the kernel has it never
            // ready, so time must pass.
            Err(CannotWait::Closed) => {}
            Err(CannotWait::AlwaysReady) => {
                let soon = Instant::now() + Duration::from_millis(1);
                if me.sleep(Some(by.map_or(soon, |by| by.min(soon)))) == Wake::Interrupted {
                    return fail(me.interrupted());
                }
            }
        }
    }
}

fn milliseconds(timeout: c_int) -> Option<Duration> {
    u64::try_from(timeout).ok().map(Duration::from_millis)
}

unsafe fn poll_until(me: &Coroutine, polled: *mut pollfd, count: nfds_t, by: Option<Instant>) -> c_int {
    ask_until(me, by, || polled_descriptors(polled, count), || real::poll_now(polled, count))
}

unsafe fn polled_descriptors(polled: *mut pollfd, count: nfds_t) -> Vec<(RawFd, u32)> {
    let all = if count == 0 { &[] } else { std::slice::from_raw_parts(polled, count as usize) };
    // poll's bits are epoll's, and it takes no notice of negative descriptors.
    all.iter().filter(|one| one.fd >= 0).map(|one| (one.fd, one.events as u16 as u32)).collect()
}

unsafe fn epoll_until(
    me: &Coroutine,
    epoll: c_int,
    events: *mut epoll_event,
    room: c_int,
    by: Option<Instant>,
) -> c_int {
    ask_until(
        me,
        by,
        || vec![(epoll, libc::EPOLLIN as u32)],
        || real::epoll_wait_for(epoll, events, room, Some(Duration::ZERO)),
    )
}

/// The sets of a `select`, as they were given.
struct Sets {
    count: c_int,
    given: [Option<fd_set>; 3],
    places: [*mut fd_set; 3],
}

impl Sets {
    unsafe fn new(count: c_int, places: [*mut fd_set; 3]) -> Self {
        Sets { count, given: places.map(|place| place.as_ref().copied()), places }
    }

    fn descriptors(&self) -> Vec<(RawFd, u32)> {
        let events = [libc::POLLIN, libc::POLLOUT, libc::POLLPRI];
        let wanted = |descriptor| {
            self.given.iter().zip(events).fold(0, |all, (set, event)| {
                // SAFETY: the descriptor is within a set's bounds.
                let is_in = set.as_ref().is_some_and(|set| unsafe { libc::FD_ISSET(descriptor, set) });
                all | if is_in { event as u32 } else { 0 }
            })
        };
        let all = 0..self.count.min(libc::FD_SETSIZE as c_int);
        all.map(|descriptor| (descriptor, wanted(descriptor))).filter(|(_, events)| *events != 0).collect()
    }

    /// Puts the sets back as they were given.
    unsafe fn restore(&self) {
        for (place, given) in self.places.iter().zip(self.given) {
            if let Some(given) = given {
                **place = given;
            }
        }
    }
}

interpose! {
    fn poll(polled: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int as (me, real) {
        if timeout == 0 {
            return real(polled, count, timeout);
        }
        poll_until(me, polled, count, after(milliseconds(timeout)))
    }

    fn __poll_chk(polled: *mut pollfd, count: nfds_t, timeout: c_int, room: usize) -> c_int as (me, real) {
        if timeout == 0 {
            return real(polled, count, timeout, room);
        }
        poll_until(me, polled, count, after(milliseconds(timeout)))
    }

    fn ppoll(polled: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int as (me, real) {
        let most = timeout.as_ref().map(duration);
        if most == Some(Duration::ZERO) {
            return real(polled, count, timeout, mask);
        }
        let now = timespec { tv_sec: 0, tv_nsec: 0 };
        ask_masked_until(me, after(most), mask, || polled_descriptors(polled, count), || {
            real(polled, count, &raw const now, mask)
        })
    }

    fn select(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> c_int as (me, real) {
        let most = timeout.as_ref().map(|time| {
            duration(&timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_usec * 1000 })
        });
        if most == Some(Duration::ZERO) {
            return real(count, read, write, except, timeout);
        }
        let (sets, by) = (Sets::new(count, [read, write, except]), after(most));
        let answer = ask_until(me, by, || sets.descriptors(), || {
            sets.restore();
            let mut now = timeval { tv_sec: 0, tv_usec: 0 };
            real(count, read, write, except, &raw mut now)
        });
        if let (Some(timeout), Some(by)) = (timeout.as_mut(), by) {
            let left = by.saturating_duration_since(Instant::now());
            timeout.tv_sec = left.as_secs() as libc::time_t;
            timeout.tv_usec = left.subsec_micros().into();
        }
        answer
    }

    fn pselect(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *const timespec, mask: *const sigset_t) -> c_int as (me, real) {
        let most = timeout.as_ref().map(duration);
        if most == Some(Duration::ZERO) {
            return real(count, read, write, except, timeout, mask);
        }
        let sets = Sets::new(count, [read, write, except]);
        ask_masked_until(me, after(most), mask, || sets.descriptors(), || {
            sets.restore();
            let now = timespec { tv_sec: 0, tv_nsec: 0 };
            real(count, read, write, except, &raw const now, mask)
        })
    }

    fn epoll_wait(epoll: c_int, events: *mut epoll_event, room: c_int, timeout: c_int) -> c_int as (me, real) {
        if timeout == 0 {
            return real(epoll, events, room, timeout);
        }
        epoll_until(me, epoll, events, room, after(milliseconds(timeout)))
    }

    fn epoll_pwait(epoll: c_int, events: *mut epoll_event, room: c_int, timeout: c_int, mask: *const sigset_t) -> c_int as (me, real) {
        if timeout == 0 {
            return real(epoll, events, room, timeout, mask);
        }
        let readable = || vec![(epoll, libc::EPOLLIN as u32)];
        ask_masked_until(me, after(milliseconds(timeout)), mask, readable, || real(epoll, events, room, 0, mask))
    }

    fn epoll_pwait2(epoll: c_int, events: *mut epoll_event, room: c_int, timeout: *const timespec, mask: *const sigset_t) -> c_int as (me, real) {
        let most = timeout.as_ref().map(duration);
        if most == Some(Duration::ZERO) {
            return real(epoll, events, room, timeout, mask);
        }
        let now = timespec { tv_sec: 0, tv_nsec: 0 };
        let readable = || vec![(epoll, libc::EPOLLIN as u32)];
        ask_masked_until(me, after(most), mask, readable, || real(epoll, events, room, &raw const now, mask))
    }
}

/// Waits for one event of a descriptor: false with `errno` set if there will be none.
pub(super) fn wait_ready(
    me: &Coroutine,
    descriptor: RawFd,
    event: i16,
    by: Option<Instant>,
) -> Result<(), c_int> {
    match me.wait_for([(descriptor, event as u16 as u32)], by) {
        Ok(Wake::Ready) => Ok(()),
        Ok(Wake::TimedOut) => Err(libc::EAGAIN),
        Ok(Wake::Interrupted) => Err(me.interrupted()),
        Ok(Wake::Closed) | Err(CannotWait::Closed) => Err(libc::EBADF),
        Err(CannotWait::AlwaysReady) => Ok(()),
    }
}

/// Waits before a call that has no way not to block: until the descriptor has the event.
pub(super) fn wait_before(me: &Coroutine, descriptor: RawFd, event: i16) -> Result<(), c_int> {
    if descriptor < 0 {
        return Ok(());
    }
    while real::ready(descriptor, event) == 0 {
        wait_ready(me, descriptor, event, None)?;
    }
    Ok(())
}

/// Whether a descriptor is in non-blocking mode; what is none at all is, too, so that the real call says so.
pub(super) fn is_nonblocking(descriptor: RawFd) -> bool {
    // SAFETY: takes no pointer.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFL, std::ptr::null_mut::<c_void>()) };
    flags == -1 || flags & libc::O_NONBLOCK != 0
}

/// The result of a call, made again each time that waiting for `event` has helped it against EAGAIN.
pub(super) fn retrying(
    me: &Coroutine,
    descriptor: RawFd,
    event: i16,
    timeout: impl FnOnce() -> Option<Duration>,
    mut call: impl FnMut() -> isize,
) -> isize {
    let mut waited = None;
    let mut timeout = Some(timeout);
    loop {
        let result = call();
        if result != -1 || !matches!(errno(), libc::EAGAIN) {
            return result;
        }
        if waited.is_none() && is_nonblocking(descriptor) {
            return fail(libc::EAGAIN) as isize;
        }
        let by = *waited.get_or_insert_with(|| after(timeout.take().and_then(|timeout| timeout())));
        if let Err(error) = wait_ready(me, descriptor, event, by) {
            return fail(error) as isize;
        }
    }
}
