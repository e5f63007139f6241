//! CPython in this process: its start, its way through forks, its end.
//!
//! It is started as the `python3` of the active [`Environment`] would start, so that an application can't tell the
//! difference: the `PYTHON*` variables, UTF-8 mode and `site` are CPython's own business. Signals are not: the server's
//! handlers stay as they are.
//!
//! **Who holds the GIL.** The thread that starts the interpreter is Python's main thread, and holds the GIL from then
//! on as `python3`'s main thread would; [`Application::while_idle`](rgunicorn_core::app::Application::while_idle) lets
//! go of it around waits. A process that serves nothing itself (the arbiter, with `--preload`) [releases](release) it.

use std::ffi::{CStr, CString, OsString, c_char};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction,
};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use rgunicorn_core::sys::forks;
use rgunicorn_core::sys::signals::{Report, set_abort_action};
use thiserror::Error;

use super::environment::{Environment, EnvironmentError, PythonVersion, parse_version};
use super::{failure, package, signals};

/// What the interpreter is told at its start.
#[derive(Debug, Clone, Default)]
pub struct Startup {
    /// `sys.argv`.
    pub argv: Vec<OsString>,
    /// Put in front of `sys.path`, one after the other, so that the last comes first; absolute.
    pub path: Vec<PathBuf>,
}

/// Why Python could not be started.
#[derive(Debug, Error)]
pub enum InterpreterError {
    /// The environment is for another version.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// CPython refused; the text is its own.
    #[error("Python {0}.{1} could not be started: {2}", .version.0, .version.1, .reason)]
    Start {
        /// The version that was to be started.
        version: PythonVersion,
        /// What CPython says.
        reason: String,
    },
    /// The module search path could not be set up; the text is a traceback.
    #[error("Python's module search path could not be set up: {0}")]
    Path(String),
}

/// The version of the libpython in this process.
pub fn version() -> PythonVersion {
    // SAFETY: may be called at any time, also before the start; the result is static and NUL-terminated.
    let text = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) };
    text.to_str().ok().and_then(parse_version).unwrap_or_default()
}

/// Whether the interpreter was started.
pub fn is_running() -> bool {
    // SAFETY: may be called at any time.
    unsafe { ffi::Py_IsInitialized() != 0 }
}

/// Checks, without starting anything, that the libpython in this process can run in this environment.
///
/// # Errors
/// If their versions differ, unless the user has set `PYTHONHOME` and so taken that on.
pub fn check(environment: Option<&Environment>) -> Result<(), EnvironmentError> {
    match environment {
        Some(environment) if std::env::var_os("PYTHONHOME").is_none_or(|home| home.is_empty()) => {
            environment.check(version())
        }
        _ => Ok(()),
    }
}

/// Starts the interpreter, unless it runs already, and sets up `sys.path`. This thread becomes Python's main thread, and
/// holds the GIL.
///
/// Without an environment, CPython falls back on the prefix that it was built for. `PYTHONHOME`, where the user has set
/// it, overrules what the environment says.
///
/// # Errors
/// An [`InterpreterError`].
pub fn start(environment: Option<&Environment>, startup: &Startup) -> Result<(), InterpreterError> {
    if !is_running() {
        check(environment)?;
        let executable = environment.map(|environment| environment.executable.as_path());
        keeping_interrupt(|| {
            initialize(executable, &startup.argv)?;
            Python::attach(|py| py.import("_signal").map(drop).map_err(|error| failure::report(py, &error)))
        })
        .map_err(|reason| InterpreterError::Start { version: version(), reason })?;
        ignore_file_size_signal();
        Python::attach(|py| signals::begin(py).map_err(|error| failure::report(py, &error)))
            .map_err(|reason| InterpreterError::Start { version: version(), reason })?;
    }
    hold();
    forks::before_the_end(write_streams);
    Python::attach(|py| {
        set_up(py, startup).map_err(|error| InterpreterError::Path(failure::report(py, &error)))
    })
}

fn initialize(executable: Option<&Path>, argv: &[OsString]) -> Result<(), String> {
    let executable = executable.map(|path| CString::new(path.as_os_str().as_bytes()).unwrap_or_default());
    let argv: Vec<CString> =
        argv.iter().map(|argument| CString::new(argument.as_bytes()).unwrap_or_default()).collect();
    let mut argv: Vec<*const c_char> = argv.iter().map(|argument| argument.as_ptr()).collect();
    let mut config = MaybeUninit::<ffi::PyConfig>::uninit();
    // SAFETY: the interpreter isn't running. InitPythonConfig initialises the structure; all strings outlive the calls,
    // which copy them; `config` is cleared once, whatever happens.
    unsafe {
        ffi::PyConfig_InitPythonConfig(config.as_mut_ptr());
        let config = config.assume_init_mut();
        // The command line is ours: CPython must not look for its own options on it.
        config.parse_argv = 0;
        config.install_signal_handlers = 0;
        let mut status = ffi::PyConfig_SetBytesArgv(config, argv.len() as ffi::Py_ssize_t, argv.as_mut_ptr());
        if let Some(executable) = &executable
            && ffi::PyStatus_Exception(status) == 0
        {
            // From the program's name, if it is a path, getpath finds pyvenv.cfg, the prefixes and site-packages.
            let program_name = &raw mut config.program_name;
            status = ffi::PyConfig_SetBytesString(config, program_name, executable.as_ptr());
        }
        if ffi::PyStatus_Exception(status) == 0 {
            status = ffi::Py_InitializeFromConfig(config);
        }
        ffi::PyConfig_Clear(config);
        if ffi::PyStatus_Exception(status) == 0 {
            return Ok(());
        }
        match status.err_msg.is_null() {
            true => Err("it asked to exit".to_string()),
            false => Err(CStr::from_ptr(status.err_msg).to_string_lossy().into_owned()),
        }
    }
}

/// Has Python's signal module find SIGINT taken when it is first imported: it would take it for itself otherwise,
/// whatever the configuration says. A signal that comes meanwhile is handled afterwards.
fn keeping_interrupt<R>(work: impl FnOnce() -> R) -> R {
    extern "C" fn nothing(_: libc::c_int) {}
    let interrupt = SigSet::from(Signal::SIGINT);
    let mut mask = SigSet::empty();
    let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&interrupt), Some(&mut mask));
    let taken = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing.
    let before = unsafe { sigaction(Signal::SIGINT, &taken) };
    let result = work();
    if let Ok(before) = before {
        // SAFETY: the handler was in place before.
        let _ = unsafe { sigaction(Signal::SIGINT, &before) };
    }
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&mask), None);
    result
}

/// `python3` does this in the signal set-up that we leave out: a file that grows past `ulimit -f` is then an `OSError`.
fn ignore_file_size_signal() {
    // SAFETY: no handler is installed, the signal is ignored.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

fn set_up(py: Python<'_>, startup: &Startup) -> PyResult<()> {
    // The thread that imports it first is its main thread, up to CPython 3.12.
    py.import("threading")?;
    let path = py.import("sys")?.getattr("path")?.cast_into::<PyList>()?;
    let absolute = py.import("os")?.getattr("path")?.getattr("abspath")?;
    for entry in &startup.path {
        let entry = absolute.call1((entry.as_os_str(),))?;
        if !path.contains(&entry)? {
            path.insert(0, entry)?;
        }
    }
    package::install(py)
}

/// Writes what was printed in a process that the application has forked, and that ends without more ado.
fn write_streams() {
    Python::attach(|py| {
        let Ok(sys) = py.import("sys") else { return };
        for name in ["stdout", "stderr"] {
            // Nobody is left to be told of an error.
            let _ = sys.getattr(name).and_then(|stream| stream.call_method0("flush"));
        }
    });
}

/// The main thread's state while it has let go of the GIL by [`release`].
static RELEASED: AtomicPtr<ffi::PyThreadState> = AtomicPtr::new(ptr::null_mut());
/// Whether [`before_fork`] took the GIL back for the fork.
static TAKEN_FOR_FORK: AtomicBool = AtomicBool::new(false);

/// Lets go of the GIL that [`start`] took, so that Python's other threads run. Does nothing if there is no interpreter.
pub fn release() {
    if is_running() && RELEASED.load(Ordering::Relaxed).is_null() {
        // SAFETY: the main thread has held the GIL since start().
        RELEASED.store(unsafe { ffi::PyEval_SaveThread() }, Ordering::Relaxed);
    }
}

/// Takes back the GIL that [`release`] let go of. For the same thread.
pub fn hold() {
    let state = RELEASED.swap(ptr::null_mut(), Ordering::Relaxed);
    if !state.is_null() {
        // SAFETY: the state is that of this thread, saved by release(), and used only once.
        unsafe { ffi::PyEval_RestoreThread(state) };
    }
}

/// Prepares the interpreter, if there is one, for a fork. For Python's main thread.
pub fn before_fork() {
    if is_running() {
        TAKEN_FOR_FORK.store(!RELEASED.load(Ordering::Relaxed).is_null(), Ordering::Relaxed);
        hold();
        // SAFETY: this thread holds the GIL.
        unsafe { ffi::PyOS_BeforeFork() };
    }
}

/// Ends what [`before_fork`] began, in the process that forked.
pub fn after_fork_in_parent() {
    if is_running() {
        // SAFETY: follows PyOS_BeforeFork, in the same thread.
        unsafe { ffi::PyOS_AfterFork_Parent() };
        if TAKEN_FOR_FORK.swap(false, Ordering::Relaxed) {
            release();
        }
    }
}

/// Makes the interpreter, if there is one, usable in the new process; this thread is its main thread and holds the GIL.
pub fn after_fork_in_child() {
    if is_running() {
        // SAFETY: follows PyOS_BeforeFork, in the copy of the same thread.
        unsafe { ffi::PyOS_AfterFork_Child() };
        TAKEN_FOR_FORK.store(false, Ordering::Relaxed);
    }
}

/// Runs `work`, which has nothing to do with Python, without the GIL.
///
/// [`Python::detach`] would not do in a coroutine: pyo3 counts the attachments of a thread, sets the count aside while it
/// is detached, and puts it back at the end; but what other coroutines of the thread attach and detach meanwhile counts
/// as well.
pub(crate) fn detached<R>(_py: Python<'_>, work: impl FnOnce() -> R) -> R {
    /// Takes the GIL back also where a panic passes.
    struct Saved(*mut ffi::PyThreadState);
    impl Drop for Saved {
        fn drop(&mut self) {
            // SAFETY: saved by this thread (or coroutine), which has let go of the GIL, and used only once.
            unsafe { ffi::PyEval_RestoreThread(self.0) };
        }
    }
    // SAFETY: attached; `work` doesn't use Python.
    let _saved = Saved(unsafe { ffi::PyEval_SaveThread() });
    work()
}

/// Has every thread's Python traceback written to `descriptor` when another process aborts this one, as the arbiter does
/// with a worker that hangs.
///
/// `faulthandler` writes them, which can do so whatever the process was doing. It does not do it for SIGABRT and return;
/// so it is asked by a signal of its own, from within the handler of SIGABRT.
///
/// # Errors
/// An exception of Python's `faulthandler`.
pub fn dump_on_abort(py: Python<'_>, descriptor: RawFd) -> PyResult<()> {
    dump_to(py, descriptor)?;
    // SAFETY: `dump` is async-signal-safe.
    unsafe { set_abort_action(dump) };
    Ok(())
}

/// Has [`dump`] write tracebacks to `descriptor`.
///
/// # Errors
/// An exception of Python's `faulthandler`.
pub(super) fn dump_to(py: Python<'_>, descriptor: RawFd) -> PyResult<()> {
    let arguments = PyDict::new(py);
    arguments.set_item("file", descriptor)?;
    arguments.set_item("all_threads", true)?;
    py.import("faulthandler")?.call_method("register", (dump_signal(),), Some(&arguments))?;
    DUMPS.store(true, Ordering::SeqCst);
    Ok(())
}

/// Whether anybody handles the signal by which [`dump`] asks.
static DUMPS: AtomicBool = AtomicBool::new(false);

fn dump_signal() -> libc::c_int {
    Report::Forced.signal()
}

/// Has faulthandler's handler run, now, in this thread. Async-signal-safe.
pub(super) fn dump() {
    if !DUMPS.load(Ordering::SeqCst) {
        return;
    }
    // SAFETY: all of these are async-signal-safe, and `mask` is initialised by sigemptyset.
    unsafe {
        let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(mask.as_mut_ptr());
        libc::sigaddset(mask.as_mut_ptr(), dump_signal());
        libc::pthread_sigmask(libc::SIG_UNBLOCK, mask.as_ptr(), ptr::null_mut());
        libc::raise(dump_signal());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::testing::{attached, get};

    #[test]
    fn the_linked_version_is_the_running_one() {
        attached(|py| {
            let info = py.version_info();
            assert_eq!(version(), (info.major, info.minor));
        });
    }

    #[test]
    fn signals_stay_the_servers_and_the_standard_library_is_there() {
        attached(|py| {
            let code = "import signal, threading, json, ssl, sqlite3\n\
                        r = signal.getsignal(signal.SIGINT) is signal.default_int_handler";
            assert!(get(py, code, "r").is_truthy().unwrap());
        });
    }

    #[test]
    fn starting_again_adds_to_the_search_path_once() {
        attached(|py| {
            let startup = Startup { path: vec!["/srv/app".into(), "/srv/lib".into()], ..Default::default() };
            set_up(py, &startup).unwrap();
            set_up(py, &startup).unwrap();
            let path: Vec<String> = py.import("sys").unwrap().getattr("path").unwrap().extract().unwrap();
            assert_eq!(path.iter().filter(|entry| *entry == "/srv/app").count(), 1);
            assert!(path.iter().position(|e| e == "/srv/lib") < path.iter().position(|e| e == "/srv/app"));
        });
    }
}
