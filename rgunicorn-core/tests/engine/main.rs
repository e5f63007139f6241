//! An engine without an arbiter, a worker class or a process of its own: what a host program drives itself.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod bodies;
mod connections;
mod deadlines;
mod drain;
mod host;
mod pipelining;
mod site;
