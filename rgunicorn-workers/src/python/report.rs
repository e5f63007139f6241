//! What this process's Python code is doing, told when the arbiter asks (`report.py`).

use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::types::PyModule;
use rgunicorn_core::sys::signals::Report;

use super::load::helper;

fn module(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    helper(py, include_str!("report.py"), "rgunicorn_report")
}

/// Has Python write its tracebacks to `descriptor` when it is asked for them. For Python's main thread.
///
/// # Errors
/// An exception of Python's.
pub(crate) fn install(py: Python<'_>, descriptor: RawFd) -> PyResult<()> {
    module(py)?.getattr("install")?.call1((Report::Polite.signal(), descriptor))?;
    Ok(())
}

/// Tells where single threads are, and coroutines, which pass for some.
#[derive(Debug)]
pub(crate) struct Places {
    place: Py<PyAny>,
}

impl Places {
    /// What is needed for it, which is made once.
    ///
    /// # Errors
    /// An exception of Python's.
    pub(crate) fn new(py: Python<'_>) -> PyResult<Self> {
        Ok(Places { place: module(py)?.getattr("place")?.unbind() })
    }

    /// The innermost place of one of them, and its traceback; nothing if it runs no Python code.
    pub(crate) fn of(&self, py: Python<'_>, identity: usize) -> Option<(String, String)> {
        let found = self.place.call1(py, (identity,));
        found.and_then(|found| found.extract::<Option<(String, String)>>(py)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::testing::{attached, run};

    #[test]
    fn every_thread_is_in_it_and_those_in_the_same_place_are_told_together() {
        let code = "import threading\n\
                    end, begun = threading.Event(), []\n\
                    def app(environ):\n    begun.append(1)\n    end.wait()\n\
                    for n in range(7):\n    environ = {'REQUEST_METHOD': 'GET', 'PATH_INFO': f'/{n}'}\n    \
                        threading.Thread(target=app, args=(environ,)).start()\n\
                    while len(end._cond._waiters) < 7: pass\n";
        attached(|py| {
            let names = run(py, code).unwrap();
            let report = module(py).unwrap().getattr("report").unwrap();
            let text: String = report.call1((py.None(),)).unwrap().extract().unwrap();
            names.get_item("end").unwrap().unwrap().call_method0("set").unwrap();
            assert!(text.starts_with("7 in the same place: ") && text.contains(", in app\n"), "{text}");
            assert!(text.contains(" and 2 more (most recent call last):\n"), "{text}");
        });
    }
}
