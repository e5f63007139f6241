//! SIGUSR2: another arbiter beside this one, from the program and the settings as they are on disk now.
//!
//! It listens with the same sockets, and has workers of its own; both serve. The operator then lets the workers of this
//! one go (SIGWINCH) and this one itself (SIGQUIT or SIGTERM), at which the new one takes its name; or ends the new one,
//! and goes on as before. Signals, pid files and environment variables are those of gunicorn.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::Master;
use super::inheritance::{LISTENERS, PREDECESSOR};
use crate::sys::fork::{Ended, Forked, Pid, exit_now, fork};
use crate::sys::net;
use crate::sys::processes::own_pid;

impl Master {
    /// Starts another arbiter, unless there are two already.
    pub(super) fn upgrade(&mut self) {
        if self.heir.is_some() {
            return tracing::warn!("SIGUSR2 ignored. Child exists.");
        }
        if self.inheritance.predecessor.is_some() {
            return tracing::warn!("SIGUSR2 ignored. Parent exists.");
        }
        self.hooks.before_fork();
        match fork() {
            Ok(Forked::Child(blocked)) => {
                // A program inherits what is blocked.
                drop(blocked);
                self.hooks.after_fork_in_worker();
                self.become_heir()
            }
            Ok(Forked::Parent(pid)) => {
                self.hooks.after_fork_in_arbiter(None);
                tracing::info!("Starting another arbiter (pid:{pid}) to take over");
                self.heir = Some(pid);
            }
            Err(error) => {
                self.hooks.after_fork_in_arbiter(None);
                tracing::error!("Can't start another arbiter: {error}");
            }
        }
    }

    /// In the new process: becomes the program anew.
    fn become_heir(&mut self) -> ! {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        let program = arguments.first().cloned().unwrap_or_default();
        self.hooks.pre_exec();
        self.environment.replace(&[]);
        let error = std::env::set_current_dir(&self.home).err().unwrap_or_else(|| {
            let mut command = Command::new(&program);
            command.args(arguments.iter().skip(1));
            match self.hand_on(&mut command) {
                Ok(()) => command.exec(),
                Err(error) => error,
            }
        });
        tracing::error!("Can't start {} anew: {error}", program.to_string_lossy());
        exit_now(1)
    }

    /// Lets the program have our sockets, and tells it so.
    fn hand_on(&self, command: &mut Command) -> std::io::Result<()> {
        let me = own_pid();
        command.env(PREDECESSOR, nix::unistd::getppid().to_string());
        let mut numbers = Vec::new();
        for listener in &self.current.listeners {
            listener.for_each_socket(|socket| {
                numbers.push(socket.as_raw_fd().to_string());
                net::keep_on_exec(socket)
            })?;
        }
        match self.inheritance.activated() {
            0 => command.env(LISTENERS, numbers.join(",")),
            // They have kept the numbers that systemd gave them.
            count => command.env("LISTEN_PID", me.to_string()).env("LISTEN_FDS", count.to_string()),
        };
        if self.service.is_watched() {
            command.env("WATCHDOG_PID", me.to_string());
        }
        Ok(())
    }

    /// Whether this was the arbiter that was to take over.
    pub(super) fn bury_heir(&mut self, pid: Pid, ended: Ended) -> bool {
        let was_heir = self.heir.take_if(|heir| *heir == pid).is_some();
        if was_heir && self.ending.is_none() {
            let how = match ended {
                Ended::Exited(status) => format!("status {status}"),
                Ended::Killed(signal) => format!("signal {signal}"),
            };
            tracing::warn!("The other arbiter (pid:{pid}) has ended ({how}); this one goes on");
        }
        was_heir
    }

    /// Whether another arbiter listens with the same sockets.
    pub(super) fn shares_sockets(&self) -> bool {
        self.heir.is_some() || self.inheritance.predecessor.is_some()
    }

    /// Takes the place of the arbiter that started this one, once that has ended.
    pub(super) fn take_over_if_due(&mut self) {
        if self.inheritance.falls_due() {
            tracing::info!("Master has been promoted.");
            self.retitle();
            self.move_pidfile();
            self.service.take_over();
        }
    }
}
