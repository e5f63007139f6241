//! The package `gunicorn` of ours, for what worker classes, loggers and configuration files import from it.
//!
//! It is in the program itself, and imported from there by a finder (`finder.py`) that stands behind all others: where
//! gunicorn is installed, that one is imported. The package is Python; what it has to know of the server it asks the
//! module `_rgunicorn`, which is made here.

mod values;

use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rgunicorn_core::config::{Config, LogLevel, SETTINGS, Setting, Takes, Value};
use rgunicorn_core::log;

use super::failure;
use super::load::{self, LoadError};
pub(crate) use values::{from_python, to_python};

/// The modules: name, source, whether it is a package.
const SOURCES: &[(&str, &str, bool)] = &[
    ("gunicorn", include_str!("gunicorn/__init__.py"), true),
    ("gunicorn._handlers", include_str!("gunicorn/_handlers.py"), false),
    ("gunicorn.app", include_str!("gunicorn/app/__init__.py"), true),
    ("gunicorn.app.base", include_str!("gunicorn/app/base.py"), false),
    ("gunicorn.app.wsgiapp", include_str!("gunicorn/app/wsgiapp.py"), false),
    ("gunicorn.arbiter", include_str!("gunicorn/arbiter.py"), false),
    ("gunicorn.config", include_str!("gunicorn/config.py"), false),
    ("gunicorn.errors", include_str!("gunicorn/errors.py"), false),
    ("gunicorn.instrument", include_str!("gunicorn/instrument/__init__.py"), true),
    ("gunicorn.instrument.statsd", include_str!("gunicorn/instrument/statsd.py"), false),
    ("gunicorn.glogging", include_str!("gunicorn/glogging.py"), false),
    ("gunicorn.sock", include_str!("gunicorn/sock.py"), false),
    ("gunicorn.util", include_str!("gunicorn/util.py"), false),
    ("gunicorn.workers", include_str!("gunicorn/workers/__init__.py"), true),
    ("gunicorn.workers.base", include_str!("gunicorn/workers/base.py"), false),
    ("gunicorn.workers.workertmp", include_str!("gunicorn/workers/workertmp.py"), false),
];

/// Settings that the server has seen to, so that a worker must not do it again.
const DONE: [&str; 6] = ["initgroups", "reload", "print_config", "check_config", "worker_class", "daemon"];

/// Makes the package importable. Does nothing where that was done before.
///
/// # Errors
/// What Python raises.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let modules = py.import("sys")?.getattr("modules")?;
    if modules.contains("_rgunicorn")? {
        return Ok(());
    }
    let server = PyModule::new(py, "_rgunicorn")?;
    server.add("version", env!("CARGO_PKG_VERSION"))?;
    server.add_function(wrap_pyfunction!(settings, &server)?)?;
    server.add_function(wrap_pyfunction!(read_setting, &server)?)?;
    server.add_function(wrap_pyfunction!(log_message, &server)?)?;
    server.add_function(wrap_pyfunction!(log_access, &server)?)?;
    server.add_function(wrap_pyfunction!(metric, &server)?)?;
    server.add_function(wrap_pyfunction!(level, &server)?)?;
    server.add_function(wrap_pyfunction!(reopen_logs, &server)?)?;
    server.add_function(wrap_pyfunction!(import_app, &server)?)?;
    server.add_function(wrap_pyfunction!(run_program, &server)?)?;
    let finder = load::helper(py, include_str!("finder.py"), "rgunicorn_finder")?;
    server.add("ours", finder.getattr("ours")?)?;
    modules.set_item("_rgunicorn", server)?;
    let sources = PyDict::new(py);
    for (name, source, is_package) in SOURCES {
        sources.set_item(name, (source, is_package))?;
    }
    finder.getattr("install")?.call1((sources,))?;
    Ok(())
}

/// Says so, if the application has put a filter on the access log that nobody will ask.
pub(crate) fn warn_of_access_filters(py: Python<'_>) {
    let is_changed = || {
        if !py.import("sys")?.getattr("modules")?.contains("logging")? {
            return Ok(false);
        }
        let handlers = py.import("_rgunicorn")?.getattr("ours")?.call1(("_handlers",))?;
        handlers.call_method0("is_access_changed")?.is_truthy()
    };
    match is_changed() {
        Ok(false) => {}
        Ok(true) => tracing::warn!(
            "The logger gunicorn.access has a filter or handler of its own, which counts only if hooks have set \
             it, or with logger_class or a setting logconfig*; access_log_skip leaves paths out"
        ),
        Err(error) => tracing::error!("Can't look at Python's loggers\n{}", failure::report(py, &error)),
    }
}

/// The settings as a `gunicorn.config.Config`, of the installed gunicorn if there is one: for a worker. Hooks are not among
/// them.
///
/// # Errors
/// A `Problem` where the installed gunicorn refuses a value; what Python raises.
pub(crate) fn config<'py>(py: Python<'py>, config: &Config) -> PyResult<Bound<'py, PyAny>> {
    configured(py, config, &DONE, py.import("gunicorn.config")?)
}

/// The settings as a `Config` of our own package, whatever is installed: for hooks and loggers. Hooks are not among them.
///
/// # Errors
/// What Python raises.
pub(crate) fn own_config<'py>(py: Python<'py>, config: &Config) -> PyResult<Bound<'py, PyAny>> {
    let module = py.import("_rgunicorn")?.getattr("ours")?.call1(("config",))?.cast_into()?;
    configured(py, config, &[], module)
}

fn configured<'py>(
    py: Python<'py>,
    config: &Config,
    done: &[&str],
    module: Bound<'py, PyModule>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut changed = Vec::new();
    for setting in SETTINGS {
        let value = setting.get(config);
        if value == setting.default() || setting.is_hook() || done.contains(&setting.name) {
            continue;
        }
        let value = match (setting.name, value) {
            // gunicorn's flag is the other way around.
            ("sendfile", _) => Value::Bool(true),
            ("pythonpath", Value::List(paths)) => {
                Value::Text(paths.iter().map(Value::to_string).collect::<Vec<_>>().join(","))
            }
            (_, value) => value,
        };
        changed.push((setting.name, to_python(py, &value)?));
    }
    load::helper(py, include_str!("configure.py"), "rgunicorn_configure")?
        .getattr("configure")?
        .call1((module, changed))
}

/// A setting, for `gunicorn.config`: name, section, flags, name of the flag's value, what the flag takes, help, default,
/// whether it is a function.
type Declared<'py> = (
    &'static str,
    &'static str,
    Vec<&'static str>,
    String,
    &'static str,
    &'static str,
    Bound<'py, PyAny>,
    bool,
);

/// All settings.
#[pyfunction]
fn settings(py: Python<'_>) -> PyResult<Vec<Declared<'_>>> {
    let declared = |setting: &'static Setting| {
        let takes = match setting.takes {
            Takes::Nothing(true) => "on",
            Takes::Nothing(false) => "off",
            Takes::Values => "many",
            Takes::Value | Takes::OptionalValue(_) => "one",
        };
        let default = to_python(py, &setting.default())?;
        let (name, section, flags) = (setting.name, setting.section, setting.flags.to_vec());
        Ok((name, section, flags, setting.metavar(), takes, setting.help.trim(), default, setting.is_hook()))
    };
    SETTINGS.iter().map(declared).collect()
}

/// The value that a setting would have if it were set to this.
#[pyfunction]
fn read_setting<'py>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let setting = SETTINGS
        .iter()
        .find(|setting| setting.name == name)
        .ok_or_else(|| PyKeyError::new_err(name.to_owned()))?;
    let mut config = Config::default();
    setting
        .set(&mut config, &from_python(value)?)
        .map_err(|reason| PyValueError::new_err(format!("{name}: {reason}")))?;
    to_python(value.py(), &setting.get(&config))
}

/// Writes to the error log, at one of the levels of Python's `logging`.
#[pyfunction(name = "log")]
fn log_message(level: u32, text: &str) {
    log::message(log_level(level), text);
}

/// Writes a line to the access log.
#[pyfunction]
fn log_access(line: &str) {
    log::access_line(line);
}

/// Sends a metric, without prefix and tags, to StatsD, if there is one.
#[pyfunction]
fn metric(metric: &str) {
    log::with_statsd(|statsd| statsd.metric(metric));
}

/// The least severe level that is logged, as a level of Python's `logging`.
#[pyfunction]
fn level() -> u32 {
    match log::level() {
        LogLevel::Debug => 10,
        LogLevel::Info => 20,
        LogLevel::Warning => 30,
        LogLevel::Error => 40,
        LogLevel::Critical => 50,
    }
}

/// The level that one of Python's `logging` comes to: the next one below.
pub(crate) fn log_level(level: u32) -> LogLevel {
    match level {
        50.. => LogLevel::Critical,
        40.. => LogLevel::Error,
        30.. => LogLevel::Warning,
        20.. => LogLevel::Info,
        _ => LogLevel::Debug,
    }
}

/// Follows a log rotation.
#[pyfunction]
fn reopen_logs() {
    log::reopen_files();
}

/// Runs a program that has a server in it, up to the point where that would start; what it would serve.
#[pyfunction]
fn run_program<'py>(py: Python<'py>, path: &str) -> PyResult<Bound<'py, PyAny>> {
    load::helper(py, include_str!("program.py"), "rgunicorn_program")?.getattr("run")?.call1((path,))
}

/// The application that `text` names.
#[pyfunction]
fn import_app(py: Python<'_>, text: &str) -> PyResult<Py<PyAny>> {
    load::load(py, text).map_err(|error| {
        let raised = py.import("gunicorn.errors").and_then(|errors| errors.getattr("AppImportError"));
        match (error, raised) {
            (LoadError::Missing(reason), Ok(kind)) => match kind.call1((reason,)) {
                Ok(value) => PyErr::from_value(value),
                Err(error) => error,
            },
            (error, _) => PyRuntimeError::new_err(error.to_string()),
        }
    })
}

#[cfg(test)]
mod tests;
