//! The configuration file: which one it is, and what is in it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::python::{self, PythonConfig, PythonLocation};
use super::settings::{Config, SETTINGS};
use super::sources::Entry;
use super::toml_file;

/// Files that are read without being named; the first one there is.
const DEFAULT_FILES: [&str; 2] = ["gunicorn.conf.py", "rgunicorn.toml"];

/// What a configuration file says.
#[derive(Debug, Default)]
pub(super) struct FromFile {
    pub(super) entries: Vec<Entry>,
    /// The environment variables that it has set, or deleted (none); a Python file can.
    pub(super) environment: Vec<(String, Option<String>)>,
}

/// The settings of the file that `named` names (gunicorn: `-c`), or else of the default file in `directory`, if there
/// is one. A name ending in `.toml` is TOML, any other file is Python.
///
/// # Errors
/// A file that can't be read, or a mistake in it.
pub(super) fn entries(
    named: Option<&OsStr>,
    directory: &Path,
    python: &dyn PythonConfig,
    warnings: &mut Vec<String>,
) -> Result<FromFile, ConfigError> {
    let Some(location) = locate(named, directory, warnings) else { return Ok(FromFile::default()) };
    match &location {
        PythonLocation::File(path) if is_toml(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError::file(&location, error.to_string()))?;
            Ok(FromFile { entries: toml_file::entries(path, &text)?, environment: Vec::new() })
        }
        location => from_python(location, directory, python, warnings),
    }
}

/// Where a configuration that was read in `directory` has its Python from, if it has any.
pub fn python_location(config: &Config, directory: &Path) -> Option<PythonLocation> {
    let named = (config.config != Config::declared().config).then_some(config.config.as_os_str());
    let location = locate(named, directory, &mut Vec::new())?;
    (!matches!(&location, PythonLocation::File(path) if is_toml(path))).then_some(location)
}

fn locate(named: Option<&OsStr>, directory: &Path, warnings: &mut Vec<String>) -> Option<PythonLocation> {
    let Some(named) = named else { return default_file(directory, warnings).map(PythonLocation::File) };
    let behind = |prefix: &[u8]| named.as_bytes().strip_prefix(prefix).map(OsStr::from_bytes);
    if let Some(program) = behind(b"program:") {
        return Some(PythonLocation::Program(directory.join(program)));
    }
    Some(match behind(b"python:") {
        Some(module) => PythonLocation::Module(module.to_string_lossy().into_owned()),
        None => PythonLocation::File(directory.join(behind(b"file:").unwrap_or(named))),
    })
}

fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

fn default_file(directory: &Path, warnings: &mut Vec<String>) -> Option<PathBuf> {
    let mut there = DEFAULT_FILES.iter().map(|name| directory.join(name)).filter(|path| path.is_file());
    let path = there.next()?;
    if let Some(other) = there.next() {
        warnings.push(format!("{} is read, and {} is not", path.display(), other.display()));
    }
    Some(path)
}

fn from_python(
    location: &PythonLocation,
    directory: &Path,
    python: &dyn PythonConfig,
    warnings: &mut Vec<String>,
) -> Result<FromFile, ConfigError> {
    let mut text = None;
    if let PythonLocation::File(path) = location {
        let kind = path.metadata().map_err(|error| ConfigError::file(location, error.to_string()))?;
        // A pipe, such as a shell's <(...), can be read only once, and that is the evaluator's.
        text = kind.is_file().then(|| std::fs::read_to_string(path).ok()).flatten();
    }
    let mut entries = Vec::new();
    let evaluation = python.evaluate(location, directory)?;
    for raw in evaluation.settings {
        let origin = python::origin(location, text.as_deref(), &raw.name);
        match SETTINGS.iter().find(|setting| setting.name == raw.name) {
            Some(setting) => entries.push(Entry { setting, value: raw.value, origin }),
            // The file is a program: most names of it are its own affair.
            None => warnings.extend(python::near_miss(&raw).map(|miss| format!("{origin}: {miss}"))),
        }
    }
    Ok(FromFile { entries, environment: evaluation.environment })
}
