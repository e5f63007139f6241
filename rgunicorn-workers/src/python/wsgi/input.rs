//! `wsgi.input`: the body of a request, as a binary file object that can only be read.

use std::io::{BufRead, BufReader, Read};
use std::sync::Mutex;

use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PySlice};
use rgunicorn_core::app::Body;

/// Reads a [`Body`]. May be kept, read and dropped by any thread, also after the response.
#[pyclass(frozen, module = "rgunicorn")]
#[derive(Debug)]
pub(super) struct Input {
    /// None where the request has no body, as most have none.
    reader: Mutex<Option<BufReader<Body>>>,
}

impl Input {
    pub(super) fn new(body: Body) -> Self {
        let reader = (body.remaining() > 0).then(|| BufReader::new(body));
        Input { reader: Mutex::new(reader) }
    }

    /// Calls `work` with the reader and the number of bytes that are left. No Python code runs meanwhile.
    fn with<R>(
        &self,
        nothing: impl FnOnce() -> R,
        work: impl FnOnce(&mut BufReader<Body>, u64) -> PyResult<R>,
    ) -> PyResult<R> {
        let mut reader = self.reader.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(reader) = reader.as_mut() else {
            return Ok(nothing());
        };
        let left = reader.buffer().len() as u64 + reader.get_ref().remaining();
        work(reader, left)
    }

    /// The next line of at most `limit` bytes, with its line feed; empty at the end.
    fn line(&self, limit: u64) -> PyResult<Vec<u8>> {
        self.with(Vec::new, |reader, _| {
            let mut line = Vec::new();
            reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
            Ok(line)
        })
    }
}

/// What a size argument asks for: nothing, and less than nothing, is all.
fn limit(size: Option<i64>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(u64::MAX)
}

#[pymethods]
impl Input {
    #[pyo3(signature = (size=None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        self.with(
            || PyBytes::new(py, b""),
            |reader, left| {
                let count = usize::try_from(left.min(limit(size))).unwrap_or(usize::MAX);
                PyBytes::new_with(py, count, |bytes| Ok(reader.read_exact(bytes)?))
            },
        )
    }

    #[pyo3(signature = (size=None, /))]
    fn read1<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        const STEP: i64 = 8192;
        self.read(py, Some(size.filter(|size| (0..STEP).contains(size)).unwrap_or(STEP)))
    }

    /// Reads into a buffer such as a `bytearray`; answers how many bytes.
    fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let view = PyMemoryView::from(buffer)?.call_method1("cast", ("B",))?;
        if view.getattr("readonly")?.is_truthy()? {
            return Err(PyBufferError::new_err("readinto() needs a buffer that can be written"));
        }
        let bytes = self.read(py, Some(i64::try_from(view.len()?).unwrap_or(i64::MAX)))?;
        let count = bytes.as_bytes().len();
        view.set_item(PySlice::new(py, 0, count as isize, 1), bytes)?;
        Ok(count)
    }

    #[pyo3(signature = (size=None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.line(limit(size))?))
    }

    /// The lines that are left; of those only as many as it takes to have `hint` bytes, if it says so.
    #[pyo3(signature = (hint=None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<i64>) -> PyResult<Bound<'py, PyList>> {
        let enough = limit(hint.filter(|hint| *hint > 0));
        let lines = PyList::empty(py);
        let mut total = 0;
        while total < enough {
            let line = self.line(u64::MAX)?;
            if line.is_empty() {
                break;
            }
            total += line.len() as u64;
            lines.append(PyBytes::new(py, &line))?;
        }
        Ok(lines)
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.line(u64::MAX)?;
        Ok((!line.is_empty()).then(|| PyBytes::new(py, &line)))
    }

    fn readable(&self) -> bool {
        true
    }

    fn writable(&self) -> bool {
        false
    }

    fn seekable(&self) -> bool {
        false
    }

    fn isatty(&self) -> bool {
        false
    }

    fn flush(&self) {}

    /// Does nothing: the body is the server's (PEP 3333: applications must not close it).
    fn close(&self) {}

    #[getter]
    fn closed(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use pyo3::types::PyDict;

    use super::*;
    use crate::python::testing::{attached, run};

    /// Executes `code` with `input`, and returns its name space.
    fn with_input<'py>(py: Python<'py>, body: &[u8], code: &str) -> Bound<'py, PyDict> {
        let input = Bound::new(py, Input::new(Body::from(body.to_vec()))).unwrap();
        let space = run(py, &format!("def go(input):\n{}\n    return locals()", indented(code))).unwrap();
        space.get_item("go").unwrap().unwrap().call1((input,)).unwrap().cast_into().unwrap()
    }

    fn indented(code: &str) -> String {
        code.lines().map(|line| format!("    {line}\n")).collect()
    }

    fn check(body: &[u8], code: &str) {
        attached(|py| drop(with_input(py, body, code)));
    }

    #[test]
    fn reads_by_size_to_the_end_and_no_further() {
        check(
            b"hello world",
            "assert input.read(0) == b''\nassert input.read(5) == b'hello'\nassert input.read(None) == b' world'\n\
             assert input.read() == b'' == input.read(5) == input.readline()",
        );
        check(b"hello", "assert input.read(-1) == b'hello'\nassert input.read(-7) == b''");
        check(b"hello", "assert input.read(1 << 40) == b'hello'");
        check(b"", "assert input.read() == input.readline() == b''\nassert list(input) == []");
    }

    #[test]
    fn reads_lines_with_and_without_limits() {
        let body = b"one\ntwo\n\nfour";
        check(body, "assert list(input) == [b'one\\n', b'two\\n', b'\\n', b'four']");
        check(
            body,
            "assert input.readline(2) == b'on'\nassert input.readline(2) == b'e\\n'\nassert input.readline(-1) == b'two\\n'\nassert input.read() == b'\\nfour'",
        );
        check(body, "assert input.readlines() == [b'one\\n', b'two\\n', b'\\n', b'four']");
        check(
            body,
            "assert input.readlines(5) == [b'one\\n', b'two\\n']\nassert input.readlines(0) == [b'\\n', b'four']",
        );
        check(body, "assert input.read(1) == b'o'\nassert next(input) == b'ne\\n'");
    }

    #[test]
    fn lines_longer_than_the_buffer_are_whole() {
        let mut body = vec![b'x'; 20_000];
        body.push(b'\n');
        check(&body, "assert len(input.readline()) == 20001");
        check(
            &body,
            "assert len(input.readline(10000)) == 10000\nassert len(input.read(9999)) == 9999\nassert input.read() == b'x\\n'",
        );
    }

    #[test]
    fn serves_as_a_raw_file_for_the_io_module() {
        check(
            "zw\u{f6}lf\nk\u{e4}mpfer".as_bytes(),
            "import io\ntext = io.TextIOWrapper(io.BufferedReader(input), 'utf-8')\n\
             assert text.readlines() == ['zw\u{f6}lf\\n', 'k\u{e4}mpfer']",
        );
        check(
            b"abc",
            "b = bytearray(2)\nassert input.readinto(b) == 2 and b == b'ab'\nassert input.readinto(b) == 1 and b == b'cb'",
        );
        check(b"abc", "try:\n    input.readinto(b'xx')\n    assert False\nexcept BufferError:\n    pass");
    }

    #[test]
    fn a_size_that_is_no_number_is_a_type_error() {
        check(b"abc", "try:\n    input.read('3')\n    assert False\nexcept TypeError:\n    pass");
    }

    #[test]
    fn may_outlive_its_request_in_another_thread() {
        let input = attached(|py| Py::new(py, Input::new(Body::from(b"late".to_vec()))).unwrap());
        std::thread::spawn(move || {
            attached(|py| {
                assert_eq!(
                    input.bind(py).call_method0("read").unwrap().extract::<Vec<u8>>().unwrap(),
                    b"late"
                )
            });
            drop(input);
        })
        .join()
        .unwrap();
    }
}
