//! The error log (through `tracing`) and the access log.
//!
//! | module | what it is |
//! | --- | --- |
//! | `error` | a `tracing` subscriber that writes gunicorn's format |
//! | [`access`] | writes access log lines, in batches |
//! | [`mod@format`] | an access log format, compiled, and what it can print |
//! | `json` | either log as JSON |
//! | `syslog` | their way to syslog |
//! | `receiver` | what syslog and StatsD have in common: a program that may come late, be restarted or be slow |
//! | [`statsd`] | metrics for StatsD |
//! | [`host`] | a logger of the host's language that takes the logs in place of our files |
//! | `escape` | makes what a client sent safe to print |
//! | `printable` | the same for what a worker wrote, or somebody at the desk |
//!
//! The arbiter opens the files ([`setup`]) while it may, and gives those that it makes to the user that workers run as
//! ([`opening`]); workers inherit them. A file keeps its descriptor for good: reopening replaces what stands behind it, so
//! that no writer needs a lock.

pub mod access;
mod error;
mod escape;
pub mod format;
pub mod host;
mod json;
pub(crate) mod printable;
mod receiver;
pub mod statsd;
mod syslog;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use thiserror::Error;

pub use access::AccessLog;
pub(crate) use error::{complain, install, write_reports_to};
pub use error::{descriptor, level, message, raw_line, report_descriptor, set_level, with_statsd};
pub use format::{AccessRecord, FormatError, LogFormat, RequestLine};

use crate::config::{Config, LogTarget};
use crate::sync::lock;
use crate::sys::files;
use crate::sys::opening::{self, Party};
use statsd::Statsd;
use syslog::Syslog;

/// Logs with the level CRITICAL, which `tracing` doesn't know; the arguments are those of [`tracing::error!`].
#[macro_export]
macro_rules! critical {
    ($($arguments:tt)+) => { tracing::error!(target: $crate::log::CRITICAL, $($arguments)+) };
}
pub use crate::critical;

/// The `tracing` target whose errors are CRITICAL.
pub const CRITICAL: &str = "rgunicorn::critical";

/// A log that can't be written.
#[derive(Debug, Error)]
pub enum LogError {
    /// The file can't be opened.
    #[error(
        "{setting} {path:?} can't be written: {source}; the directory must exist, and the user must have access"
    )]
    Open {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The format is none.
    #[error("access_log_format: {0}")]
    Format(#[from] FormatError),
    /// There can't be such a server for the logs, or metrics, to go to: a sentence with the setting.
    #[error("{0}")]
    Server(String),
    /// Standard output and error can't be turned to the file.
    #[error("capture_output: {0}")]
    Capture(io::Error),
}

/// The files that are open.
#[derive(Debug)]
struct Files {
    error: Option<LogFile>,
    access: Option<LogFile>,
    capture: bool,
}

/// The access log as the host's logger writes it, if there is one.
static LINES: Mutex<Option<AccessLog>> = Mutex::new(None);

static FILES: Mutex<Files> = Mutex::new(Files { error: None, access: None, capture: false });

/// Opens the logs that the settings name, and directs `tracing`'s events to the error log, unless the host has set a
/// subscriber of its own. May be called again with other settings; on an error, what was before goes on.
///
/// # Errors
/// A [`LogError`] naming the setting.
pub fn setup(config: &Config) -> Result<(), LogError> {
    install();
    LogFormat::compile(&config.access_log_format)?;
    let open = |setting, target: Option<&LogTarget>| match target {
        Some(LogTarget::File(path)) => LogFile::create(setting, path, config).map(Some),
        Some(LogTarget::Standard) | None => Ok(None),
    };
    let error = open("errorlog", Some(&config.errorlog))?;
    let access = open("accesslog", config.accesslog.as_ref())?;
    let (syslog, no_syslog) = Syslog::open(config, "error").map_err(LogError::Server)?;
    let (statsd, no_statsd) = Statsd::find(config).map_err(LogError::Server)?;
    let also = error::Also { json: config.error_log_json, syslog, statsd };
    let mut files = lock(&FILES);
    set_level(config.loglevel);
    error::also(also);
    error::direct_to(error.as_ref().map_or(files::STDERR, |file| file.file.as_raw_fd()));
    *files = Files { error, access, capture: config.capture_output };
    let captured = files.capture_output();
    drop(files);
    let has_lines = lock(&LINES).is_some();
    if has_lines {
        open_access_lines(config)?;
    }
    complain(no_syslog);
    complain(no_statsd);
    captured.map_err(LogError::Capture)
}

/// Has [`access_line`] write to where the settings want the access log.
///
/// # Errors
/// A [`LogError`] naming the setting.
pub fn open_access_lines(config: &Config) -> Result<(), LogError> {
    let log = AccessLog::open_own(config)?;
    *lock(&LINES) = log;
    Ok(())
}

/// Writes a line to the access log, at once: for the host's logger.
pub fn access_line(line: &str) {
    if let Some(log) = &mut *lock(&LINES) {
        log.line(line);
    }
}

/// Opens the files of this process again by their names (SIGUSR1, for log rotation). One that can't be opened goes on as
/// it was, and the error log says so.
pub fn reopen() {
    reopen_files();
    host::reopen();
}

/// As [`reopen`], without the files of the host's logger.
pub fn reopen_files() {
    let files = lock(&FILES);
    for file in [&files.error, &files.access].into_iter().flatten() {
        if let Err(error) = file.reopen() {
            tracing::error!("Can't reopen {:?}: {error}", file.path);
        }
    }
    if let Err(error) = files.capture_output() {
        tracing::error!("Can't capture the output: {error}");
    }
    drop(files);
    if let Some(log) = &mut *lock(&LINES) {
        log.reopen();
    }
}

impl Files {
    fn capture_output(&self) -> io::Result<()> {
        if let (true, Some(error)) = (self.capture, &self.error) {
            files::replace(&error.file, files::STDOUT)?;
            files::replace(&error.file, files::STDERR)?;
        }
        Ok(())
    }
}

/// A log file, opened for appending.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    /// Who must be able to open it again.
    party: Party,
}

impl LogFile {
    fn create(setting: &'static str, path: &Path, config: &Config) -> Result<LogFile, LogError> {
        let failed = |source| LogError::Open { setting, path: path.to_owned(), source };
        let path = std::path::absolute(path).map_err(failed)?;
        let party = Party { user: config.user, group: config.group, all_groups: config.initgroups };
        let file = opening::append(&path, party).map_err(failed)?;
        Ok(LogFile { path, file, party })
    }

    fn reopen(&self) -> io::Result<()> {
        files::replace(opening::append(&self.path, self.party)?.as_fd(), self.file.as_raw_fd())
    }

    fn try_clone(&self) -> io::Result<LogFile> {
        Ok(LogFile { path: self.path.clone(), file: self.file.try_clone()?, party: self.party })
    }
}

/// The file that [`setup`] opened for the access log, if it is the one that `path` names.
fn inherited_access(path: &Path) -> Option<LogFile> {
    let path = std::path::absolute(path).ok()?;
    let files = lock(&FILES);
    files.access.as_ref().filter(|file| file.path == path)?.try_clone().ok()
}
