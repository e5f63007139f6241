//! (see the crate's table of contents)
