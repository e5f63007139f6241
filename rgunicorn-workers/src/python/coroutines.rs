//! CPython in coroutines: each has a thread state of its own, as each thread would.
//!
//! With it go frames, exceptions, context variables, `threading.local` and the limit of recursion, by public functions
//! alone. Three things need more than that:
//!
//! - **`PyGILState`**: CPython keeps the current thread's state under a key of the C library's, from 3.15 on in a variable of
//!   the thread's, for callbacks from code that knows nothing of Python. It is found at start, and set with each switch.
//! - **Threads' own values**: what a request leaves in a `threading.local` must not be there for the next. Where one was
//!   used, which shows in the thread state, the coroutine gets a new state after the request.
//! - **pyo3's count**: pyo3 counts how often a thread is attached, sets the count aside while it is detached, which it is
//!   now and then of its own accord, and puts it back. The count is found at start by its counting, and each coroutine has
//!   its own.

mod limits;

use std::cell::Cell;
use std::ffi::{CStr, c_uint, c_void};
use std::ops::Range;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use pyo3::ffi::{self, PyThreadState};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rgunicorn_core::app::AppError;
use rgunicorn_core::worker::BootError;

use super::ending::stay_if_ending;
use super::environment::PythonVersion;
use super::report::Places;
use super::wsgi::{self, forks, threads};
use super::{failure, interpreter};
use crate::coro::{
    Runtime, State, Word, forget_those_made_from, library_code, note_momentary, of_the_one_with,
};

/// The versions that this was proven on.
const PROVEN: std::ops::RangeInclusive<(u8, u8)> = (3, 11)..=(3, 15);
/// How much of a thread state is looked at for what a `threading.local` leaves in it, in words: all that the smallest has.
const STATE_WORDS: usize = 36;

/// CPython, for the worker class `coro`.
#[derive(Debug, Default)]
pub struct Coroutines {
    /// The main thread's state, while it has let go of the GIL.
    main: AtomicPtr<PyThreadState>,
    interpreter: AtomicPtr<ffi::PyInterpreterState>,
    /// The key of `PyGILState`.
    key: AtomicU32,
    /// The variable of the worker's thread that there is instead of the key; null where there is a key.
    variable: AtomicPtr<*mut PyThreadState>,
    /// The variables of the worker's thread that say which state has the GIL there, from 3.12 on.
    claims: OnceLock<Vec<Claim>>,
    /// `PyThreadState_GetUnchecked`, by whichever name this version has it.
    unchecked: AtomicPtr<c_void>,
    /// The words of a thread state that say that a `threading.local` was used: one bit each; all if it can't be told.
    marks: AtomicUsize,
    /// Where the code of libpython lies.
    code: OnceLock<Range<usize>>,
    places: OnceLock<Places>,
}

impl Coroutines {
    /// The thread state that runs now; null while the GIL is let go of.
    #[inline]
    fn running(&self) -> *mut PyThreadState {
        let function = self.unchecked.load(Ordering::Relaxed);
        if function.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: start() found the function by its name; it may be called at any time.
        unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> *mut PyThreadState>(function)() }
    }

    fn new_state(&self) -> *mut PyThreadState {
        // SAFETY: the interpreter lives as long as the process.
        unsafe { ffi::PyThreadState_New(self.interpreter.load(Ordering::Relaxed)) }
    }

    /// Whether a `threading.local` was used with this state.
    fn is_marked(&self, state: *mut PyThreadState) -> bool {
        let mut marks = self.marks.load(Ordering::Relaxed);
        while marks != 0 {
            let word = marks.trailing_zeros() as usize;
            // SAFETY: within the smallest thread state there is.
            if unsafe { *state.cast::<usize>().add(word) } != 0 {
                return true;
            }
            marks &= marks - 1;
        }
        false
    }

    /// Finds what a `threading.local` changes in a thread state. With the GIL.
    fn find_marks(&self, py: Python<'_>) -> PyResult<usize> {
        let local = py.import("threading")?.getattr("local")?.call0()?;
        let state = self.new_state();
        if state.is_null() {
            return Err(PyErr::new::<pyo3::exceptions::PyMemoryError, _>("no memory for a thread state"));
        }
        // SAFETY: a new state takes the place of the current one, for this thread, and gives it back; its words are there
        // to be read, whatever they mean.
        unsafe {
            let words = || -> [usize; STATE_WORDS] { ptr::read(state.cast()) };
            let current = ffi::PyThreadState_Swap(state);
            let before = words();
            let set = local.setattr("used", true);
            let after = words();
            ffi::PyThreadState_Clear(state);
            ffi::PyThreadState_Swap(current);
            ffi::PyThreadState_Delete(state);
            set?;
            let changed = |at: &usize| before[*at] == 0 && after[*at] > 4096 && after[*at].is_multiple_of(8);
            Ok((0..STATE_WORDS).filter(changed).fold(0, |marks, at| marks | 1 << at))
        }
    }

    /// Makes all that is otherwise made when it is first needed. Whoever makes it holds a lock meanwhile and lets go of the GIL
    /// (pyo3's `PyOnceLock`); a coroutine that wants it, too, would park the thread that both run on.
    fn prepare(&self, py: Python<'_>) -> PyResult<()> {
        forks::mend_main_thread(py)?;
        wsgi::prepare(py)?;
        // It can't be there yet.
        let _ = self.places.set(Places::new(py)?);
        Ok(())
    }

    fn try_start(&self, py: Python<'_>) -> Result<(), String> {
        let names: [&CStr; 2] = [c"PyThreadState_GetUnchecked", c"_PyThreadState_UncheckedGet"];
        // SAFETY: the names are NUL-terminated.
        let found = names.map(|name| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) });
        let function = found.into_iter().find(|function| !function.is_null());
        let function = function.ok_or("this CPython has no PyThreadState_GetUnchecked")?;
        // SAFETY: attached.
        let (current, interpreter) = unsafe { (ffi::PyThreadState_Get(), ffi::PyInterpreterState_Get()) };
        // SAFETY: reading a key that isn't in use answers null.
        let holds = |key: &c_uint| unsafe { libc::pthread_getspecific(*key) } == current.cast();
        match (0..1024).find(holds) {
            Some(key) => self.key.store(key, Ordering::Relaxed),
            None => {
                let variable = find_variable(function as usize, current);
                let variable = variable.ok_or("where CPython's PyGILState is kept could not be found")?;
                self.variable.store(variable, Ordering::Relaxed);
            }
        }
        self.interpreter.store(interpreter, Ordering::Relaxed);
        if let Some(code) = library_code(function as usize) {
            let _ = self.code.set(code);
        }
        let claims = find_claims(function as usize);
        if claims.is_empty() && interpreter::version() >= (3, 12) {
            return Err("where CPython keeps the state that runs in a thread could not be found".to_string());
        }
        let _ = self.claims.set(claims);
        // SAFETY: attached, and Python isn't used in between.
        note_momentary(|| unsafe { ffi::PyEval_RestoreThread(ffi::PyEval_SaveThread()) });
        let marks = self.find_marks(py).map_err(|error| failure::report(py, &error))?;
        self.set_key(current);
        // Without any, each request gets a new state.
        self.marks.store(marks, Ordering::Relaxed);
        self.unchecked.store(function, Ordering::Relaxed);
        Ok(())
    }

    /// In the worker's thread.
    fn set_key(&self, state: *mut PyThreadState) {
        let variable = self.variable.load(Ordering::Relaxed);
        // SAFETY: the key or the variable is in use, by CPython, for just this; the variable is this thread's.
        unsafe {
            if variable.is_null() {
                libc::pthread_setspecific(self.key.load(Ordering::Relaxed), state.cast());
            } else {
                *variable = state;
            }
        }
    }
}

fn check_version(version: PythonVersion) -> Result<(), String> {
    if PROVEN.contains(&version) {
        return Ok(());
    }
    let ((major, minor), (first, last)) = (version, (PROVEN.start(), PROVEN.end()));
    Err(format!(
        "it is proven on CPython {}.{} to {}.{}, and this is {major}.{minor}",
        first.0, first.1, last.0, last.1
    ))
}

/// Finds the variable of this thread's that keeps the state whether or not it has the GIL, where libpython is the library with
/// this address in it. With the GIL.
fn find_variable(address: usize, current: *mut PyThreadState) -> Option<*mut *mut PyThreadState> {
    let variables = of_the_one_with(address)?;
    // SAFETY: attached; in between the variables, which are there to be read, are all that is touched.
    let words = unsafe {
        let saved = ffi::PyEval_SaveThread();
        let words = (*variables).to_vec();
        ffi::PyEval_RestoreThread(saved);
        words
    };
    let mut found = (0..words.len()).filter(|at| words[*at] == current as usize);
    let (at, None) = (found.next()?, found.next()) else { return None };
    // SAFETY: within the variables.
    Some(unsafe { variables.cast::<*mut PyThreadState>().add(at) })
}

/// A variable of the worker's thread that differs with the GIL and without.
#[derive(Debug)]
struct Claim {
    variable: AtomicPtr<usize>,
    without: usize,
    /// What it was when it was set aside.
    with: AtomicUsize,
}

/// Finds the variables of this thread's that change when it lets go of the GIL, and again when it takes it back, where libpython
/// is the library with this address in it. With the GIL.
fn find_claims(address: usize) -> Vec<Claim> {
    let Some(variables) = of_the_one_with(address) else { return Vec::new() };
    // SAFETY: the variables are there to be read, whatever they mean.
    let words = || unsafe { (*variables).to_vec() };
    let with = words();
    // SAFETY: attached; in between the variables are all that is touched.
    let without = unsafe {
        let saved = ffi::PyEval_SaveThread();
        let without = words();
        ffi::PyEval_RestoreThread(saved);
        without
    };
    let again = words();
    let claim = |at: usize| Claim {
        // SAFETY: within the variables.
        variable: AtomicPtr::new(unsafe { variables.cast::<usize>().add(at) }),
        without: without[at],
        with: AtomicUsize::new(0),
    };
    (0..with.len()).filter(|at| with[*at] == again[*at] && with[*at] != without[*at]).map(claim).collect()
}

/// Finds pyo3's count of this thread's attachments among the executable's variables: what counts along.
fn find_count() -> Option<*mut usize> {
    fn look(deeper: usize, seen: &mut Vec<Vec<usize>>) {
        // SAFETY: the variables are there to be read, whatever they mean.
        seen.extend(
            of_the_one_with(look as *const () as usize).map(|variables| unsafe { (*variables).to_vec() }),
        );
        if deeper > 0 {
            Python::attach(|_| look(deeper - 1, seen));
        }
    }
    let variables = of_the_one_with(find_count as *const () as usize)?;
    let mut seen = Vec::new();
    Python::attach(|_| look(3, &mut seen));
    look(0, &mut seen);
    let [first, .., last] = &seen[..] else { return None };
    let counts = |at: &usize| {
        let counted = seen[..4].iter().enumerate().all(|(n, words)| words[*at] == first[*at] + n);
        counted && last[*at] == first[*at] - 1
    };
    let mut found = (0..first.len()).filter(|at| first[*at] > 0).filter(counts);
    let (at, None) = (found.next()?, found.next()) else { return None };
    // SAFETY: within the variables.
    Some(unsafe { variables.cast::<usize>().add(at) })
}

/// Marks a state that has not run yet: CPython (from 3.12 on) claims the key for it when it does, and insists that nobody
/// else has.
const FRESH: State = 1;

fn pointer(state: State) -> *mut PyThreadState {
    ptr::with_exposed_provenance_mut(state & !FRESH)
}

/// Has whoever traces or profiles threads see the coroutine that runs, which has Python's lock.
fn trace() {
    // SAFETY: the caller's state is current.
    let py = unsafe { Python::assume_attached() };
    if let Err(error) = threads::trace(py) {
        tracing::warn!("Cannot begin a coroutine as Python begins a thread\n{}", failure::report(py, &error));
    }
}

impl Runtime for Coroutines {
    fn check(&self) -> Result<(), String> {
        check_version(interpreter::version())?;
        if cfg!(Py_GIL_DISABLED) {
            return Err("it needs a CPython with a GIL, which this free-threaded build has not".to_string());
        }
        Ok(())
    }

    fn start(&self) -> Result<(), BootError> {
        Python::attach(|py| {
            self.prepare(py).map_err(|error| failure::report(py, &error))?;
            self.try_start(py)
        })
        .map_err(|why| BootError::Boot(format!("coroutines can't be had with this CPython: {why}")))
    }

    fn tell_of_signals(&self, descriptor: RawFd) -> Result<(), BootError> {
        Python::attach(|py| {
            let set = py.import("_signal")?.getattr("set_wakeup_fd")?;
            let options = PyDict::new(py);
            options.set_item("warn_on_full_buffer", false)?;
            let before = set.call((descriptor,), Some(&options))?;
            // The application's own goes first: it does without being told at once.
            if before.extract::<RawFd>()? != -1 {
                set.call1((before,))?;
            }
            Ok(())
        })
        .map_err(|error: PyErr| BootError::Boot(error.to_string()))
    }

    fn word(&self) -> Option<Word> {
        // Where it isn't found pyo3 is in a library, whose variables each coroutine has its own of anyway.
        let address = find_count()?;
        // A coroutine runs Python only while it is attached, as it begins.
        Some(Word { address, first: 1 })
    }

    fn release(&self) {
        // SAFETY: this is the main thread, which holds the GIL.
        self.main.store(unsafe { ffi::PyEval_SaveThread() }, Ordering::Relaxed);
    }

    fn hold(&self) {
        let main = self.main.swap(ptr::null_mut(), Ordering::Relaxed);
        self.set_key(main);
        // SAFETY: the state is this thread's, saved by release().
        unsafe { ffi::PyEval_RestoreThread(main) };
        // Coroutines may have gone on meanwhile.
        self.set_key(main);
    }

    fn heed(&self) -> Result<(), AppError> {
        // SAFETY: the caller has it. Outside of all coroutines this thread's count of attachments is the worker's own.
        let py = unsafe { Python::assume_attached() };
        py.check_signals().map_err(|error| failure::app_error(py, &error))
    }

    fn begin(&self, becomes: &dyn Fn(State)) -> Result<(), BootError> {
        // From CPython 3.12 on a state claims the key when it first runs, and would take it from another's, which would claim
        // it again in its turn.
        becomes(FRESH);
        let state = self.new_state();
        if state.is_null() {
            return Err(BootError::Boot("no memory for a thread state".to_string()));
        }
        becomes(state.expose_provenance() | FRESH);
        // SAFETY: a new state, which no other thread or coroutine uses.
        unsafe { ffi::PyEval_RestoreThread(state) };
        becomes(state.expose_provenance());
        trace();
        Ok(())
    }

    fn enter(&self, state: State) {
        // SAFETY: the state is this coroutine's, which has let go of the GIL.
        unsafe { ffi::PyEval_RestoreThread(pointer(state)) };
    }

    fn leave(&self, _state: State) {
        // SAFETY: this coroutine holds the GIL.
        unsafe { ffi::PyEval_SaveThread() };
    }

    #[inline]
    fn switched_to(&self, state: State) {
        if state & FRESH != 0 {
            self.set_key(ptr::null_mut());
        } else if state != 0 {
            self.set_key(pointer(state));
        }
    }

    #[inline]
    fn may_wait(&self, state: State) -> bool {
        // Up to CPython 3.11 the running state is that of the thread that has the GIL, whichever it is.
        let mine = pointer(state);
        mine.is_null() || self.running() != mine
    }

    fn set_aside(&self) {
        for claim in self.claims.get().into_iter().flatten() {
            let variable = claim.variable.load(Ordering::Relaxed);
            // SAFETY: it is this thread's, and CPython looks at it only when it takes the GIL or has it, which this coroutine has.
            claim.with.store(unsafe { variable.replace(claim.without) }, Ordering::Relaxed);
        }
    }

    fn take_up(&self) {
        for claim in self.claims.get().into_iter().flatten() {
            let variable = claim.variable.load(Ordering::Relaxed);
            // SAFETY: as above; nobody else has had the GIL.
            unsafe { variable.write(claim.with.load(Ordering::Relaxed)) };
        }
    }

    fn has_lock(&self) -> bool {
        true
    }

    fn ask(&self, hold: &mut dyn FnMut()) {
        thread_local!(static MINE: Cell<*mut PyThreadState> = const { Cell::new(ptr::null_mut()) });
        if MINE.get().is_null() {
            MINE.set(self.new_state());
        }
        if !MINE.get().is_null() {
            // SAFETY: the state is this thread's own, and no other's.
            unsafe {
                ffi::PyEval_RestoreThread(MINE.get());
                // Up to CPython 3.11 the state doesn't claim the key itself. A variable is another in this thread.
                if self.variable.load(Ordering::Relaxed).is_null() {
                    self.set_key(MINE.get());
                }
                hold();
                ffi::PyEval_SaveThread();
            }
        }
    }

    fn prepare_limits(&self) -> Result<(), BootError> {
        Python::attach(limits::prepare).map_err(|error| BootError::Boot(error.to_string()))
    }

    fn interrupt(&self, identity: usize) {
        // SAFETY: the caller has it.
        limits::raise_in(unsafe { Python::assume_attached() }, identity);
    }

    fn may_interrupt(&self, identity: usize, waits: bool) -> bool {
        // SAFETY: the caller has it.
        !limits::minds_locks(unsafe { Python::assume_attached() }, identity, waits)
    }

    fn signal(&self) {
        limits::signal();
    }

    fn interrupt_here(&self, state: State, identity: usize) {
        self.enter(state);
        // SAFETY: just taken.
        limits::raise_in(unsafe { Python::assume_attached() }, identity);
        self.leave(state);
    }

    fn spare(&self, identity: usize) {
        limits::spare(identity);
    }

    fn place(&self, identity: usize) -> Option<(String, String)> {
        stay_if_ending();
        // In any thread, also one whose own state was made by ask().
        Python::attach(|py| self.places.get()?.of(py, identity))
    }

    fn renew(&self, state: State, becomes: &dyn Fn(State)) {
        let old = pointer(state);
        if self.marks.load(Ordering::Relaxed) != 0 && !self.is_marked(old) {
            return;
        }
        // Made first: where there is no memory for it, the old one must do.
        let new = self.new_state();
        if new.is_null() {
            return;
        }
        // SAFETY: the state is current, and this coroutine's alone. Once it isn't current any more, what its values do when they
        // go runs in the new one, and may wait.
        unsafe {
            becomes(new.expose_provenance() | FRESH);
            ffi::PyThreadState_Swap(new);
            becomes(new.expose_provenance());
            ffi::PyThreadState_Clear(old);
            // What extensions keep for a thread by CPython's own means (`Py_tss_t`) may be of what a `threading.local` had.
            self.code.get().inspect(|code| forget_those_made_from(code));
            // It gives the key up, if it still has a claim to it.
            self.set_key(old);
            ffi::PyThreadState_Delete(old);
            self.set_key(new);
        }
        trace();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_it_was_not_proven_on_are_refused_with_the_reason() {
        assert_eq!(check_version((3, 11)), Ok(()));
        assert_eq!(check_version((3, 15)), Ok(()));
        for version in [(3, 10), (3, 16)] {
            let why = check_version(version).unwrap_err();
            assert!(why.contains("3.11 to 3.15") && why.contains(&format!("3.{}", version.1)), "{why}");
        }
    }
}
