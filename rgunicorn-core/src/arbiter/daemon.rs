//! Into the background (gunicorn: `daemon`).

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};

use nix::sys::stat::{Mode, umask};

use crate::sys::files::{self, STDERR, STDOUT};
use crate::sys::fork::{Forked, exit_now, fork};

/// Leaves the terminal: goes on in a grandchild, in a session of its own, that is not the session's leader and so can't
/// get a terminal again. The standard descriptors become `/dev/null`; with `keep_output`, output and error only if they
/// are a terminal.
pub(super) fn detach(keep_output: bool) -> io::Result<()> {
    go_on_in_child()?;
    nix::unistd::setsid()?;
    go_on_in_child()?;
    umask(Mode::from_bits_truncate(0o022));
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    files::replace(&null, files::STDIN)?;
    if !keep_output || io::stdout().is_terminal() {
        files::replace(&null, STDOUT)?;
    }
    if !keep_output || io::stderr().is_terminal() {
        files::replace(&null, STDERR)?;
    }
    Ok(())
}

fn go_on_in_child() -> io::Result<()> {
    match fork()? {
        Forked::Parent(_) => exit_now(0),
        Forked::Child(blocked) => {
            drop(blocked);
            Ok(())
        }
    }
}
