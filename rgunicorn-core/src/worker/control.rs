//! When a worker must stop, and how.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::scoreboard::Slot;
use crate::sys::orphans;
use crate::sys::signals::{self, Signal, SignalPipe};

/// How a worker is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Finish what is held, within `graceful_timeout` (SIGTERM).
    Graceful,
    /// Leave now (SIGINT, SIGQUIT).
    Quick,
}

/// When this process was first asked to stop, for each way.
static ASKED: [OnceLock<Instant>; 2] = [OnceLock::new(), OnceLock::new()];

impl Stop {
    /// For how long a quick stop lets a process clean up. Its arbiter waits for two seconds.
    pub(crate) const QUICK: Duration = Duration::from_millis(1500);
    /// What is left of a graceful stop's time for saying that it was not enough.
    const MARGIN: Duration = Duration::from_millis(500);
    /// How long one that nobody has asked to stop may take.
    const LONGEST: Duration = Duration::from_secs(30);
    /// One that is late already has a moment all the same. Its arbiter waits for half a second.
    const LEAST: Duration = Duration::from_millis(300);

    /// For how long this process, a worker with this `graceful_timeout`, may still clean up before it is killed.
    pub(crate) fn time_left(graceful: Duration) -> Duration {
        let left = |asked: &OnceLock<Instant>, limit: Duration| {
            asked.get().map(|at| limit.saturating_sub(at.elapsed()))
        };
        let [gracefully, quickly] = &ASKED;
        [left(gracefully, graceful.saturating_sub(Stop::MARGIN)), left(quickly, Stop::QUICK)]
            .into_iter()
            .flatten()
            .fold(Stop::LONGEST, Duration::min)
            .max(Stop::LEAST)
    }
}

/// Tells a worker when to stop. Watch [`descriptor`](Self::descriptor) for readability, then ask [`poll`](Self::poll).
#[derive(Debug)]
pub struct Control {
    /// Ready when one of the two below is.
    ready: Epoll,
    signals: Option<SignalPipe>,
    lifeline: Option<OwnedFd>,
    stop: Option<Stop>,
    reopen: bool,
    /// Says which level the error log should have.
    slot: Option<Slot>,
}

impl Control {
    /// For a worker process: its signals become requests to stop, and so does the end of `lifeline`.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(crate) fn for_worker(lifeline: OwnedFd) -> io::Result<Control> {
        let mut control = Control::standalone()?;
        signals::catch_abort()?;
        signals::ignore_reports();
        control.ready.add(&lifeline, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        control.lifeline = Some(lifeline);
        Ok(control)
    }

    /// For a process that runs an engine with no arbiter: SIGTERM, SIGINT and SIGQUIT of this process become requests to
    /// stop, SIGUSR1 reopens its logs.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn standalone() -> io::Result<Control> {
        let signals = SignalPipe::install(
            &[Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2],
            &[Signal::SIGHUP, Signal::SIGWINCH, Signal::SIGTTIN, Signal::SIGTTOU],
        )?;
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        ready.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        Ok(Control { ready, signals: Some(signals), lifeline: None, stop: None, reopen: false, slot: None })
    }

    /// For tests, and for hosts that have their own way to end: stops when [`request_stop`](Self::request_stop) says so.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn detached() -> io::Result<Control> {
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Control { ready, signals: None, lifeline: None, stop: None, reopen: false, slot: None })
    }

    /// The descriptor that is readable when [`poll`](Self::poll) has news. It is the same for the worker's whole life.
    pub fn descriptor(&self) -> RawFd {
        self.ready.0.as_raw_fd()
    }

    /// Takes in what has come since, without waiting, and says whether the worker must stop.
    pub fn poll(&mut self) -> Option<Stop> {
        for signal in self.signals.as_ref().map(SignalPipe::drain).unwrap_or_default() {
            match signal {
                Signal::SIGTERM => self.request_stop(Stop::Graceful),
                Signal::SIGINT | Signal::SIGQUIT => self.request_stop(Stop::Quick),
                Signal::SIGUSR1 => {
                    crate::log::reopen();
                    self.reopen = true;
                }
                Signal::SIGUSR2 => self.heed_log_level(),
                _ => {}
            }
        }
        if let Some(lifeline) = self.lifeline.take_if(|lifeline| has_ended(lifeline)) {
            // It stays readable for good: a watcher of ours would not come to rest.
            let _ = self.ready.delete(&lifeline);
            tracing::info!("The arbiter is gone, stopping");
            orphans::begin_to_end();
            self.request_stop(Stop::Graceful);
        }
        self.stop
    }

    /// Has the level of the error log follow what the scoreboard says, from SIGUSR2 to SIGUSR2.
    pub(crate) fn take_log_level_from(&mut self, slot: Slot) {
        self.slot = Some(slot);
        self.heed_log_level();
    }

    fn heed_log_level(&self) {
        if let Some(level) = self.slot.as_ref().and_then(Slot::log_level) {
            crate::log::set_level(level);
        }
    }

    /// Whether the worker must stop, as far as the last [`poll`](Self::poll) knew.
    #[inline]
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Whether a signal to stop has come to this process, even if nobody has [polled](Self::poll) since: for code that
    /// can't reach the control, such as what finishes the response of a request that took long.
    pub fn stop_has_come() -> bool {
        signals::has_come(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT])
    }

    /// Leaves all signals to the handlers that this process has by now, for a worker that minds them itself. What came
    /// before it had them is sent again; the arbiter's death becomes a SIGTERM; and the traces of a SIGABRT are left before
    /// the handler for it is called.
    ///
    /// # Errors
    /// None that can happen on Linux.
    pub fn hand_over(mut self) -> io::Result<()> {
        signals::chain_abort()?;
        // Gunicorn's workers are ended by these. They mean something to the arbiter, and get to workers by mistake.
        for signal in [Signal::SIGHUP, Signal::SIGUSR2] {
            signals::spare(signal)?;
        }
        orphans::outlive(Some(Signal::SIGTERM));
        // The arbiter may have died before that.
        match self.poll() {
            Some(Stop::Graceful) => signals::send(nix::unistd::getpid(), Signal::SIGTERM),
            Some(Stop::Quick) => signals::send(nix::unistd::getpid(), Signal::SIGQUIT),
            None => Ok(()),
        }
    }

    /// Asks the worker to stop, from inside. A quick stop overrides a graceful one, and never the other way.
    pub fn request_stop(&mut self, stop: Stop) {
        self.stop = self.stop.max(Some(stop));
        if self.signals.is_some() {
            ASKED[stop as usize].get_or_init(Instant::now);
        }
    }

    /// Whether the access log is to be reopened; true once for each SIGUSR1. (The error log was reopened already.)
    pub fn take_reopen(&mut self) -> bool {
        std::mem::take(&mut self.reopen)
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.0.as_fd()
    }
}

/// The two ends of a pipe that nothing is ever written to. While the arbiter lives it holds one; what workers read from
/// the other ends when it dies, however it dies.
#[derive(Debug)]
pub(crate) struct Lifeline {
    /// The workers' end.
    pub(crate) watch: OwnedFd,
    /// The arbiter's end: nobody else may keep it.
    pub(crate) hold: OwnedFd,
}

impl Lifeline {
    pub(crate) fn new() -> io::Result<Lifeline> {
        let (watch, hold) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Lifeline { watch, hold })
    }
}

fn has_ended(lifeline: &OwnedFd) -> bool {
    !matches!(nix::unistd::read(lifeline, &mut [0]), Err(Errno::EAGAIN | Errno::EINTR))
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn readable(control: &Control) -> bool {
        let mut watched = [PollFd::new(control.as_fd(), PollFlags::POLLIN)];
        poll(&mut watched, PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn quick_overrides_graceful_and_not_the_other_way() {
        let mut control = Control::detached().unwrap();
        assert_eq!(control.poll(), None);
        control.request_stop(Stop::Graceful);
        assert_eq!(control.stop(), Some(Stop::Graceful));
        control.request_stop(Stop::Quick);
        control.request_stop(Stop::Graceful);
        assert_eq!(control.poll(), Some(Stop::Quick));
    }

    #[test]
    fn the_end_of_the_lifeline_is_noticed_once_and_remembered() {
        let Lifeline { watch, hold } = Lifeline::new().unwrap();
        let mut control = Control::detached().unwrap();
        control.ready.add(&watch, EpollEvent::new(EpollFlags::EPOLLIN, 0)).unwrap();
        control.lifeline = Some(watch);
        assert_eq!((readable(&control), control.poll()), (false, None));
        drop(hold);
        assert!(readable(&control));
        assert_eq!(control.poll(), Some(Stop::Graceful));
        assert!(!readable(&control));
        assert_eq!(control.poll(), Some(Stop::Graceful));
    }
}
