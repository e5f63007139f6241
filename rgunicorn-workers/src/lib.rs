//! The worker classes of rgunicorn, and the Python bridge.
#![warn(missing_docs)]
