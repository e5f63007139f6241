//! The pid file (gunicorn: `pidfile`).
//!
//! A number in a file says little: the process may be gone, and its number another program's. So whoever has a pid file
//! keeps it locked, for as long as he lives; and of a process that has none, as those of gunicorn, it is looked what it is.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use thiserror::Error;

use crate::sys::files;
use crate::sys::fork::Pid;
use crate::sys::processes::{self, own_pid};

/// More than a process's number takes, in bytes.
const LONGEST: u64 = 64;

/// A pid file of this process's.
#[derive(Debug)]
pub(super) struct Pidfile {
    path: PathBuf,
    pid: i32,
    /// Locked for as long as it is open.
    _lock: File,
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
    /// Something else is there.
    #[error("Can't create pidfile '{path}': there is {what} of that name, and a pid file is a plain file")]
    NoFile {
        /// Where.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
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
        let pid = own_pid().as_raw();
        if let Some(what) = obstacle(&path) {
            return Err(PidfileError::NoFile { path, what });
        }
        if let Some(running) = holder(&path).map_err(failed)?.filter(|holder| *holder != pid) {
            return Err(PidfileError::Running { pid: running, path });
        }
        let directory = path.parent().unwrap_or(Path::new("/"));
        if !directory.is_dir() {
            return Err(PidfileError::NoDirectory(directory.to_owned()));
        }
        let lock = write(&path, directory, pid).map_err(failed)?;
        Ok(Pidfile { path, pid, _lock: lock })
    }

    /// Whether it is at `path`.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        std::path::absolute(path).is_ok_and(|path| path == self.path)
    }

    /// Removes it, if it is still ours.
    pub(super) fn unlink(&self) {
        if matches!(record(&self.path), Ok(Some(record)) if record.pid == self.pid) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Answers the file, locked. Where files can't be locked, it is looked what the process is.
fn write(path: &Path, directory: &Path, pid: i32) -> io::Result<File> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    writeln!(file, "{pid}")?;
    let _ = files::lock(file.as_file());
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    Ok(file.persist(path)?)
}

/// What is at the place of the file and neither is one nor gives way to it.
fn obstacle(path: &Path) -> Option<&'static str> {
    let kind = fs::symlink_metadata(path).ok()?.file_type();
    match () {
        // A link is replaced, whatever it leads to.
        () if kind.is_file() || kind.is_symlink() => None,
        () if kind.is_dir() => Some("a directory"),
        () if kind.is_fifo() => Some("a FIFO"),
        () if kind.is_socket() => Some("a socket"),
        () => Some("a device"),
    }
}

/// The server that the file names, if it runs.
fn holder(path: &Path) -> io::Result<Option<i32>> {
    let Some(record) = record(path)? else { return Ok(None) };
    // Without a signal, `kill` only looks. Not being allowed to signal a process means that it is there.
    let alive = kill(Pid::from_raw(record.pid), None) != Err(Errno::ESRCH);
    let holds = || files::is_locked(&record.file) || (!is_younger(&record) && is_server(record.pid));
    Ok((alive && holds()).then_some(record.pid))
}

/// Whether the process has begun after the file was written: then it is not the one that is meant.
fn is_younger(record: &Record) -> bool {
    let written = record.file.metadata().and_then(|metadata| metadata.modified());
    match (processes::age(record.pid), written.map(|written| written.elapsed())) {
        // By some seconds: the kernel's clock is coarse.
        (Some(age), Ok(Ok(since))) => since > age.saturating_add(std::time::Duration::from_secs(5)),
        _ => false,
    }
}

/// Whether the process may be a server: one like this, or one of gunicorn. One that can't be looked at may be.
fn is_server(pid: i32) -> bool {
    let alike = processes::program(pid)
        .is_some_and(|program| Some(program) == processes::program(own_pid().as_raw()));
    alike
        || processes::command_line(pid).is_none_or(|line| memchr::memmem::find(&line, b"gunicorn").is_some())
}

/// A file, and the process that it names.
struct Record {
    pid: i32,
    file: File,
}

/// What the file says; none if there is no file, or something else in it.
fn record(path: &Path) -> io::Result<Option<Record>> {
    let file = match files::open_plain(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // A link, which is replaced.
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    (&file).take(LONGEST).read_to_end(&mut bytes)?;
    let pid = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok());
    Ok(pid.filter(|pid| *pid > 0).map(|pid| Record { pid, file }))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

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

    struct Process(Child);

    impl Process {
        fn start(name: &str) -> Process {
            use std::os::unix::process::CommandExt;
            Process(Command::new("sleep").arg0(name).arg("60").spawn().unwrap())
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_server_that_runs_keeps_us_out_and_nobody_else_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let (server, other) = (Process::start("gunicorn: master [shop]"), Process::start("sleep"));
        let name = |process: &Process| fs::write(&path, format!("{}\n", process.0.id())).unwrap();
        // Until the program runs, it is this one.
        let is_itself = |process: &Process| {
            processes::program(process.0.id() as i32) != processes::program(own_pid().as_raw())
        };
        while !is_itself(&server) || !is_itself(&other) {
            std::thread::yield_now();
        }
        name(&server);
        let error = Pidfile::create(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("Already running on PID {} ", server.0.id())), "{error}");
        // Its number was another's when the file was written.
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        File::open(&path).unwrap().set_modified(long_ago).unwrap();
        Pidfile::create(&path).unwrap();
        name(&other);
        Pidfile::create(&path).unwrap();
        for stale in ["2147418112\n", "not a number", "", "-1", "0"] {
            fs::write(&path, stale).unwrap();
            Pidfile::create(&path).unwrap();
        }
    }

    #[test]
    fn who_has_locked_it_keeps_us_out_whatever_he_is_called() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let other = Process::start("something");
        fs::write(&path, other.0.id().to_string()).unwrap();
        let held = File::options().write(true).open(&path).unwrap();
        files::lock(&held).unwrap();
        assert!(matches!(Pidfile::create(&path), Err(PidfileError::Running { .. })));
        drop(held);
        Pidfile::create(&path).unwrap();
    }

    #[test]
    fn what_is_no_file_is_named_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = Pidfile::create(&path).unwrap_err().to_string();
        assert!(error.contains("there is a FIFO of that name"), "{error}");
        let error = Pidfile::create(directory.path()).unwrap_err().to_string();
        assert!(error.contains("there is a directory of that name"), "{error}");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        Pidfile::create(&link).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
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
