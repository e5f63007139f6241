//! What an arbiter is born with: sockets that listen already, from the arbiter that it is to take over from (SIGUSR2), or
//! from systemd. Both are told by environment variables, the first by those of gunicorn.

use std::env;
use std::os::fd::OwnedFd;

use nix::unistd::getppid;

use super::start::StartError;
use crate::config::{BindAddress, Config};
use crate::sys::fork::Pid;
use crate::sys::{environment, net};

/// The process that a new arbiter is to take over from.
pub(super) const PREDECESSOR: &str = "GUNICORN_PID";
/// The descriptors of its listeners, with commas between them.
pub(super) const LISTENERS: &str = "GUNICORN_FD";

/// Sockets, and whom they are from.
#[derive(Debug, Default)]
pub(super) struct Inheritance {
    /// The arbiter that is to be taken over from, while it lives.
    pub(super) predecessor: Option<Pid>,
    /// Its listeners.
    pub(super) listeners: Vec<OwnedFd>,
    /// What systemd listens at for us; where there is something, it is all that is listened at.
    activated: Vec<BindAddress>,
}

impl Inheritance {
    /// Takes what there is, so that nobody who is started from here takes it for theirs.
    pub(super) fn claim() -> Result<Inheritance, StartError> {
        let activated =
            sd_notify::listen_fds().map_err(StartError::Activation)?.map(BindAddress::Fd).collect();
        let predecessor = env::var(PREDECESSOR).ok().and_then(|pid| pid.parse().ok()).map(Pid::from_raw);
        // Of a process further up the descriptors aren't ours.
        let predecessor = predecessor.filter(|pid| *pid == getppid());
        let listeners = match (predecessor, env::var(LISTENERS)) {
            (Some(_), Ok(numbers)) => adopt(&numbers)?,
            _ => Vec::new(),
        };
        for name in [PREDECESSOR, LISTENERS, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            environment::remove(name);
        }
        Ok(Inheritance { predecessor, listeners, activated })
    }

    /// Has the settings listen where systemd does.
    pub(super) fn apply(&self, config: &mut Config) {
        if !self.activated.is_empty() {
            config.bind.clone_from(&self.activated);
        }
    }

    /// How many sockets are systemd's.
    pub(super) fn activated(&self) -> usize {
        self.activated.len()
    }

    /// Whether the arbiter that was to be taken over from is gone since.
    pub(super) fn falls_due(&mut self) -> bool {
        self.predecessor.take_if(|pid| *pid != getppid()).is_some()
    }
}

fn adopt(numbers: &str) -> Result<Vec<OwnedFd>, StartError> {
    let failed = |why: String| StartError::Inheritance { numbers: numbers.to_owned(), why };
    numbers
        .split(',')
        .map(|number| {
            let number = number.trim().parse().map_err(|_| failed(format!("{number:?} is no number")))?;
            net::adopt(number).map_err(|error| failed(format!("{number}: {error}")))
        })
        .collect()
}
