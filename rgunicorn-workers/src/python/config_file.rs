//! Executes a configuration file that is written in Python.
//!
//! Such a file is a program: it computes, imports, reads `os.environ` and puts something into it for the application. It
//! is executed in a short-lived child, so that the arbiter keeps no interpreter; what the file prints goes where the
//! arbiter prints. The child tells, through a pipe, what the file has set, and how it changed the environment.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::BufReader;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2};
use pyo3::prelude::*;
use rgunicorn_core::config::{ConfigError, Evaluation, PythonConfig, PythonLocation, RawEntry, Value};
use serde_json::Value as Json;

use super::environment::Environment;
use super::interpreter::{self, Startup};
use super::{failure, load};

/// Executes Python configuration files, for [`load`](rgunicorn_core::config::load).
#[derive(Debug, Clone, Copy, Default)]
pub struct PythonFiles;

impl PythonConfig for PythonFiles {
    fn evaluate(&self, location: &PythonLocation, directory: &Path) -> Result<Evaluation, ConfigError> {
        evaluate(location, directory)
    }
}

/// Executes what is at `location`, in a child process, with `directory` first on the module path.
///
/// Forks: to be called by the arbiter, which has no other thread. Where it has an interpreter already (`--preload`), by
/// its Python main thread; the child then inherits it.
///
/// # Errors
/// A [`ConfigError`], with the traceback of an exception.
fn evaluate(location: &PythonLocation, directory: &Path) -> Result<Evaluation, ConfigError> {
    let failed = |reason: String| ConfigError::file(location, reason);
    // Before the fork: it may run a launcher script.
    let environment = Environment::find();
    let (reader, writer) =
        pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|errno| failed(format!("no pipe: {errno}")))?;
    let child = in_child(|| run(location, directory, environment.as_ref(), &writer))
        .map_err(|errno| failed(format!("no process: {errno}")))?;
    drop(writer);
    // Not to the end: a process that the file has forked may keep the pipe open for longer.
    let outcome =
        serde_json::Deserializer::from_reader(BufReader::new(File::from(reader))).into_iter().next();
    let status = wait_for(child);
    match outcome {
        Some(Ok(outcome)) => understand(&outcome).map_err(failed),
        _ => Err(failed(format!("the process that executes it {status}"))),
    }
}

/// Runs `work` in a forked process, which then exits, running nothing of ours.
fn in_child(work: impl FnOnce()) -> nix::Result<Pid> {
    interpreter::before_fork();
    // SAFETY: the arbiter has one thread, so that no lock is held by one that the child doesn't have.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            interpreter::after_fork_in_child();
            // A panic must not return to the arbiter's code, in a second process.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) }
        }
        forked => {
            interpreter::after_fork_in_parent();
            forked.map(|forked| match forked {
                ForkResult::Parent { child } => child,
                ForkResult::Child => Pid::this(),
            })
        }
    }
}

/// `config_file.py`.
///
/// # Errors
/// An exception of Python's own.
pub(super) fn helper(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    load::helper(py, include_str!("config_file.py"), "rgunicorn_config_file")
}

/// The child's part: executes the file, and writes the outcome to the pipe.
fn run(location: &PythonLocation, directory: &Path, environment: Option<&Environment>, pipe: &OwnedFd) {
    let startup = Startup { argv: env::args_os().collect(), path: vec![directory.to_path_buf()] };
    let (function, place) = match location {
        PythonLocation::File(path) => ("execute", path.as_os_str()),
        PythonLocation::Module(name) => ("imported", name.as_ref()),
        PythonLocation::Program(path) => ("programmed", path.as_os_str()),
    };
    let failed = match interpreter::start(environment, &startup) {
        Ok(()) => Python::attach(|py| {
            helper(py)
                .and_then(|helper| helper.getattr("evaluate")?.call1((function, place, pipe.as_raw_fd())))
                .err()
                .map(|error| failure::report(py, &error))
        }),
        Err(error) => Some(error.to_string()),
    };
    if let Some(reason) = failed {
        let outcome = serde_json::json!({ "error": reason });
        let _ = nix::unistd::write(pipe, outcome.to_string().as_bytes());
    }
}

fn wait_for(child: Pid) -> String {
    loop {
        return match waitpid(child, None) {
            Err(nix::errno::Errno::EINTR) => continue,
            Ok(WaitStatus::Exited(_, status)) => format!("exited with status {status}"),
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("was killed by {signal}"),
            // Somebody else has waited for it, as for all children.
            other => format!("is gone ({other:?})"),
        };
    }
}

fn understand(outcome: &Json) -> Result<Evaluation, String> {
    if let Some(reason) = outcome["error"].as_str() {
        return Err(reason.to_string());
    }
    let pairs = |list: &Json| -> Vec<(String, Json)> {
        let pairs = list.as_array().into_iter().flatten();
        pairs.filter_map(|pair| Some((pair[0].as_str()?.to_string(), pair[1].clone()))).collect()
    };
    let settings = pairs(&outcome["settings"]).into_iter();
    let environment = pairs(&outcome["environment"]).into_iter();
    Ok(Evaluation {
        settings: settings.map(|(name, tagged)| RawEntry { name, value: value(&tagged) }).collect(),
        environment: environment.map(|(name, value)| (name, value.as_str().map(str::to_string))).collect(),
    })
}

/// Reads `[kind, value]`, as `tagged()` in `config_file.py` writes it.
fn value(tagged: &Json) -> Value {
    let inner = &tagged[1];
    let items = || inner.as_array().into_iter().flatten();
    let text = || inner.as_str().unwrap_or_default().to_string();
    match tagged[0].as_str().unwrap_or_default() {
        "none" => Value::None,
        "bool" => Value::Bool(inner.as_bool().unwrap_or_default()),
        "int" => text().parse().map_or_else(|_| Value::Other(text()), Value::Int),
        "float" => text().parse().map_or_else(|_| Value::Other(text()), Value::Float),
        "text" => Value::Text(text()),
        // A JSON text with a byte in each character.
        "raw" => Value::path(OsString::from_vec(text().chars().map(|byte| byte as u8).collect())),
        "list" => Value::List(items().map(value).collect()),
        "map" => Value::Map(
            items().map(|item| (item[0].as_str().unwrap_or_default().to_string(), value(&item[1]))).collect(),
        ),
        "callable" => Value::Callable(text()),
        "class" => Value::Class(text()),
        _ => Value::Other(text()),
    }
}
