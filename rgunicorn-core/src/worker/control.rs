//! When a worker must stop, and how.

/// How a worker is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Finish what is held, within `graceful_timeout` (SIGTERM).
    Graceful,
    /// Leave now (SIGINT, SIGQUIT).
    Quick,
}

/// Tells a worker when to stop. Watch [`descriptor`](Self::descriptor) for readability, then ask [`poll`](Self::poll).
#[derive(Debug)]
pub struct Control {}
