//! Drives the real rgunicorn over real sockets, for the end-to-end tests.
//!
//! A [`Server`] is a running arbiter with its workers, bound to a free port, logging to a file; it is killed when it is
//! dropped. A [`Client`] is one connection to it, which sends raw bytes and reads whole responses.
//! [`services`] are the databases and other servers that applications talk to. [`on_every_class!`] makes one test of each promise and worker class.

mod client;
mod load;
mod server;
mod services;

pub use client::{Client, Response};
pub use load::{Counts, Load};
pub use server::{Builder, Server, examples, gunicorn, python, repository};
pub use services::services;

/// Fails unless all of `parts` are in the text, in any order.
#[track_caller]
pub fn assert_has(text: &str, parts: impl IntoIterator<Item = impl AsRef<str>>) {
    for part in parts {
        let part = part.as_ref();
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

/// Makes a library of a C file in `tests/apps`.
pub fn compile(source: &str, library: &std::path::Path) {
    let source = repository().join("tests/apps").join(source);
    let mut cc = std::process::Command::new("cc");
    let built = cc.args(["-shared", "-fPIC", "-O1", "-pthread", "-o"]).arg(library).arg(&source).status();
    assert!(built.is_ok_and(|status| status.success()), "cc builds {}", source.display());
}

/// The text of a module with an application, for any class, that answers with the value of a Python expression.
pub fn application(answer: &str) -> String {
    format!(
        "\
def app(*call):
    if len(call) == 2:
        call[1]('200 OK', [])
        return [{answer}]
    return asgi(*call)


async def asgi(scope, receive, send):
    if scope['type'] == 'http':
        await send({{'type': 'http.response.start', 'status': 200}})
        await send({{'type': 'http.response.body', 'body': {answer}}})
"
    )
}

/// Makes tests out of functions that take the name of a worker class: one a function and class.
///
/// The application must be one of WSGI and of ASGI, as those of `tests/apps` with `either.py` and [`application`] are.
#[macro_export]
macro_rules! on_every_class {
    ($($tests:tt)*) => {
        $crate::on_classes! { [sync event threads coro asgi gevent eventlet tornado] $($tests)* }
    };
}

/// As [`on_every_class!`], for the promises to WSGI applications.
#[macro_export]
macro_rules! on_wsgi_classes {
    ($($tests:tt)*) => {
        $crate::on_classes! { [sync event threads coro gevent eventlet tornado] $($tests)* }
    };
}

/// As [`on_every_class!`], for the promises of classes that have a thread or a coroutine for each request.
#[macro_export]
macro_rules! on_waiting_classes {
    ($($tests:tt)*) => { $crate::on_classes! { [threads coro] $($tests)* } };
}

/// As [`on_every_class!`], for the classes that are named first.
#[macro_export]
macro_rules! on_classes {
    ($classes:tt $($(#[$meta:meta])* fn $name:ident($class:ident: &str) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            fn check($class: &str) $body

            $crate::tests_of_classes! { $classes }
        }
    )*};
}

/// A test a class, of a function `check`.
#[doc(hidden)]
#[macro_export]
macro_rules! tests_of_classes {
    ([$($class:ident)*]) => {$(
        #[test]
        fn $class() {
            check(stringify!($class));
        }
    )*};
}
