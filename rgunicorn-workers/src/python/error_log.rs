//! The way of Python's own output into the error log.

use std::os::fd::RawFd;

/// Appends one line, which has no prefix of ours, to the error log.
pub(crate) fn line(text: &[u8]) {
    rgunicorn_core::log::raw_line(text);
}

/// The descriptor that tracebacks are written to, for a dying process that can only `write(2)`.
pub(crate) fn report_descriptor() -> RawFd {
    rgunicorn_core::log::report_descriptor()
}
