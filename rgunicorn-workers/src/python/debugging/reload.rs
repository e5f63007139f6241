//! `--reload`: a worker leaves when a file of its application changes, and the next one has the new code.
//!
//! A thread looks at the files of all modules that are loaded by now: once a second (`poll`), or whenever the kernel says
//! that something in one of their directories has changed (`inotify`), which it then looks at. As in gunicorn, an
//! application that can't be loaded is answered for with its traceback until it is mended.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use pyo3::prelude::*;
use pyo3::types::PyModule;
use rgunicorn_core::config::Config;
use rgunicorn_core::sys::signals::{self, Signal};
use rgunicorn_core::worker::BootError;

use super::super::{failure, load};

/// How often files are looked at, or looked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long after a first event others are waited for: an editor writes a file in several steps.
const SETTLE: Duration = Duration::from_millis(20);

/// Loads an application, and watches its files from then on.
///
/// # Errors
/// Only what has nothing to do with the application.
pub(in crate::python) fn load_watched(
    config: &Config,
    import: impl FnOnce() -> Result<Py<PyAny>, BootError>,
) -> Result<Py<PyAny>, BootError> {
    tracing::warn!("Reloader is on. Use in development only!");
    let boot = |py: Python<'_>, error: PyErr| BootError::Boot(failure::report(py, &error));
    let imported = import();
    Python::attach(|py| {
        let module = load::helper(py, include_str!("reload.py"), "rgunicorn_reload");
        let module = module.map_err(|error| boot(py, error))?;
        let mut more = Vec::new();
        let application = match imported {
            Ok(application) => application,
            Err(error) => {
                let report = error.to_string();
                tracing::error!(
                    "The application can't be loaded; its traceback is all that is served\n{report}"
                );
                let mut stand_in = || {
                    more = module.call_method1("files_of", (&report,))?.extract()?;
                    module.getattr("StandIn")?.call1((&report,))
                };
                stand_in().map_err(|error| boot(py, error))?.unbind()
            }
        };
        more.extend(config.reload_extra_files.iter().cloned());
        let mut watch = Watch { module: module.unbind(), more, seen: HashMap::new() };
        // Before anybody is answered: whoever sees an answer may change a file at once.
        watch.changed(&watch.files().map_err(BootError::Boot)?);
        let engine = config.reload_engine.clone();
        std::thread::Builder::new()
            .name("reloader".into())
            .spawn(move || watch.run(&engine))
            .map_err(|error| BootError::Boot(format!("cannot watch files: {error}")))?;
        Ok(application)
    })
}

/// What tells that a file is another one: when it was written, its size, its inode.
type Look = (i64, i64, u64, u64);

struct Watch {
    module: Py<PyModule>,
    /// Files and patterns besides those of modules.
    more: Vec<PathBuf>,
    seen: HashMap<PathBuf, Look>,
}

impl Watch {
    fn run(mut self, engine: &str) {
        let mut events = match engine {
            "poll" => None,
            _ => Events::new()
                .inspect_err(|error| {
                    if engine == "inotify" {
                        tracing::warn!("inotify can't be had ({error}); files are looked at once a second");
                    }
                })
                .ok(),
        };
        loop {
            let files = match self.files() {
                Ok(files) => files,
                Err(report) => return tracing::error!("The reloader has failed\n{report}"),
            };
            if let Some(changed) = self.changed(&files) {
                tracing::info!("Worker reloading: {} modified", changed.display());
                if let Err(error) = signals::send(signals::this_process(), Signal::SIGTERM) {
                    tracing::error!("Can't end this worker: {error}");
                }
                return;
            }
            match &mut events {
                Some(events) => {
                    events.follow(&files);
                    events.wait();
                }
                None => std::thread::sleep(INTERVAL),
            }
        }
    }

    /// The files that there are to watch by now.
    fn files(&self) -> Result<Vec<PathBuf>, String> {
        Python::attach(|py| {
            let more: Vec<OsString> = self.more.iter().map(|path| path.clone().into_os_string()).collect();
            let files = self.module.bind(py).call_method1("files", (more,));
            files.and_then(|files| files.extract()).map_err(|error: PyErr| failure::report(py, &error))
        })
    }

    /// One that is not as it was. A file that is gone is waited for: it may be about to be replaced.
    fn changed(&mut self, files: &[PathBuf]) -> Option<PathBuf> {
        let mut changed = None;
        for file in files {
            let Some(look) = look(file) else { continue };
            let before = self.seen.insert(file.clone(), look);
            if before.is_some_and(|before| before != look) {
                changed = Some(file.clone());
            }
        }
        changed
    }
}

fn look(file: &Path) -> Option<Look> {
    let metadata = file.metadata().ok()?;
    Some((metadata.mtime(), metadata.mtime_nsec(), metadata.size(), metadata.ino()))
}

/// The kernel's word that something has changed in one of some directories.
struct Events {
    inotify: Inotify,
    followed: HashSet<PathBuf>,
}

impl Events {
    fn new() -> nix::Result<Events> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Events { inotify, followed: HashSet::new() })
    }

    /// Follows the directories of these files as well, and those that links among them lead to.
    fn follow(&mut self, files: &[PathBuf]) {
        let what = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_ATTRIB;
        for file in files {
            let target = file.is_symlink().then(|| file.canonicalize().ok()).flatten();
            for directory in
                [Some(file), target.as_ref()].into_iter().flatten().filter_map(|file| file.parent())
            {
                if !self.followed.contains(directory) {
                    // One that can't be followed is looked at once a second all the same.
                    let _ = self.inotify.add_watch(directory, what);
                    self.followed.insert(directory.to_path_buf());
                }
            }
        }
    }

    /// Waits until something has changed, for a while at most: modules are imported at any time.
    fn wait(&self) {
        let limit = PollTimeout::try_from(INTERVAL).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, limit).is_ok_and(|ready| ready > 0) {
            std::thread::sleep(SETTLE);
            while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        }
    }
}
