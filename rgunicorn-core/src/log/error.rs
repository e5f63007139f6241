//! A `tracing` subscriber that writes gunicorn's format: `[2026-11-23 12:00:00 +0000] [pid] [INFO] message`.
//!
//! A line is one `write(2)`, so that the lines of several processes don't mix. Nothing is buffered.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::statsd::Statsd;
use super::syslog::Syslog;
use super::{CRITICAL, escape, host, json};
use crate::config::LogLevel;
use crate::sync::lock;
use crate::sys::clock::Stamp;
use crate::sys::files;

static DESTINATION: AtomicI32 = AtomicI32::new(files::STDERR);
static LEVEL: AtomicU8 = AtomicU8::new(LogLevel::Info as u8);

/// Makes this the subscriber of the process, if it has none.
pub(crate) fn install() {
    let _ = tracing::dispatcher::set_global_default(tracing::Dispatch::new(ErrorLog));
}

pub(super) fn direct_to(descriptor: RawFd) {
    DESTINATION.store(descriptor, Ordering::Release);
}

/// The descriptor that the error log is written to: for a dying process, which can do no more than `write(2)`.
pub fn descriptor() -> RawFd {
    DESTINATION.load(Ordering::Acquire)
}

/// What becomes of messages besides a line of the file.
#[derive(Debug)]
pub(super) struct Also {
    pub(super) json: bool,
    pub(super) syslog: Option<Syslog>,
    pub(super) statsd: Option<Statsd>,
}

static ALSO: Mutex<Also> = Mutex::new(Also { json: false, syslog: None, statsd: None });

pub(super) fn also(also: Also) {
    *lock(&ALSO) = also;
}

/// Tells StatsD something, if the settings want that.
pub fn with_statsd(tell: impl FnOnce(&mut Statsd)) {
    let tell = |statsd: &mut Statsd| {
        tell(statsd);
        statsd.flush();
        statsd.take_complaint()
    };
    let complaint = lock(&ALSO).statsd.as_mut().and_then(tell);
    complain(complaint);
}

/// Says what there is to say of another program that takes our logs or metrics. Not to be called with any of these locked.
pub(crate) fn complain(complaint: Option<String>) {
    if let Some(complaint) = complaint {
        write(LogLevel::Warning, &complaint);
    }
}

/// Where this worker's tracebacks go when the arbiter asks for them; -1 for the error log.
static REPORTS: AtomicI32 = AtomicI32::new(-1);

/// Has tracebacks go to this file, for good.
pub(crate) fn write_reports_to(file: Option<File>) {
    if let Some(file) = file {
        REPORTS.store(file.into_raw_fd(), Ordering::Release);
    }
}

/// The descriptor that tracebacks are written to when they are asked for: the arbiter's, or that of the error log.
pub fn report_descriptor() -> RawFd {
    match REPORTS.load(Ordering::Acquire) {
        -1 => descriptor(),
        reports => reports,
    }
}

/// The least severe level that is logged.
pub fn level() -> LogLevel {
    const ALL: [LogLevel; 5] =
        [LogLevel::Debug, LogLevel::Info, LogLevel::Warning, LogLevel::Error, LogLevel::Critical];
    let level = LEVEL.load(Ordering::Relaxed);
    ALL.into_iter().find(|known| *known as u8 == level).unwrap_or(LogLevel::Info)
}

/// Drops what is less severe than `level`, from now on.
pub fn set_level(level: LogLevel) {
    LEVEL.store(level as u8, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// Writes bytes as they are to where the error log goes, as WSGI's `wsgi.errors` wants it; a line end is added if there
/// is none.
pub fn raw_line(line: &[u8]) {
    if lock(&ALSO).json {
        return put_message(LogLevel::Error, String::from_utf8_lossy(line).trim_end());
    }
    if line.ends_with(b"\n") {
        put(line);
    } else {
        put(&[line, b"\n"].concat());
    }
}

/// Logs a message: by the host's logger, if there is one.
fn write(level: LogLevel, message: &str) {
    if !host::message(level, message) {
        put_message(level, message);
    }
    count(level, message);
}

/// Writes a message of the host's logger to the error log, if its level is one that is logged.
pub fn message(level: LogLevel, message: &str) {
    if level as u8 >= LEVEL.load(Ordering::Relaxed) {
        put_message(level, message);
        if !host::is_within() {
            count(level, message);
        }
    }
}

/// Tells StatsD of a message.
fn count(level: LogLevel, message: &str) {
    let name = match level {
        LogLevel::Error if is_of_exception(message) => "gunicorn.log.exception",
        LogLevel::Critical => "gunicorn.log.critical",
        LogLevel::Error => "gunicorn.log.error",
        LogLevel::Warning => "gunicorn.log.warning",
        LogLevel::Debug | LogLevel::Info => return,
    };
    if !host::tells_statsd() {
        with_statsd(|statsd| statsd.count(name));
    }
}

/// Whether a message is about an exception of the application's, with its traceback: what gunicorn logs by `exception()`.
fn is_of_exception(message: &str) -> bool {
    message.contains("Traceback (most recent call last):\n")
}

/// Writes a message, in whatever form is wanted, to the file and to syslog.
fn put_message(level: LogLevel, message: &str) {
    let mut also = lock(&ALSO);
    let shown = escape::message(message);
    let complaint = also.syslog.as_mut().and_then(|syslog| syslog.send(level, &shown));
    let json = also.json;
    drop(also);
    complain(complaint);
    let stamp = Stamp::now();
    if json {
        let mut line = Vec::with_capacity(message.len() + 128);
        json::message(&mut line, &stamp, level, message);
        return put(&line);
    }
    let stamp = String::from_utf8_lossy(stamp.error());
    put(format!("[{stamp}] [{}] [{}] {shown}\n", std::process::id(), label(level)).as_bytes());
}

fn put(line: &[u8]) {
    // There is nowhere left to complain to.
    let _ = files::write_all(descriptor(), line);
}

#[derive(Debug)]
struct ErrorLog;

fn level_of(metadata: &Metadata<'_>) -> Option<LogLevel> {
    match *metadata.level() {
        Level::ERROR if metadata.target() == CRITICAL => Some(LogLevel::Critical),
        Level::ERROR => Some(LogLevel::Error),
        Level::WARN => Some(LogLevel::Warning),
        Level::INFO => Some(LogLevel::Info),
        Level::DEBUG => Some(LogLevel::Debug),
        Level::TRACE => None,
    }
}

fn label(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "DEBUG",
        LogLevel::Info => "INFO",
        LogLevel::Warning => "WARNING",
        LogLevel::Error => "ERROR",
        LogLevel::Critical => "CRITICAL",
    }
}

impl Subscriber for ErrorLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && level_of(metadata).is_some_and(|level| level as u8 >= LEVEL.load(Ordering::Relaxed))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let level = LEVEL.load(Ordering::Relaxed);
        Some(if level <= LogLevel::Debug as u8 {
            LevelFilter::DEBUG
        } else if level <= LogLevel::Info as u8 {
            LevelFilter::INFO
        } else if level <= LogLevel::Warning as u8 {
            LevelFilter::WARN
        } else {
            LevelFilter::ERROR
        })
    }

    fn event(&self, event: &Event<'_>) {
        let Some(level) = level_of(event.metadata()) else { return };
        let mut message = Line(String::with_capacity(256));
        event.record(&mut message);
        write(level, &message.0);
    }

    // Spans are not for this log.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Takes the fields of an event: the message as it is, others as ` name=value` behind it.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
