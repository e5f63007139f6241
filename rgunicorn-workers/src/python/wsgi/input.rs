//! `wsgi.input`: the body of a request, as a binary file object that can only be read.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::{Mutex, MutexGuard};

use pyo3::exceptions::{PyBufferError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PySlice};
use rgunicorn_core::app::{Body, Request};
use rgunicorn_core::sync::lock;

use crate::python::interpreter::detached;

/// Reads a [`Body`], which may still be arriving. May be kept, read and dropped by any thread, also after the response.
#[pyclass(frozen, module = "rgunicorn")]
#[derive(Debug)]
pub(super) struct Input {
    reader: Mutex<Reader>,
}

#[derive(Debug)]
enum Reader {
    /// The request has no body, as most have none.
    Nothing,
    /// It is here in one piece, and nothing of it was read: whoever asks for all of it gets the very object.
    Whole(Py<PyBytes>),
    Idle(BufReader<Unhurried>),
    /// Somebody is reading, and may be waiting for the client.
    Busy,
}

/// A body that is read without waiting.
#[derive(Debug)]
struct Unhurried(Body);

impl Read for Unhurried {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Input {
    /// Reads a request's body, which it takes.
    pub(super) fn of(py: Python<'_>, request: &mut Request<'_>) -> Self {
        match request.take_body_in_place() {
            Some(bytes) => Input::whole(py, bytes),
            None => Input::new(request.take_body()),
        }
    }

    fn whole(py: Python<'_>, bytes: &[u8]) -> Self {
        Input { reader: Mutex::new(Reader::Whole(PyBytes::new(py, bytes).unbind())) }
    }

    fn new(body: Body) -> Self {
        let reader = match body.remaining() {
            Some(0) => Reader::Nothing,
            _ => Reader::Idle(reader(body)),
        };
        Input { reader: Mutex::new(reader) }
    }

    /// All of the body, if it is here in one piece and is asked for as a whole.
    fn take_whole<'py>(&self, py: Python<'py>, most: u64) -> Option<Bound<'py, PyBytes>> {
        let mut reader = self.reader();
        match &*reader {
            Reader::Whole(bytes) if bytes.as_bytes(py).len() as u64 <= most => {}
            _ => return None,
        }
        match std::mem::replace(&mut *reader, Reader::Nothing) {
            Reader::Whole(bytes) => Some(bytes.into_bound(py)),
            _ => None,
        }
    }

    /// Calls `work` with the reader, which nobody else has meanwhile. Not even its lock is held: it may have to wait.
    fn with<R>(
        &self,
        py: Python<'_>,
        nothing: impl FnOnce() -> R,
        work: impl FnOnce(&mut BufReader<Unhurried>) -> PyResult<R>,
    ) -> PyResult<R> {
        // Puts the reader back also where a panic passes.
        struct Taken<'a>(&'a Input, Option<BufReader<Unhurried>>);
        impl Drop for Taken<'_> {
            fn drop(&mut self) {
                if let Some(reader) = self.1.take() {
                    *self.0.reader() = Reader::Idle(reader);
                }
            }
        }
        let reader = {
            let mut state = self.reader();
            match std::mem::replace(&mut *state, Reader::Busy) {
                Reader::Idle(reader) => reader,
                Reader::Whole(bytes) => reader(Body::from(bytes.as_bytes(py).to_vec())),
                Reader::Nothing => {
                    *state = Reader::Nothing;
                    return Ok(nothing());
                }
                Reader::Busy => {
                    return Err(PyRuntimeError::new_err("another thread is reading from wsgi.input"));
                }
            }
        };
        let mut taken = Taken(self, Some(reader));
        match &mut taken.1 {
            Some(reader) => work(reader),
            None => Ok(nothing()),
        }
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        lock(&self.reader)
    }

    /// The next line of at most `limit` bytes, with its line feed; empty at the end.
    fn line(&self, py: Python<'_>, limit: u64) -> PyResult<Vec<u8>> {
        self.with(py, Vec::new, |reader| {
            let mut line = Vec::new();
            loop {
                let left = limit.saturating_sub(line.len() as u64);
                match reader.by_ref().take(left).read_until(b'\n', &mut line) {
                    Ok(_) => return Ok(line),
                    Err(error) => wait_or_fail(py, reader, error)?,
                }
            }
        })
    }
}

fn reader(body: Body) -> BufReader<Unhurried> {
    BufReader::new(Unhurried(body))
}

/// Waits for the client, without the GIL, if that is all that is the matter.
fn wait_or_fail(py: Python<'_>, reader: &BufReader<Unhurried>, error: io::Error) -> PyResult<()> {
    if error.kind() != io::ErrorKind::WouldBlock {
        return Err(error.into());
    }
    let body = &reader.get_ref().0;
    detached(py, || body.wait());
    Ok(())
}

/// Fills `bytes`, and says how much of it there was until the end of the body.
fn fill(py: Python<'_>, reader: &mut BufReader<Unhurried>, bytes: &mut [u8]) -> PyResult<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) => wait_or_fail(py, reader, error)?,
        }
    }
    Ok(filled)
}

/// Up to `most` bytes, of which it isn't known whether they will come: memory is taken as they do.
fn gather(py: Python<'_>, reader: &mut BufReader<Unhurried>, most: u64) -> PyResult<Vec<u8>> {
    const STEP: usize = 256 * 1024;
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        let step = usize::try_from(most - before as u64).unwrap_or(STEP).min(STEP);
        bytes.resize(before + step, 0);
        let filled = fill(py, reader, bytes.get_mut(before..).unwrap_or(&mut []))?;
        bytes.truncate(before + filled);
        if filled < step || step == 0 {
            return Ok(bytes);
        }
        // The body may be large and the client fast: others want to run as well.
        detached(py, || {});
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
        // Up to here, memory may be taken on trust.
        const LITTLE: u64 = 1024 * 1024;
        if let Some(whole) = self.take_whole(py, limit(size)) {
            return Ok(whole);
        }
        self.with(
            py,
            || PyBytes::new(py, b""),
            |reader| {
                let body = &reader.get_ref().0;
                let left = body.remaining().map(|left| left + reader.buffer().len() as u64);
                let most = left.unwrap_or(u64::MAX).min(limit(size));
                if !body.has_arrived() && (left.is_none() || most > LITTLE) {
                    return Ok(PyBytes::new(py, &gather(py, reader, most)?));
                }
                let count = usize::try_from(most).unwrap_or(usize::MAX);
                PyBytes::new_with(py, count, |bytes| match fill(py, reader, bytes)? == count {
                    true => Ok(()),
                    false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                })
            },
        )
    }

    /// Reads what is there; waits only if nothing is.
    #[pyo3(signature = (size=None, /))]
    fn read1<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        let most = usize::try_from(limit(size)).unwrap_or(usize::MAX);
        self.with(
            py,
            || PyBytes::new(py, b""),
            |reader| loop {
                match reader.fill_buf() {
                    Ok(here) => {
                        let count = here.len().min(most);
                        let bytes = PyBytes::new(py, here.get(..count).unwrap_or(here));
                        reader.consume(count);
                        return Ok(bytes);
                    }
                    Err(error) => wait_or_fail(py, reader, error)?,
                }
            },
        )
    }

    /// Reads into a buffer such as a `bytearray`; answers how many bytes. Less than there is room for is no sign of the end.
    fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let view = PyMemoryView::from(buffer)?.call_method1("cast", ("B",))?;
        if view.getattr("readonly")?.is_truthy()? {
            return Err(PyBufferError::new_err("readinto() needs a buffer that can be written"));
        }
        let bytes = self.read1(py, Some(i64::try_from(view.len()?).unwrap_or(i64::MAX)))?;
        let count = bytes.as_bytes().len();
        view.set_item(PySlice::new(py, 0, count as isize, 1), bytes)?;
        Ok(count)
    }

    #[pyo3(signature = (size=None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.line(py, limit(size))?))
    }

    /// The lines that are left; of those only as many as it takes to have `hint` bytes, if it says so.
    #[pyo3(signature = (hint=None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<i64>) -> PyResult<Bound<'py, PyList>> {
        let enough = limit(hint.filter(|hint| *hint > 0));
        let lines = PyList::empty(py);
        let mut total = 0;
        while total < enough {
            let line = self.line(py, u64::MAX)?;
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
        let line = self.line(py, u64::MAX)?;
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
    fn with_input<'py>(py: Python<'py>, input: Input, code: &str) -> Bound<'py, PyDict> {
        let input = Bound::new(py, input).unwrap();
        let space = run(py, &format!("def go(input):\n{}\n    return locals()", indented(code))).unwrap();
        space.get_item("go").unwrap().unwrap().call1((input,)).unwrap().cast_into().unwrap()
    }

    fn indented(code: &str) -> String {
        code.lines().map(|line| format!("    {line}\n")).collect()
    }

    /// The same whether the body was read in one piece with the head or not.
    fn check(body: &[u8], code: &str) {
        attached(|py| {
            drop(with_input(py, Input::new(Body::from(body.to_vec())), code));
            drop(with_input(py, Input::whole(py, body), code));
        });
    }

    #[test]
    fn a_body_asked_for_as_a_whole_is_read_once() {
        attached(|py| {
            let input = Bound::new(py, Input::whole(py, b"all of it")).unwrap();
            let read = |size: Option<i64>| input.get().read(py, size).unwrap();
            assert_eq!(read(Some(9)).as_bytes(), b"all of it");
            assert_eq!(read(None).as_bytes(), b"");
        });
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
