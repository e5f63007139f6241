//! Python configuration files, as seen from a crate without Python: someone else evaluates them.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Origin};
use super::nearest;
use super::settings::SETTINGS;
use super::value::Value;

/// Where Python configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PythonLocation {
    /// A file, its path absolute; it exists.
    File(PathBuf),
    /// A module to be imported (`-c python:module`).
    Module(String),
    /// A program that has a server in it, by gunicorn's `BaseApplication` (`-c program:path`); its path absolute.
    Program(PathBuf),
}

impl fmt::Display for PythonLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PythonLocation::File(path) => write!(f, "{}", path.display()),
            PythonLocation::Module(name) => write!(f, "python:{name}"),
            PythonLocation::Program(path) => write!(f, "program:{}", path.display()),
        }
    }
}

/// A global name of a Python configuration file.
#[derive(Debug, Clone, PartialEq)]
pub struct RawEntry {
    /// The name.
    pub name: String,
    /// Its value once the file was executed.
    pub value: Value,
}

/// What came of executing a configuration file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evaluation {
    /// Its global names that don't begin with an underscore. Names that are no setting's may be left in or out.
    pub settings: Vec<RawEntry>,
    /// The environment variables that it has set, or deleted (none): the workers are to have them so.
    pub environment: Vec<(String, Option<String>)>,
}

/// Executes Python configuration files.
pub trait PythonConfig {
    /// Executes what is at `location`, with `directory` first on the module path.
    ///
    /// # Errors
    /// [`ConfigError::File`] with the traceback, when the file raises.
    fn evaluate(&self, location: &PythonLocation, directory: &Path) -> Result<Evaluation, ConfigError>;
}

/// For hosts without Python: every Python configuration file is an error.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPython;

impl PythonConfig for NoPython {
    fn evaluate(&self, location: &PythonLocation, _directory: &Path) -> Result<Evaluation, ConfigError> {
        Err(ConfigError::file(
            location,
            "it is in Python, which this program was built without; a TOML file (its name ends in .toml) will do",
        ))
    }
}

/// Where the value of `name` comes from. Python doesn't say on which line; the file's text mostly does.
pub(super) fn origin(location: &PythonLocation, text: Option<&str>, name: &str) -> Origin {
    match location {
        PythonLocation::Module(module) => Origin::Module(module.clone()),
        PythonLocation::Program(path) => Origin::File { path: path.clone(), line: None },
        PythonLocation::File(path) => {
            Origin::File { path: path.clone(), line: text.and_then(|text| line_of(text, name)) }
        }
    }
}

/// The last line, counted from 1, that gives `name` a value.
fn line_of(text: &str, name: &str) -> Option<usize> {
    let gives = |line: &str| {
        let line = line.trim_start();
        let defined = ["async def ", "def ", "class "].iter().find_map(|keyword| line.strip_prefix(keyword));
        let Some(rest) = defined.unwrap_or(line).strip_prefix(name) else { return false };
        let rest = rest.trim_start();
        match defined {
            Some(_) => rest.starts_with(['(', ':']),
            None => rest.starts_with([':', ',', '+']) || rest.starts_with('=') && !rest.starts_with("=="),
        }
    };
    let numbered: Vec<(usize, &str)> = (1..).zip(text.lines()).collect();
    numbered.into_iter().rev().find(|(_, line)| gives(line)).map(|(number, _)| number)
}

/// A word about a variable that is no setting, but so like one that it was probably meant to be.
pub(super) fn near_miss(entry: &RawEntry) -> Option<String> {
    let name = entry.name.as_str();
    let is_plain = !matches!(entry.value, Value::Callable(_) | Value::Class(_) | Value::Other(_));
    let looks_like_setting = name.len() > 4 && !name.starts_with('_') && name == name.to_lowercase();
    if !is_plain || !looks_like_setting {
        return None;
    }
    let known = nearest::nearest(name, SETTINGS.iter().map(|setting| setting.name))?;
    (strsim::damerau_levenshtein(name, known) <= 2)
        .then(|| format!("{name} is no setting and has no effect; did you mean {known}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_where_the_text_shows_them() {
        let text = "import os\nworkers = 1\nif x:\n    workers = 2\nworkers == 3\nworkers_x = 4\ndef on_exit(s): pass\n";
        assert_eq!(line_of(text, "workers"), Some(4));
        assert_eq!(line_of(text, "on_exit"), Some(7));
        assert_eq!(line_of(text, "bind"), None);
        assert_eq!(line_of("bind: str = ':1'", "bind"), Some(1));
    }

    #[test]
    fn near_misses_are_plain_lower_case_values() {
        let miss = |name: &str, value| near_miss(&RawEntry { name: name.into(), value });
        assert_eq!(
            miss("worker", Value::Int(3)).unwrap(),
            "worker is no setting and has no effect; did you mean workers?"
        );
        assert!(miss("keep_alive", Value::Int(3)).is_some());
        assert!(miss("WORKER", Value::Int(3)).is_none());
        assert!(miss("worker", Value::Callable("worker".into())).is_none());
        assert!(miss("bin", Value::Int(3)).is_none());
        assert!(miss("database", Value::Int(3)).is_none());
    }
}
