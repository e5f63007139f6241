//! A `tracing` subscriber that writes gunicorn's format: `[2026-11-23 12:00:00 +0000] [pid] [INFO] message`.
//!
//! A line is one `write(2)`, so that the lines of several processes don't mix. Nothing is buffered.

use std::fmt::{self, Write as _};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::CRITICAL;
use crate::config::LogLevel;
use crate::sys::clock::Stamp;
use crate::sys::files;

static DESTINATION: AtomicI32 = AtomicI32::new(files::STDERR);
static LEVEL: AtomicU8 = AtomicU8::new(LogLevel::Info as u8);

/// Makes this the subscriber of the process, if it has none.
pub(super) fn install() {
    let _ = tracing::dispatcher::set_global_default(tracing::Dispatch::new(ErrorLog));
}

pub(super) fn direct_to(descriptor: RawFd) {
    DESTINATION.store(descriptor, Ordering::Release);
}

/// The descriptor that the error log is written to: for a dying process, which can do no more than `write(2)`.
pub fn descriptor() -> RawFd {
    DESTINATION.load(Ordering::Acquire)
}

/// Drops what is less severe than `level`, from now on.
pub fn set_level(level: LogLevel) {
    LEVEL.store(level as u8, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// Writes bytes as they are to where the error log goes, as WSGI's `wsgi.errors` wants it; a line end is added if there
/// is none.
pub fn raw_line(line: &[u8]) {
    if line.ends_with(b"\n") {
        put(line);
    } else {
        put(&[line, b"\n"].concat());
    }
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
        let mut line = Line(String::with_capacity(256));
        let stamp = Stamp::now();
        let stamp = String::from_utf8_lossy(stamp.error());
        let _ = write!(line.0, "[{stamp}] [{}] [{}] ", std::process::id(), label(level));
        event.record(&mut line);
        line.0.push('\n');
        put(line.0.as_bytes());
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
