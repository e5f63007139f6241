//! The parts of rgunicorn that know neither Python nor any worker class.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`config`] | every setting, declared once; where values come from and what they mean |
//! | [`control`] | where the control socket is |
//! | [`arbiter`] | the process that forks, minds, reloads and stops the workers |
//! | [`worker`] | the traits [`WorkerClass`](worker::WorkerClass) and [`Worker`](worker::Worker), and what a worker is given |
//! | [`app`] | the trait [`Application`](app::Application): a request in, a response out |
//! | [`engine`] | owns every socket of a worker: accepts, parses, buffers, times out, writes |
//! | [`http`] | HTTP/1 without I/O: bytes in, requests and events out |
//! | [`websocket`] | the WebSocket protocol, likewise |
//! | [`log`] | the error log (through `tracing`) and the access log |
//! | [`metrics`] | metrics and health, made from the scoreboard |
//! | [`scoreboard`] | the one piece of memory that arbiter and workers share |
//! | [`siblings`] | what workers know of each other, and the queue of connections that they hand over |
//! | [`socket`] | listeners: addresses, binding, inheritance |
//! | [`hooks`] | what a language bridge may do around forks |
//! | [`sync`] | locking |
//! | [`sys`] | the one place where the operating system shows through |
//!
//! Dependencies point one way: `rgunicorn-cli` → `rgunicorn-workers` → this crate.
#![warn(missing_docs)]

pub mod app;
pub mod arbiter;
pub mod config;
pub mod control;
pub mod engine;
pub mod hooks;
pub mod http;
pub mod log;
pub mod metrics;
pub mod scoreboard;
pub mod siblings;
pub mod socket;
pub mod sync;
pub mod sys;
pub mod websocket;
pub mod worker;

/// The version of this crate, as `--version` and the start-up line of the log show it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What stands in the `Server` response header.
pub const SERVER: &str = "rgunicorn";
/// What stands in `SERVER_SOFTWARE`.
pub const SERVER_SOFTWARE: &str = concat!("rgunicorn/", env!("CARGO_PKG_VERSION"));
