//! The worker classes of rgunicorn, and the Python bridge.
//!
//! A worker class decides who waits for the [engine](rgunicorn_core::engine)'s descriptor and where the application
//! runs. Each class here is generic over the [`Application`](rgunicorn_core::app::Application): it is given a
//! [`Loader`](rgunicorn_core::app::Loader), which for WSGI is [`python::WsgiLoader`] and for a Rust host a closure.
//!
//! | class | `-k` | who waits | where the application runs |
//! | --- | --- | --- | --- |
//! | [`Sync`] | `sync` | the only thread; one connection a request | inline |
//! | [`Event`] | `event` | the only thread; keep-alive and pipelining | inline |
//! | [`Threads`] | `threads`, `gthread` | whichever thread leads | in the thread that has found the request |
//! | `Fitting` | none asked for | as in the class for WSGI, or in `asgi`: what the application needs | |
//! | `Asgi` | `asgi`, `tornado` | an asyncio event loop | in a task of that loop |
//! | `Greenlets` | `gevent`, `eventlet` | the library's hub | in a greenlet |
//! | `PythonClass` | `package.Class` | what that class does | what that class does |
//! | [`Coro`] | `coro` | the only thread | in a coroutine with a stack of its own |
#![warn(missing_docs)]

#[cfg(feature = "python")]
mod asgi;
mod boot;
pub mod coro;
mod event;
#[cfg(feature = "python")]
mod fitting;
#[cfg(feature = "python")]
mod greenlets;
mod holding;
#[cfg(feature = "python")]
mod hosted;
mod inline;
#[cfg(feature = "python")]
pub mod python;
mod stand_in;
mod sync;
mod tenure;
mod threads;

use std::sync::Arc;

use rgunicorn_core::app::SharedLoader;
use rgunicorn_core::worker::WorkerClass;

#[cfg(feature = "python")]
pub use asgi::Asgi;
pub use coro::Coro;
pub use event::Event;
#[cfg(feature = "python")]
pub use fitting::Fitting;
#[cfg(feature = "python")]
pub use greenlets::Greenlets;
#[cfg(feature = "python")]
pub use hosted::PythonClass;
pub use sync::Sync;
pub use threads::Threads;

/// All classes of this crate, each with this loader.
pub fn classes(loader: &SharedLoader) -> Vec<Arc<dyn WorkerClass>> {
    vec![
        Arc::new(Sync::new(Arc::clone(loader))),
        Arc::new(Event::new(Arc::clone(loader))),
        Arc::new(Threads::new(Arc::clone(loader))),
        Arc::new(Coro::new(Arc::clone(loader), Arc::new(coro::Bare))),
    ]
}

/// The classes for Python applications only, or made for Python.
#[cfg(feature = "python")]
pub fn python_classes(loader: &python::WsgiLoader) -> Vec<Arc<dyn WorkerClass>> {
    let coroutines = Arc::new(python::Coroutines::default());
    vec![
        Arc::new(Asgi::new(loader.clone())),
        Arc::new(Asgi::tornado(loader.clone())),
        Arc::new(Greenlets::gevent(loader.clone())),
        Arc::new(Greenlets::eventlet(loader.clone())),
        Arc::new(Coro::new(Arc::new(loader.clone()), coroutines)),
    ]
}
