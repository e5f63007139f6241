//! The one piece of memory that arbiter and workers share.

/// A worker's own slot.
#[derive(Debug)]
pub struct Slot {}
