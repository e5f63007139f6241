//! The pid file (gunicorn: `pidfile`).

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use thiserror::Error;

use crate::sys::fork::Pid;

/// A pid file of this process's.
#[derive(Debug)]
pub(super) struct Pidfile {
    path: PathBuf,
    pid: i32,
}

/// Why there is none.
#[derive(Debug, Error)]
pub enum PidfileError {
    /// Another server is running.
    #[error("Already running on PID {pid} (or pid file '{path}' is stale)")]
    Running {
        /// Its process.
        pid: i32,
        /// The file that says so.
        path: PathBuf,
    },
    /// The directory is missing.
    #[error("{0} doesn't exist. Can't create pidfile.")]
    NoDirectory(PathBuf),
    /// The system refused.
    #[error("Can't create pidfile '{path}': {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Pidfile {
    /// Writes the pid file, in one step: nobody sees it half written.
    pub(super) fn create(path: &Path) -> Result<Pidfile, PidfileError> {
        let failed = |source| PidfileError::Io { path: path.to_owned(), source };
        let path = std::path::absolute(path).map_err(failed)?;
        let pid = nix::unistd::getpid().as_raw();
        if let Some(running) = holder(&path).map_err(failed)?.filter(|holder| *holder != pid) {
            return Err(PidfileError::Running { pid: running, path });
        }
        let directory = path.parent().unwrap_or(Path::new("/"));
        if !directory.is_dir() {
            return Err(PidfileError::NoDirectory(directory.to_owned()));
        }
        write(&path, directory, pid).map_err(failed)?;
        Ok(Pidfile { path, pid })
    }

    /// Whether it is at `path`.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        std::path::absolute(path).is_ok_and(|path| path == self.path)
    }

    /// Removes it, if it is still ours.
    pub(super) fn unlink(&self) {
        if matches!(recorded(&self.path), Ok(Some(pid)) if pid == self.pid) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn write(path: &Path, directory: &Path, pid: i32) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    writeln!(file, "{pid}")?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

/// The process that the file names, if there is such a process.
fn holder(path: &Path) -> io::Result<Option<i32>> {
    // Without a signal, `kill` only looks. Not being allowed to signal a process means that it is there.
    let alive = |pid: &i32| *pid > 0 && kill(Pid::from_raw(*pid), None) != Err(Errno::ESRCH);
    Ok(recorded(path)?.filter(alive))
}

/// The process that the file names; none if there is no file, or something else in it.
fn recorded(path: &Path) -> io::Result<Option<i32>> {
    match fs::read(path) {
        Ok(bytes) => Ok(std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_this_process_and_goes_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let pidfile = Pidfile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(pidfile.is_at(&path));
        pidfile.unlink();
        assert!(!path.exists());
    }

    #[test]
    fn a_running_process_keeps_us_out_and_a_dead_one_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let parent = nix::unistd::getppid();
        fs::write(&path, format!("{parent}\n")).unwrap();
        let error = Pidfile::create(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("Already running on PID {parent} ")), "{error}");
        for stale in ["2147418112\n", "not a number", ""] {
            fs::write(&path, stale).unwrap();
            Pidfile::create(&path).unwrap();
        }
    }

    #[test]
    fn the_file_of_a_successor_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let pidfile = Pidfile::create(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        pidfile.unlink();
        assert!(path.exists());
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = Pidfile::create(Path::new("/nowhere/at/all/pid")).unwrap_err();
        assert_eq!(error.to_string(), "/nowhere/at/all doesn't exist. Can't create pidfile.");
    }
}
