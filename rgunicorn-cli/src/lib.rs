//! The `rgunicorn` command.
