//! Writes access log lines, in batches.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use super::format::{AccessRecord, LogFormat};
use super::syslog::Syslog;
use super::{LogError, LogFile, host, inherited_access, json};
use crate::config::{Config, LogLevel, LogTarget};
use crate::sys::files;

/// How full the buffer gets before it is written without being asked.
const BATCH: usize = 16 * 1024;

/// The access log of one worker, or of one of its threads.
///
/// Lines gather in a buffer, which is written when it is full, when [`flush`](Self::flush) is called (do so before a
/// wait), and when this is dropped.
#[derive(Debug)]
pub struct AccessLog {
    format: LogFormat,
    target: Target,
    buffer: Vec<u8>,
    process: u32,
    /// The most bytes of one write that arrive unmixed with other processes' lines.
    unmixed: usize,
    /// Whether the last write failed: said once, not for each batch.
    failing: bool,
    json: bool,
    /// Paths that are left out.
    skip: Vec<Vec<u8>>,
    syslog: Option<Syslog>,
}

#[derive(Debug)]
enum Target {
    /// Syslog alone.
    None,
    Standard,
    File(LogFile),
    /// The host's logger.
    Host,
}

impl Target {
    fn descriptor(&self) -> Option<RawFd> {
        match self {
            Target::None | Target::Host => None,
            Target::Standard => Some(files::STDOUT),
            Target::File(file) => Some(file.file.as_raw_fd()),
        }
    }
}

impl AccessLog {
    /// Opens the access log that the settings ask for, if they do; in a worker, the file that the arbiter opened.
    ///
    /// # Errors
    /// A [`LogError`] naming the setting.
    pub fn open(config: &Config) -> Result<Option<AccessLog>, LogError> {
        if config.has_host_logger() {
            // What a line says is the logger's business.
            let mut log = AccessLog::new(LogFormat::compile("")?, Target::Host);
            log.skip = skipped(config);
            return Ok(Some(log));
        }
        Self::open_own(config)
    }

    /// As [`open`](Self::open), whatever takes the logs.
    pub(super) fn open_own(config: &Config) -> Result<Option<AccessLog>, LogError> {
        let syslog = match config.disable_redirect_access_to_syslog {
            true => None,
            // The error log's says if nobody is there.
            false => Syslog::open(config, "access").map_err(LogError::Server)?.0,
        };
        let target = match &config.accesslog {
            None if syslog.is_none() => return Ok(None),
            None => Target::None,
            Some(LogTarget::Standard) => Target::Standard,
            Some(LogTarget::File(path)) => Target::File(file(path, config)?),
        };
        let format = LogFormat::compile(&config.access_log_format)?;
        let mut log = AccessLog::new(format, target);
        (log.json, log.skip, log.syslog) = (config.access_log_json, skipped(config), syslog);
        Ok(Some(log))
    }

    fn new(format: LogFormat, target: Target) -> AccessLog {
        // Appends to a file don't mix, whatever their length; writes to a pipe do, past PIPE_BUF.
        let unmixed =
            if target.descriptor().is_some_and(files::is_pipe) { libc::PIPE_BUF } else { usize::MAX };
        let process = std::process::id();
        AccessLog {
            format,
            target,
            buffer: Vec::with_capacity(BATCH + 1024),
            process,
            unmixed,
            failing: false,
            json: false,
            skip: Vec::new(),
            syslog: None,
        }
    }

    /// The names of variables that the format asks the application for.
    pub fn variables(&self) -> &[String] {
        self.format.variables()
    }

    /// Adds the line for a finished request.
    pub fn log(&mut self, record: &AccessRecord<'_>) {
        if record.request.is_some_and(|request| self.skip.iter().any(|path| path == request.path)) {
            return;
        }
        if let Target::Host = self.target {
            return host::access(record);
        }
        let start = self.buffer.len();
        if self.json {
            json::access(&mut self.buffer, record, self.process);
        } else {
            self.format.write(&mut self.buffer, record, self.process);
            self.buffer.push(b'\n');
        }
        self.send(start);
        if self.buffer.len() >= BATCH {
            self.flush();
        }
    }

    /// Adds a line as it is, and writes it.
    pub(super) fn line(&mut self, line: &str) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(line.as_bytes());
        self.buffer.push(b'\n');
        self.send(start);
        self.flush();
    }

    /// Sends what stands behind `start` in the buffer to syslog, if it is wanted there.
    fn send(&mut self, start: usize) {
        if let (Some(syslog), Some(line)) = (&mut self.syslog, self.buffer.get(start..)) {
            super::error::complain(syslog.send(LogLevel::Info, String::from_utf8_lossy(line).trim_end()));
        }
    }

    /// Writes what has gathered. Cheap if nothing has.
    pub fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        match self.write() {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!("The access log can't be written, lines are lost: {error}");
            }
            Err(_) => {}
        }
        self.buffer.clear();
    }

    fn write(&self) -> io::Result<()> {
        let Some(descriptor) = self.target.descriptor() else { return Ok(()) };
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let (lines, behind) = rest.split_at(whole_lines(rest, self.unmixed));
            files::write_all(descriptor, lines)?;
            rest = behind;
        }
        Ok(())
    }

    /// Opens the file again by its name, for log rotation; what has gathered goes to the old one.
    pub fn reopen(&mut self) {
        self.flush();
        if let Target::File(file) = &self.target
            && let Err(error) = file.reopen()
        {
            tracing::error!("Can't reopen {:?}: {error}", file.path);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The paths of requests that are left out.
fn skipped(config: &Config) -> Vec<Vec<u8>> {
    config.access_log_skip.iter().map(|path| path.clone().into_bytes()).collect()
}

fn file(path: &Path, config: &Config) -> Result<LogFile, LogError> {
    inherited_access(path).map_or_else(|| LogFile::create("accesslog", path, config), Ok)
}

/// How many of the first `limit` bytes are whole lines; the first line if it alone is longer.
fn whole_lines(bytes: &[u8], limit: usize) -> usize {
    let Some(head) = bytes.get(..limit) else { return bytes.len() };
    memchr::memrchr(b'\n', head).or_else(|| memchr::memchr(b'\n', bytes)).map_or(bytes.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn record<'a>() -> AccessRecord<'a> {
        AccessRecord {
            remote_addr: "::1",
            request: None,
            status: 200,
            sent: 0,
            elapsed: Duration::ZERO,
            request_header: &|_| None,
            response_header: &|_| None,
            request_headers: &|_| {},
            response_headers: &|_| {},
            variables: &[],
        }
    }

    fn config(path: &Path) -> Config {
        Config {
            accesslog: Some(LogTarget::File(path.to_owned())),
            access_log_format: "%(h)s %(s)s".to_owned(),
            ..Config::default()
        }
    }

    #[test]
    fn lines_wait_for_a_flush_and_survive_a_drop() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut log = AccessLog::open(&config(&path)).unwrap().unwrap();
        log.log(&record());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        log.flush();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "::1 200\n");
        log.log(&record());
        drop(log);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "::1 200\n::1 200\n");
    }

    #[test]
    fn a_full_buffer_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut log = AccessLog::open(&config(&path)).unwrap().unwrap();
        for _ in 0..BATCH / 8 {
            log.log(&record());
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), BATCH as u64);
    }

    #[test]
    fn reopening_follows_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
        let mut log = AccessLog::open(&config(&path)).unwrap().unwrap();
        log.log(&record());
        std::fs::rename(&path, &moved).unwrap();
        log.reopen();
        log.log(&record());
        log.flush();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "::1 200\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "::1 200\n");
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let error = AccessLog::open(&config(Path::new("/nowhere/access.log"))).unwrap_err().to_string();
        assert!(error.contains("accesslog \"/nowhere/access.log\""), "{error}");
    }

    #[test]
    fn pipes_get_whole_lines() {
        assert_eq!(whole_lines(b"ab\ncd\nef\n", 7), 6);
        assert_eq!(whole_lines(b"ab\ncd\n", usize::MAX), 6);
        assert_eq!(whole_lines(b"abcdef\ngh\n", 3), 7);
    }
}
