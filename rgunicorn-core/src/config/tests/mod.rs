//! What the configuration as a whole promises: which source wins, and what mistakes are answered with.

mod mistakes;
mod precedence;
mod table;

use std::path::{Path, PathBuf};

use super::*;

/// A machine made up for a test: arguments, environment, and a directory with files.
struct World {
    sources: Sources,
    directory: tempfile::TempDir,
    python: Vec<RawEntry>,
    environment: Vec<(String, Option<String>)>,
}

impl World {
    fn new(command_line: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let args = shlex::split(command_line).unwrap().into_iter().map(Into::into).collect();
        let sources = Sources { args, env: Default::default(), directory: directory.path().to_path_buf() };
        World { sources, directory, python: Vec::new(), environment: Vec::new() }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.env.insert(name.into(), value.into());
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.path(name), text).unwrap();
        self
    }

    /// What the evaluator finds in any Python file or module.
    fn python(mut self, name: &str, value: Value) -> Self {
        self.python.push(RawEntry { name: name.into(), value });
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        match load(&self.sources, self)? {
            Outcome::Loaded(loaded) => Ok(*loaded),
            Outcome::Show(text) => panic!("asked for {text}"),
        }
    }

    fn config(&self) -> Config {
        self.load().unwrap().config
    }

    /// The error and its exit status, the made-up directory written as `DIR`.
    fn error(&self) -> (String, i32) {
        let error = self.load().unwrap_err();
        let directory = self.directory.path().display().to_string();
        (error.to_string().replace(&directory, "DIR"), error.exit_status())
    }
}

impl PythonConfig for World {
    fn evaluate(&self, location: &PythonLocation, directory: &Path) -> Result<Evaluation, ConfigError> {
        assert_eq!(directory, self.directory.path());
        match location {
            PythonLocation::File(path) | PythonLocation::Program(path) => assert!(path.is_file()),
            PythonLocation::Module(name) => assert_eq!(name, "settings.production"),
        }
        Ok(Evaluation { settings: self.python.clone(), environment: self.environment.clone() })
    }
}

fn tcp(host: &str, port: u16) -> BindAddress {
    BindAddress::Tcp { host: host.into(), port }
}
