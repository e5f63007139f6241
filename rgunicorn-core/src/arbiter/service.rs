//! What a service manager is told, by systemd's protocol (`sd_notify`); nothing, where there is none.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::sys::fork::Pid;

/// The service manager, as it was found at the start.
#[derive(Debug)]
pub(super) struct Service {
    /// How often it wants a sign of life, in milliseconds, and when the next one is due.
    watchdog: Option<(u64, u64)>,
    /// Whether it was told that we serve.
    ready: bool,
}

impl Service {
    pub(super) fn find() -> Service {
        // Twice as often as asked, as its manual says.
        let half = |interval: Duration| u64::try_from(interval.as_millis() / 2).unwrap_or(u64::MAX).max(1);
        Service { watchdog: sd_notify::watchdog_enabled().map(|interval| (half(interval), 0)), ready: false }
    }

    /// Whether it wants signs of life.
    pub(super) fn is_watched(&self) -> bool {
        self.watchdog.is_some()
    }

    /// Requests are answered, by so many workers when all have come.
    pub(super) fn is_ready(&mut self, generation: u64, workers: usize) {
        self.ready = true;
        let status = format!("Generation {generation} serves, {workers} workers");
        tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// As at first, where that was told.
    pub(super) fn goes_on(&mut self, generation: u64, why: &str) {
        if self.ready {
            let first = why.lines().next().unwrap_or_default();
            let status = format!("Reload failed, generation {generation} goes on: {first}");
            tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
        }
    }

    pub(super) fn reloads(&self) {
        if self.ready {
            let mut states = vec![NotifyState::Reloading, NotifyState::Status("Reloading")];
            states.extend(NotifyState::monotonic_usec_now());
            tell(&states);
        }
    }

    pub(super) fn stops(&self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("Stopping")]);
    }

    /// The service goes on in another process.
    pub(super) fn hands_over(&self, heir: Pid) {
        if let Ok(heir) = u32::try_from(heir.as_raw()) {
            tell(&[NotifyState::MainPid(heir)]);
        }
    }

    /// This process is the service now.
    pub(super) fn take_over(&self) {
        tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
    }

    /// Gives a sign of life if one is due.
    pub(super) fn beat(&mut self, now: u64) {
        if let Some((interval, due)) = &mut self.watchdog
            && now >= *due
        {
            *due = now + *interval;
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// When the next sign of life is due, in milliseconds.
    pub(super) fn next_beat(&self) -> Option<u64> {
        self.watchdog.map(|(_, due)| due)
    }
}

fn tell(states: &[NotifyState<'_>]) {
    let told = match std::env::var_os("NOTIFY_SOCKET") {
        Some(name) if is_abstract(&name) => tell_abstract(&name, states),
        _ => sd_notify::notify(states),
    };
    if let Err(error) = told {
        tracing::warn!("Can't tell the service manager (NOTIFY_SOCKET): {error}");
    }
}

/// Whether the socket's name is one without a file: `sd_notify` takes it for a file's.
fn is_abstract(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"@")
}

fn tell_abstract(name: &OsStr, states: &[NotifyState<'_>]) -> io::Result<()> {
    let address = SocketAddr::from_abstract_name(name.as_bytes().get(1..).unwrap_or_default())?;
    let message: String = states.iter().map(|state| format!("{state}\n")).collect();
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}
