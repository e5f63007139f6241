//! The Python bridge: the one place that touches CPython.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`environment`] | which Python installation or virtual environment the process runs in |
//! | [`interpreter`] | starts CPython in this process, carries it through forks, ends it |
//! | [`loader`] | finds and imports the application; a `Loader` and the arbiter's `Hooks` |
//! | [`load`] | `module:attribute` and what else `APP_MODULE` may be |
//! | `protocol` | which protocol that speaks |
//! | [`wsgi`] | calls a WSGI application (PEP 3333) for each request |
//! | `greenlets` | answers requests in greenlets of gevent or eventlet |
//! | `hosted` | runs worker classes that are written in Python |
//! | `package` | the package `gunicorn` of ours, for what such classes import |
//! | `asgi` | runs ASGI applications in an asyncio event loop |
//! | [`config_file`] | executes a configuration file that is written in Python |
//! | [`coroutines`] | CPython's part in the worker class `coro` |
//! | `server_hooks` | the hooks of configuration files, and what they are called with |
//! | `turns` | turns of an engine that a Python library's event loop watches |
//! | `debugging` | `--reload` and `--spew` |
//! | [`failure`] | what a Python exception means to the server |
//! | `logger` | a logger in Python, in the place of the server's own logs |
//! | `report` | what its code is doing, when the arbiter asks |
//! | `signals` | handlers of signals: Python's beside our own |
//! | `ending` | the interpreter's end |
//! | [`error_log`] | the way of Python's own output into the error log |

pub(crate) mod asgi;
pub mod config_file;
pub mod coroutines;
pub(crate) mod debugging;
pub mod ending;
pub mod environment;
mod error_log;
pub(crate) mod failure;
pub(crate) mod greenlets;
pub(crate) mod hosted;
pub mod interpreter;
mod load;
pub mod loader;
pub(crate) mod logger;
pub(crate) mod package;
pub(crate) mod protocol;
mod report;
pub(crate) mod server_hooks;
mod signals;
pub(crate) mod turns;
pub mod wsgi;

#[cfg(test)]
mod testing;

pub use config_file::PythonFiles;
pub use coroutines::Coroutines;
pub use environment::{Environment, EnvironmentError};
pub(crate) use hosted::class_path;
pub use interpreter::InterpreterError;
pub use load::LoadError;
pub use loader::WsgiLoader;
pub use wsgi::WsgiApplication;
