//! Where all threads and coroutines of this process are, in Python code.

use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;

static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

fn module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    let code = c_str(include_str!("stacks.py"));
    let make =
        || PyModule::from_code(py, &code, c"rgunicorn/stacks.py", c"rgunicorn_stacks").map(Bound::unbind);
    MODULE.get_or_try_init(py, make).map(|module| module.bind(py))
}

fn c_str(text: &str) -> std::ffi::CString {
    std::ffi::CString::new(text).unwrap_or_default()
}

/// Writes the traceback of every thread and every coroutine that is in Python code to a file; those that are in the same
/// place are counted together.
///
/// # Errors
/// `OSError`, where it can't be written.
pub fn write(py: Python<'_>, descriptor: RawFd) -> PyResult<()> {
    module(py)?.call_method1("write", (descriptor,)).map(drop)
}

/// Where one of them is: the innermost place, and the traceback.
pub(super) fn place(py: Python<'_>, identity: usize) -> Option<(String, String)> {
    let found = module(py).and_then(|module| module.call_method1("place", (identity,)));
    found.and_then(|found| found.extract::<Option<(String, String)>>()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::python::testing::{attached, run};

    #[test]
    fn every_thread_is_in_it_and_those_in_the_same_place_are_counted_together() {
        let code = "import threading\n\
                    end, begun = threading.Event(), []\n\
                    def app(environ):\n    begun.append(1)\n    end.wait()\n\
                    for n in range(7):\n    environ = {'REQUEST_METHOD': 'GET', 'PATH_INFO': f'/{n}'}\n    \
                        threading.Thread(target=app, args=(environ,)).start()\n\
                    while len(end._cond._waiters) < 7: pass\n";
        let (mut reader, writer) = std::io::pipe().unwrap();
        attached(|py| {
            let names = run(py, code).unwrap();
            write(py, writer.as_raw_fd()).unwrap();
            names.get_item("end").unwrap().unwrap().call_method0("set").unwrap();
        });
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("7 in the same place: ") && text.contains("app\n"), "{text}");
        assert!(text.contains("this thread"), "{text}");
    }
}
