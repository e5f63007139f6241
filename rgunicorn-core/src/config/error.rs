//! What is wrong with a configuration, and where it came from.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Where a setting got its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// An environment variable of its own, such as `WEB_CONCURRENCY`.
    Environment(&'static str),
    /// A configuration file, TOML or Python.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1, where it is known.
        line: Option<usize>,
    },
    /// A Python module (`-c python:module`).
    Module(String),
    /// A flag within a variable such as `GUNICORN_CMD_ARGS`.
    Variable {
        /// The environment variable.
        variable: &'static str,
        /// The flag, as `-w/--workers`.
        flag: String,
    },
    /// A flag of the command line, as `-w/--workers`.
    CommandLine {
        /// The flag.
        flag: String,
    },
}

impl Origin {
    /// Whether it was typed as an argument: such mistakes are usage errors.
    fn is_argument(&self) -> bool {
        matches!(self, Origin::Variable { .. } | Origin::CommandLine { .. })
    }

    /// The origin and the setting in few words: flags and variables speak for themselves, files don't.
    fn place(&self, setting: &str) -> String {
        match self {
            Origin::File { .. } | Origin::Module(_) | Origin::Default => format!("{self}: {setting}"),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Origin::File { path, line: None } => write!(f, "{}", path.display()),
            Origin::Module(name) => write!(f, "python:{name}"),
            Origin::Variable { variable, flag } => write!(f, "{variable}: argument {flag}"),
            Origin::CommandLine { flag } => write!(f, "argument {flag}"),
        }
    }
}

/// A configuration that can't be used. Its text says where, what, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Arguments that can't be understood, before any setting is looked at.
    #[error("{0}")]
    Usage(String),
    /// A value that its setting doesn't take.
    #[error("{}: {reason}", origin.place(setting))]
    Value {
        /// Where it was set.
        origin: Origin,
        /// The setting.
        setting: String,
        /// The value, and what would be right.
        reason: String,
    },
    /// A name in a file that is no setting's.
    #[error("{origin}: there is no setting {name:?}{}", suggestion(nearest))]
    Unknown {
        /// Where it stands.
        origin: Origin,
        /// The name.
        name: String,
        /// The setting that was probably meant.
        nearest: Option<String>,
    },
    /// A setting that does nothing yet, with another value than its default.
    #[error(
        "{origin}: {setting} = {value} isn't supported yet: rgunicorn {} only knows the default, {default}",
        crate::VERSION
    )]
    Planned {
        /// Where it was set.
        origin: Origin,
        /// The setting.
        setting: &'static str,
        /// The value, as Python would write it.
        value: String,
        /// The only value supported so far, as Python would write it.
        default: String,
    },
    /// A hook function in a configuration file.
    #[error(
        "{origin}: the hook {setting} isn't supported yet by rgunicorn {}: remove it from the file",
        crate::VERSION
    )]
    Hook {
        /// Where it was set.
        origin: Origin,
        /// The hook.
        setting: &'static str,
    },
    /// A configuration file that can't be read or evaluated.
    #[error("configuration file {location}: {reason}")]
    File {
        /// The file as `path`, `path:line` or `python:module`.
        location: String,
        /// Why, a traceback included where there is one.
        reason: String,
    },
    /// Settings that are each well but not together, or not with the chosen worker class or host.
    #[error("{setting}: {reason}")]
    Setting {
        /// The setting.
        setting: String,
        /// Why, and what would be right.
        reason: String,
    },
    /// No application named anywhere.
    #[error(
        "no application given: name it as in `rgunicorn module:app`, or set wsgi_app in a configuration file"
    )]
    NoApplication,
}

impl ConfigError {
    /// A setting refused by a worker class, a hook or a host: `reason` holds the value and what would be right.
    pub fn setting(setting: &str, reason: impl Into<String>) -> Self {
        ConfigError::Setting { setting: setting.to_string(), reason: reason.into() }
    }

    /// A configuration file that can't be read or evaluated; `location` as a person would name it.
    pub fn file(location: impl fmt::Display, reason: impl Into<String>) -> Self {
        ConfigError::File { location: location.to_string(), reason: reason.into() }
    }

    /// The exit status of a program that stops for this: 2 for arguments as typed, 1 for anything else, as gunicorn.
    pub fn exit_status(&self) -> i32 {
        match self {
            ConfigError::Usage(_) => 2,
            ConfigError::Value { origin, .. } if origin.is_argument() => 2,
            _ => 1,
        }
    }
}

fn suggestion(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!("; did you mean {name:?}?"),
        None => "; docs/settings.md lists them all".to_string(),
    }
}
