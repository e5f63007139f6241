//! Listeners: addresses, binding, inheritance.

/// A bound, listening, non-blocking socket.
#[derive(Debug)]
pub struct Listener {}
