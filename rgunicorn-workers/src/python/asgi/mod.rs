//! Runs ASGI applications (ASGI 3.0) in an asyncio event loop that watches the engine.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`boot`] | makes the event loop, runs the application's start-up and shutdown |
//! | [`server`] | the loop's callback: a turn of the engine, and a task for each request |
//! | [`shared`] | what that and the conversations share: the engine, the event loop, who waits for something |
//! | [`conversation`] | drives the application's coroutine, and sees what becomes of it |
//! | [`cycle`] | one HTTP request: its `receive` and `send` |
//! | [`websocket`] | one WebSocket, likewise |
//! | [`tasks`] | how a conversation becomes a task |
//! | [`scope`] | the dictionary that describes a request; [`header_names`] its constant parts |
//! | [`log_variables`] | what the access log may ask for |
//! | [`message`] | what an application sends, taken apart |
//! | [`receive`] | what `receive` returns: an awaitable that takes a message when its awaiter goes on |
//! | [`awaitable`] | what `send` returns where nothing must be waited for |
//! | `tornado.py` | tornado's applications as ASGI applications |
//! | `serve.py` | the event loop's life, the lifespan protocol |
//!
//! Everything happens in the event loop's thread; `receive` and `send` may be called in others as long as those hold the
//! GIL. No Python code runs while one of the mutexes here is locked.

mod awaitable;
mod boot;
mod conversation;
mod cycle;
mod header_names;
mod log_variables;
mod message;
mod receive;
mod scope;
mod server;
mod shared;
mod tasks;
mod websocket;

use std::sync::{Mutex, MutexGuard};

pub(crate) use boot::{AsgiApplication, EventLoop, Kind, prepare, suits};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
