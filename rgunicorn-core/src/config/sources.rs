//! Where settings come from, and which of them wins.
//!
//! Weakest first: defaults, environment variables of their own, the configuration file, arguments in the environment,
//! the command line. Nothing here reads the process's environment: [`Sources`] is taken once and can be read again at
//! a reload, when the files may have changed.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::cli::{self, Parsed};
use super::error::{ConfigError, Origin};
use super::files;
use super::python::PythonConfig;
use super::settings::{Config, SETTINGS};
use super::table::{Setting, Status};
use super::toml_file;
use super::value::Value;

/// Environment variables that hold arguments, the weaker one first.
const ARGUMENT_VARIABLES: [&str; 2] = ["GUNICORN_CMD_ARGS", "RGUNICORN_CMD_ARGS"];

/// What a configuration is read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The arguments, without the program's name.
    pub args: Vec<OsString>,
    /// The environment.
    pub env: BTreeMap<OsString, OsString>,
    /// The directory that relative paths start from; absolute.
    pub directory: PathBuf,
}

impl Sources {
    /// Those of this process. Take them before the process changes its directory or its environment.
    pub fn from_process() -> Self {
        Sources {
            args: env::args_os().skip(1).collect(),
            env: env::vars_os().collect(),
            directory: current_directory(),
        }
    }

    /// An environment variable; one that is empty counts as not set.
    fn variable(&self, name: &'static str) -> Result<Option<&str>, ConfigError> {
        match self.env.get(OsStr::new(name)).map(|value| value.to_str().ok_or(value)) {
            None | Some(Ok("")) => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(value)) => Err(ConfigError::Value {
                origin: Origin::Environment(name),
                setting: name.to_string(),
                reason: format!("{value:?} is not UTF-8"),
            }),
        }
    }
}

/// The current directory; by the name the shell has for it, so that a path through a symbolic link (which deployments
/// switch) stays one.
pub fn current_directory() -> PathBuf {
    let real = env::current_dir().unwrap_or_else(|_| "/".into());
    let same = |path: &PathBuf| match (path.metadata(), real.metadata()) {
        (Ok(a), Ok(b)) => path.is_absolute() && (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    };
    env::var_os("PWD").map(PathBuf::from).filter(same).unwrap_or(real)
}

/// What came of reading the sources.
#[derive(Debug)]
pub enum Outcome {
    /// A configuration.
    Loaded(Box<Loaded>),
    /// `--help` or `--version`: print this, and exit with status 0.
    Show(String),
}

/// A configuration, and where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Where each setting that was set got its value.
    pub origins: BTreeMap<&'static str, Origin>,
    /// What is worth a word to the operator, each a line without an end.
    pub warnings: Vec<String>,
}

/// A value for a setting.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub setting: &'static Setting,
    pub value: Value,
    pub origin: Origin,
}

/// Reads the settings from `sources`; `python` executes configuration files that are Python.
///
/// # Errors
/// The first mistake found, weak sources before strong ones.
pub fn load(sources: &Sources, python: &dyn PythonConfig) -> Result<Outcome, ConfigError> {
    // Arguments name the file, so they are read first and applied last.
    let mut arguments = Vec::new();
    let mut loaded = Loaded { config: Config::declared(), origins: BTreeMap::new(), warnings: Vec::new() };
    for variable in ARGUMENT_VARIABLES {
        let Some(text) = sources.env.get(OsStr::new(variable)) else { continue };
        let args = shlex::bytes::split(text.as_bytes()).ok_or_else(|| {
            ConfigError::Usage(format!("{variable}: a quotation mark is not closed in {text:?}"))
        })?;
        let args: Vec<OsString> = args.into_iter().map(OsString::from_vec).collect();
        match cli::parse(&args, Some(variable))? {
            Parsed::Show(text) => return Ok(Outcome::Show(text)),
            Parsed::Arguments { entries, positional } => {
                loaded.warn_ignored(&positional, &format!("{variable}: it can't name the application"));
                arguments.extend(entries);
            }
        }
    }
    let application = match cli::parse(&sources.args, None)? {
        Parsed::Show(text) => return Ok(Outcome::Show(text)),
        Parsed::Arguments { entries, mut positional } => {
            arguments.extend(entries);
            let rest = positional.split_off(positional.len().min(1));
            loaded.warn_ignored(&rest, "there is one application");
            positional.pop()
        }
    };

    loaded.apply(environment(sources)?)?;
    if let Some(application) = &application {
        loaded.apply([application_as("default_proc_name", application)])?;
    }
    let named = arguments.iter().rev().find(|entry| entry.setting.name == "config");
    let named = named.map(|entry| match &entry.value {
        Value::Raw(path) => path.clone(),
        other => other.to_string().into(),
    });
    let from_file = files::entries(named.as_deref(), &sources.directory, python, &mut loaded.warnings)?;
    loaded.apply(from_file.entries)?;
    loaded.apply(arguments)?;
    // A file that is a program may have set variables itself; what is asked for by name goes before that.
    loaded.config.raw_env.splice(0..0, from_file.environment);
    if let Some(application) = &application {
        loaded.apply([application_as("wsgi_app", application)])?;
    }
    loaded.refuse_planned()?;
    loaded.resolve_paths(sources)?;
    Ok(Outcome::Loaded(Box::new(loaded)))
}

/// What the TOML in `text` sets, with defaults for the rest; mistakes in it are said to be in the file at `path`. For hosts
/// that have their settings from elsewhere than a file.
///
/// # Errors
/// Bad TOML, or the first mistake found.
pub fn from_toml(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let mut loaded = Loaded { config: Config::default(), origins: BTreeMap::new(), warnings: Vec::new() };
    loaded.apply(toml_file::entries(path, text)?)?;
    Ok(loaded.config)
}

/// The application on the command line, as a value for one of the settings that it stands for.
fn application_as(name: &'static str, application: &str) -> Entry {
    let origin = Origin::CommandLine { flag: "APP_MODULE".to_string() };
    Entry { setting: setting(name), value: Value::text(application), origin }
}

/// A setting that is known to be in the table.
fn setting(name: &'static str) -> &'static Setting {
    match SETTINGS.iter().find(|setting| setting.name == name) {
        Some(setting) => setting,
        None => unreachable!("{name} is in the table of settings"),
    }
}

/// The settings that have an environment variable of their own.
fn environment(sources: &Sources) -> Result<Vec<Entry>, ConfigError> {
    let mut entries = Vec::new();
    let mut set = |variable, name, value| {
        entries.push(Entry { setting: setting(name), value, origin: Origin::Environment(variable) });
    };
    if let Some(count) = sources.variable("WEB_CONCURRENCY")? {
        set("WEB_CONCURRENCY", "workers", Value::text(count));
    }
    if let Some(port) = sources.variable("PORT")? {
        set("PORT", "bind", Value::text(format!("0.0.0.0:{port}")));
    }
    if let Some(peers) = sources.variable("FORWARDED_ALLOW_IPS")? {
        set("FORWARDED_ALLOW_IPS", "forwarded_allow_ips", Value::text(peers));
    } else if sources.env.contains_key(OsStr::new("FORWARDED_ALLOW_IPS")) {
        // Set, but empty: nobody is trusted.
        set("FORWARDED_ALLOW_IPS", "forwarded_allow_ips", Value::None);
    }
    if let Some(answer) = sources.variable("SENDFILE")? {
        let yes = ["y", "1", "yes", "true"].contains(&answer.to_ascii_lowercase().as_str());
        set("SENDFILE", "sendfile", Value::Bool(yes));
    }
    Ok(entries)
}

impl Loaded {
    fn apply(&mut self, entries: impl IntoIterator<Item = Entry>) -> Result<(), ConfigError> {
        for Entry { setting, value, origin } in entries {
            if let Err(reason) = setting.set(&mut self.config, &value) {
                return Err(ConfigError::Value { origin, setting: setting.name.to_string(), reason });
            }
            self.origins.insert(setting.name, origin);
        }
        Ok(())
    }

    fn warn_ignored(&mut self, positional: &[String], reason: &str) {
        if !positional.is_empty() {
            self.warnings.push(format!("{reason}: {} is ignored", positional.join(" ")));
        }
    }

    /// A setting without effect is never silently ignored.
    fn refuse_planned(&self) -> Result<(), ConfigError> {
        for setting in SETTINGS.iter().filter(|setting| setting.status == Status::Planned) {
            let (value, default) = (setting.get(&self.config), setting.default());
            if value != default {
                let origin = self.origin(setting.name);
                return Err(match setting.is_hook() {
                    true => ConfigError::Hook { origin, setting: setting.name },
                    false => ConfigError::Planned {
                        origin,
                        setting: setting.name,
                        value: value.literal(),
                        default: default.literal(),
                    },
                });
            }
        }
        Ok(())
    }

    /// Makes `chdir` absolute, from where the server was started, and what is relative to it.
    fn resolve_paths(&mut self, sources: &Sources) -> Result<(), ConfigError> {
        let config = &mut self.config;
        let chdir = normal(&sources.directory.join(&config.chdir));
        if !chdir.is_dir() {
            return Err(ConfigError::Value {
                origin: self.origin("chdir"),
                setting: "chdir".to_string(),
                reason: format!("{} is not a directory", chdir.display()),
            });
        }
        for path in &mut config.pythonpath {
            *path = normal(&chdir.join(&*path));
        }
        if let Some(directory) = config.tmp_upload_dir.as_ref().filter(|path| !chdir.join(path).is_dir()) {
            self.warnings.push(format!(
                "{}: tmp_upload_dir: {} is not a directory: large request bodies will go elsewhere",
                self.origins.get("tmp_upload_dir").unwrap_or(&Origin::Default),
                directory.display()
            ));
        }
        if let Some(paste) = config.paste.as_mut().filter(|paste| !paste.contains(':')) {
            *paste = normal(&sources.directory.join(&*paste)).display().to_string();
            let file = paste.split('#').next().unwrap_or_default().to_string();
            config.default_proc_name = file;
        }
        config.chdir = chdir;
        Ok(())
    }

    fn origin(&self, name: &str) -> Origin {
        self.origins.get(name).cloned().unwrap_or(Origin::Default)
    }
}

/// `path` without `.` and `..`, by its text alone: a symbolic link in it stays.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

impl Default for Config {
    /// What an empty command line gives, in an empty environment.
    fn default() -> Self {
        Config { chdir: current_directory(), ..Config::declared() }
    }
}
