//! Python's view of the signals that are ours (`signals.py`).
//!
//! `signal.getsignal()` tells of handlers that can be called, and saved and put back, as gunicorn's can. What
//! `signal.signal()` sets is called, and comes after our own handler, which stays: so a library that takes SIGTERM for
//! itself, or passes it on to nobody, leaves a worker that can be stopped, and an arbiter that can be reloaded.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use pyo3::ffi;
use pyo3::prelude::*;
use rgunicorn_core::sync::lock;
use rgunicorn_core::sys::signals::{self, Blocked, Report};

use super::{failure, load};

/// Python's own `signal()`.
static REAL: OnceLock<Py<PyAny>> = OnceLock::new();
/// The handlers that stand for ours, by signal.
static HANDLERS: Mutex<Vec<(i32, Py<PyAny>)>> = Mutex::new(Vec::new());
/// The worker that has them.
static WORKER: AtomicU32 = AtomicU32::new(0);

/// To be called as soon as the interpreter runs: from now on handlers of Python's don't replace ours. What has been set
/// while it started (by `sitecustomize`) counts as little as it does with gunicorn.
///
/// # Errors
/// An exception of Python's own.
pub(super) fn begin(py: Python<'_>) -> PyResult<()> {
    let module = py.import("_signal")?;
    let own = module.getattr("signal")?.unbind();
    let real = REAL.get_or_init(|| own);
    let plain = helper(py)?.getattr("plain")?;
    for signal in signals::OURS {
        let number = signal as i32;
        // Where the system has a handler, Python doesn't know which.
        if module.call_method1("getsignal", (number,))?.is_none() {
            let handler = plain.call1((number,))?;
            keeping_handler(signal, || real.call1(py, (number, handler)).map(drop))?;
        }
    }
    module.setattr("signal", pyo3::wrap_pyfunction!(signal, py)?)?;
    Ok(signals::take_back_all(false)?)
}

/// The arbiter has its signals now. What has set handlers until then isn't told of them.
///
/// # Errors
/// An exception of Python's own.
pub(super) fn of_arbiter(py: Python<'_>) -> PyResult<()> {
    let make = helper(py)?.getattr("of_arbiter")?;
    let deliver = pyo3::wrap_pyfunction!(deliver, py)?;
    install(py, |number| make.call1((number, &deliver)))
}

/// A worker has its signals, before its application is imported; once. `tell(number, frame)` is called, by Python's main
/// thread between two of its instructions, for each of the signals `told` that comes.
///
/// # Errors
/// An exception of Python's own.
pub(super) fn of_worker(py: Python<'_>, tell: &Bound<'_, PyAny>, told: &[i32]) -> PyResult<()> {
    if WORKER.swap(std::process::id(), Ordering::Relaxed) == std::process::id() {
        return Ok(());
    }
    let make = helper(py)?.getattr("of_worker")?;
    let deliver = pyo3::wrap_pyfunction!(deliver, py)?;
    install(py, |number| make.call1((number, &deliver, tell)))?;
    // SAFETY: PyErr_SetInterruptEx is made for signal handlers.
    unsafe { signals::set_relay(told, interrupt) };
    Ok(())
}

/// Runs the handlers of signals that have come in, in Python's main thread.
pub(super) fn heed() {
    Python::attach(|py| {
        if let Err(error) = py.check_signals() {
            tracing::error!("Error in a handler of a signal\n{}", failure::report(py, &error));
        }
    });
}

/// Python's handlers are no more. CPython would give these signals their default effects while there is still something to
/// do; nor do they end a worker that minds them itself.
///
/// # Errors
/// An exception of Python's own.
pub(super) fn end(py: Python<'_>) -> PyResult<()> {
    lock(&HANDLERS).clear();
    let module = py.import("_signal")?;
    let set = module.getattr("signal")?;
    for signal in signals::OURS {
        set.call1((signal as i32, module.getattr("SIG_DFL")?))?;
        if !matches!(signal, Signal::SIGABRT | Signal::SIGCHLD) {
            signals::spare(signal)?;
        }
    }
    set.call1((Report::Polite.signal(), module.getattr("SIG_IGN")?)).map(drop)
}

fn helper(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    load::helper(py, include_str!("signals.py"), "rgunicorn_signals")
}

fn install<'py>(py: Python<'py>, make: impl Fn(i32) -> PyResult<Bound<'py, PyAny>>) -> PyResult<()> {
    if !signals::are_kept() {
        // They are somebody else's.
        return Ok(());
    }
    let numbers = signals::OURS.map(|signal| signal as i32);
    let made = numbers.into_iter().map(|number| Ok((number, make(number)?.unbind())));
    let made: Vec<_> = made.collect::<PyResult<_>>()?;
    let handlers: Vec<_> = made.iter().map(|(number, handler)| (*number, handler.clone_ref(py))).collect();
    *lock(&HANDLERS) = handlers;
    for (number, handler) in made {
        signal(py, number.into_pyobject(py)?.as_any(), handler.bind(py))?;
    }
    Ok(())
}

/// Set the action for the given signal.
///
/// The action can be SIG_DFL, SIG_IGN, or a callable Python object. The previous action is returned. A handler that the
/// server has for this signal is called first, and stays.
#[pyfunction]
#[pyo3(signature = (signalnum, handler, /))]
fn signal(py: Python<'_>, signalnum: &Bound<'_, PyAny>, handler: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let real = REAL.get().map_or_else(|| py.None(), |real| real.clone_ref(py));
    let number = match signalnum.extract::<i32>() {
        Ok(number) if signals::are_kept() => number,
        _ => return real.call1(py, (signalnum, handler)),
    };
    // One that comes meanwhile finds the handler that it should.
    let _blocked = Blocked::all()?;
    let before = real.call1(py, (number, handler))?;
    let is_ours = lock(&HANDLERS).iter().any(|(ours, stands)| *ours == number && stands.is(handler));
    signals::take_back(number, !is_ours)?;
    Ok(before)
}

/// Has this process heed a signal.
#[pyfunction]
fn deliver(number: i32) {
    if let Ok(signal) = Signal::try_from(number) {
        signals::deliver(signal);
    }
}

fn interrupt(number: libc::c_int) {
    // SAFETY: async-signal-safe, with or without the GIL.
    unsafe { ffi::PyErr_SetInterruptEx(number) };
}

/// Runs `work`, which may take the signal for itself, and puts the handler back that was there before.
fn keeping_handler<R>(signal: Signal, work: impl FnOnce() -> R) -> R {
    let ignored = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: nothing is called.
    let before = unsafe { sigaction(signal, &ignored) };
    let result = work();
    if let Ok(before) = before {
        // SAFETY: the handler was in place before.
        let _ = unsafe { sigaction(signal, &before) };
    }
    result
}
