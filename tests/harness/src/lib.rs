//! Drives the real rgunicorn over real sockets, for the end-to-end tests.
//!
//! A [`Server`] is a running arbiter with its workers, bound to a free port, logging to a file; it is killed when it is
//! dropped. A [`Client`] is one connection to it, which sends raw bytes and reads whole responses.
//! [`on_every_class!`] makes one test of each promise and worker class.

mod client;
mod server;

pub use client::{Client, Response};
pub use server::{Builder, Server, examples, python, repository};

/// Makes tests out of functions that take the name of a worker class: one a function and class.
#[macro_export]
macro_rules! on_every_class {
    ($($(#[$meta:meta])* fn $name:ident($class:ident: &str) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            fn check($class: &str) $body

            #[test]
            fn sync() {
                check("sync");
            }

            #[test]
            fn event() {
                check("event");
            }

            #[test]
            fn threads() {
                check("threads");
            }

            #[test]
            fn coro() {
                check("coro");
            }

            #[test]
            fn gevent() {
                check("gevent");
            }

            #[test]
            fn eventlet() {
                check("eventlet");
            }
        }
    )*};
}

/// As [`on_every_class!`], for the promises of classes that have a thread or a coroutine for each request.
#[macro_export]
macro_rules! on_waiting_classes {
    ($($(#[$meta:meta])* fn $name:ident($class:ident: &str) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            fn check($class: &str) $body

            #[test]
            fn threads() {
                check("threads");
            }

            #[test]
            fn coro() {
                check("coro");
            }
        }
    )*};
}
