//! Which Python installation, or virtual environment, the process runs in.
//!
//! A worker is to see what `python3` typed into the same shell would see: the same site-packages, `sys.prefix` and
//! `sys.executable`. No Python runs in this process yet, so the files tell: `VIRTUAL_ENV`, else `python3` or `python` on
//! `PATH`, and the `pyvenv.cfg` beside it (PEP 405). A launcher script (such as pyenv's shims) tells nothing by itself
//! and is asked, once.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use thiserror::Error;

/// A Python's major and minor version: what binary compatibility goes by.
pub type PythonVersion = (u8, u8);

/// A Python environment that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The interpreter's executable; what `sys.executable` becomes.
    pub executable: PathBuf,
    /// The version that its library directories are for.
    pub version: PythonVersion,
    /// Whether `VIRTUAL_ENV` named it, rather than `PATH`.
    pub activated: bool,
}

/// An environment that this build can't run in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{} has Python {}.{}, and this rgunicorn runs Python {}.{}: activate an environment of Python {}.{}, or build \
     rgunicorn with PYO3_PYTHON={}",
    self.place(), .found.0, .found.1, .ours.0, .ours.1, .ours.0, .ours.1, .executable.display()
)]
pub struct EnvironmentError {
    /// The environment's interpreter.
    pub executable: PathBuf,
    /// Its version.
    pub found: PythonVersion,
    /// The version of the libpython in this process.
    pub ours: PythonVersion,
    /// Whether `VIRTUAL_ENV` named it, rather than `PATH`.
    pub activated: bool,
}

impl EnvironmentError {
    fn place(&self) -> String {
        match (self.activated, self.executable.parent().and_then(Path::parent)) {
            (true, Some(directory)) => format!("the active virtual environment {}", directory.display()),
            _ => format!("the python3 on PATH, {},", self.executable.display()),
        }
    }
}

impl Environment {
    /// The environment that the process's own variables point to; none if there is no Python to be found.
    pub fn find() -> Option<Self> {
        Self::find_in(env::var_os("VIRTUAL_ENV"), env::var_os("PATH"))
    }

    fn find_in(virtual_env: Option<OsString>, path: Option<OsString>) -> Option<Self> {
        if let Some(directory) = virtual_env.filter(|directory| !directory.is_empty()) {
            let bin = Path::new(&directory).join("bin");
            let names = ["python3", "python"];
            if let Some(found) = names.iter().find_map(|name| Self::of(&bin.join(name), true)) {
                return Some(found);
            }
            tracing::warn!("VIRTUAL_ENV is {directory:?}, where there is no Python; looking on PATH");
        }
        let directories: Vec<PathBuf> = path.iter().flat_map(env::split_paths).collect();
        ["python3", "python"]
            .iter()
            .flat_map(|name| directories.iter().map(move |directory| directory.join(name)))
            .find_map(|candidate| Self::of(&candidate, false))
    }

    /// The environment of an interpreter; none if `candidate` isn't one, or is one that does not work.
    fn of(candidate: &Path, activated: bool) -> Option<Self> {
        let metadata = fs::metadata(candidate).ok()?;
        if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
            return None;
        }
        let executable = std::path::absolute(candidate).ok()?;
        let (executable, version) = match is_binary(&executable) {
            true => match version_by_files(&executable) {
                Some(version) => (executable, version),
                None => ask(&executable)?,
            },
            false => ask(&executable)?,
        };
        Some(Environment { executable, version, activated })
    }

    /// Checks that the libpython in this process, of version `ours`, can run in this environment.
    ///
    /// # Errors
    /// If the versions differ: extension modules, and the standard library, are made for one version.
    pub fn check(&self, ours: PythonVersion) -> Result<(), EnvironmentError> {
        if self.version == ours {
            return Ok(());
        }
        let Environment { executable, version: found, activated } = self.clone();
        Err(EnvironmentError { executable, found, ours, activated })
    }
}

/// Whether the file is a program of the machine's, and not a script that starts one.
fn is_binary(file: &Path) -> bool {
    let mut magic = [0; 4];
    let read = fs::File::open(file).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"\x7fELF"
}

fn version_by_files(executable: &Path) -> Option<PythonVersion> {
    version_of_venv(executable).or_else(|| {
        let real = fs::canonicalize(executable).ok()?;
        parse_version(real.file_name()?.to_str()?.strip_prefix("python")?)
    })
}

/// The version that `pyvenv.cfg` gives, beside the executable or one directory up (PEP 405); `venv` calls it `version`,
/// virtualenv and uv `version_info`.
fn version_of_venv(executable: &Path) -> Option<PythonVersion> {
    let bin = executable.parent()?;
    let text = [Some(bin), bin.parent()]
        .into_iter()
        .flatten()
        .find_map(|directory| fs::read_to_string(directory.join("pyvenv.cfg")).ok())?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        matches!(key.trim(), "version" | "version_info").then(|| parse_version(value.trim())).flatten()
    })
}

/// Reads `3.11` and whatever follows it after a dot.
pub(crate) fn parse_version(text: &str) -> Option<PythonVersion> {
    let mut parts = text.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?;
    let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
    Some((major, minor.get(..digits)?.parse().ok()?))
}

/// Has the program say itself what it is.
fn ask(program: &Path) -> Option<(PathBuf, PythonVersion)> {
    const QUESTION: &str = "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.executable)";
    let output =
        Command::new(program).args(["-I", "-S", "-c", QUESTION]).stdin(Stdio::null()).output().ok()?;
    if !output.status.success() {
        tracing::debug!("{} is no working Python: {}", program.display(), output.status);
        return None;
    }
    let line_end = output.stdout.iter().position(|byte| *byte == b'\n')?;
    let (version, executable) = output.stdout.split_at_checked(line_end)?;
    let version = parse_version(std::str::from_utf8(version).ok()?)?;
    let executable = PathBuf::from(OsString::from_vec(executable.trim_ascii().to_vec()));
    executable.is_absolute().then_some((executable, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory tree that goes away with it.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("rgunicorn-environment-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(path.join("bin")).unwrap();
            Tree(path)
        }

        fn file(&self, name: &str, content: &[u8]) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        }

        fn path(&self) -> Option<OsString> {
            Some(self.0.join("bin").into_os_string())
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_active_virtual_environment_wins_over_the_path() {
        let venv = Tree::new("venv");
        let python = venv.file("bin/python3", b"\x7fELF...");
        venv.file("pyvenv.cfg", b"home = /usr/bin\nversion = 3.12.4\n");
        let other = Tree::new("other");
        other.file("bin/python3", b"\x7fELF...");
        let found = Environment::find_in(Some(venv.0.clone().into()), other.path()).unwrap();
        assert_eq!(found, Environment { executable: python, version: (3, 12), activated: true });
    }

    #[test]
    fn a_virtual_environment_on_the_path_is_found_without_being_activated() {
        let venv = Tree::new("uv");
        let python = venv.file("bin/python", b"\x7fELF...");
        venv.file("pyvenv.cfg", b"home = /usr/bin\nversion_info = 3.13.0.final.0\n");
        let found = Environment::find_in(None, venv.path()).unwrap();
        assert_eq!(found, Environment { executable: python, version: (3, 13), activated: false });
    }

    #[test]
    fn an_installation_tells_its_version_by_its_name() {
        let tree = Tree::new("plain");
        tree.file("bin/python3.14", b"\x7fELF...");
        std::os::unix::fs::symlink("python3.14", tree.0.join("bin/python3")).unwrap();
        let found = Environment::find_in(None, tree.path()).unwrap();
        assert_eq!((found.executable, found.version), (tree.0.join("bin/python3"), (3, 14)));
    }

    #[test]
    fn a_launcher_script_is_asked_and_a_broken_one_passed_over() {
        let broken = Tree::new("broken");
        broken.file("bin/python3", b"#!/bin/sh\necho no such version >&2\nexit 127\n");
        let shim = Tree::new("shim");
        shim.file("bin/python3", b"#!/bin/sh\necho 3.12\necho /opt/python/bin/python3\n");
        let path = env::join_paths([broken.0.join("bin"), shim.0.join("bin")]).unwrap();
        let found = Environment::find_in(None, Some(path)).unwrap();
        assert_eq!((found.executable, found.version), ("/opt/python/bin/python3".into(), (3, 12)));
    }

    #[test]
    fn a_deleted_virtual_environment_does_not_hide_the_path() {
        let tree = Tree::new("fallback");
        tree.file("bin/python3.11", b"\x7fELF...");
        std::os::unix::fs::symlink("python3.11", tree.0.join("bin/python3")).unwrap();
        let found = Environment::find_in(Some("/nowhere/venv".into()), tree.path()).unwrap();
        assert!(!found.activated);
        assert_eq!(Environment::find_in(None, Some("/nowhere".into())), None);
    }

    #[test]
    fn another_version_is_refused_with_both_versions_and_the_way_out() {
        let environment =
            Environment { executable: "/srv/venv/bin/python3".into(), version: (3, 12), activated: true };
        assert_eq!(environment.check((3, 12)), Ok(()));
        assert_eq!(
            environment.check((3, 11)).unwrap_err().to_string(),
            "the active virtual environment /srv/venv has Python 3.12, and this rgunicorn runs Python 3.11: activate \
             an environment of Python 3.11, or build rgunicorn with PYO3_PYTHON=/srv/venv/bin/python3"
        );
    }

    #[test]
    fn versions_are_read_as_they_are_written_in_the_wild() {
        assert_eq!(parse_version("3.11.7 (main, May  9 2026)"), Some((3, 11)));
        assert_eq!(parse_version("3.13.0.final.0"), Some((3, 13)));
        assert_eq!(parse_version("3.14t"), Some((3, 14)));
        assert_eq!(parse_version("3"), None);
        assert_eq!(parse_version(""), None);
    }
}
