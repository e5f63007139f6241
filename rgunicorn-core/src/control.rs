//! The control socket, as both ends must know it (`docs/ctl.md` has its commands).

use std::path::PathBuf;

/// Where the control socket is if the settings don't say: `$XDG_RUNTIME_DIR/rgunicorn.ctl`, or else
/// `~/.rgunicorn/rgunicorn.ctl`; none if there is neither.
pub fn default_socket() -> Option<PathBuf> {
    let directory = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let runtime = directory("XDG_RUNTIME_DIR").map(|runtime| runtime.join("rgunicorn.ctl"));
    runtime.or_else(|| Some(directory("HOME")?.join(".rgunicorn/rgunicorn.ctl")))
}
