//! `wsgi.errors`: a text stream into the error log, line by line, so that those of several workers don't mix.

use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::python::error_log;

/// How much of a line is kept until its end comes.
const LONGEST: usize = 64 * 1024;

/// The stream; all requests of a worker share it.
#[pyclass(frozen, module = "rgunicorn")]
#[derive(Debug, Default)]
pub(super) struct Errors {
    /// The beginning of a line whose end was not written yet.
    partial: Mutex<Vec<u8>>,
}

impl Errors {
    /// Takes text, and hands on the lines that are complete.
    fn add(&self, text: &[u8], emit: &mut dyn FnMut(&[u8])) {
        let mut partial = self.partial.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        partial.extend_from_slice(text);
        let mut rest = partial.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            emit(line);
            rest = behind.strip_prefix(b"\n").unwrap_or(behind);
        }
        let done = partial.len() - rest.len();
        partial.drain(..done);
        if partial.len() > LONGEST {
            emit(&partial);
            partial.clear();
        }
    }

    /// Hands on what there is of a line.
    fn end_line(&self, emit: &mut dyn FnMut(&[u8])) {
        let mut partial = self.partial.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !partial.is_empty() {
            emit(&partial);
            partial.clear();
        }
    }
}

#[pymethods]
impl Errors {
    /// Writes text; answers how many characters.
    fn write(&self, text: &Bound<'_, PyString>) -> PyResult<usize> {
        self.add(text.to_string_lossy().as_bytes(), &mut error_log::line);
        text.as_any().len()
    }

    fn writelines(&self, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            self.write(line?.cast::<PyString>()?)?;
        }
        Ok(())
    }

    fn flush(&self) {
        self.end_line(&mut error_log::line);
    }

    /// Does nothing: the log is the server's (PEP 3333: applications must not close it).
    fn close(&self) {}

    #[getter]
    fn closed(&self) -> bool {
        false
    }

    #[getter]
    fn encoding(&self) -> &'static str {
        "utf-8"
    }

    fn readable(&self) -> bool {
        false
    }

    fn writable(&self) -> bool {
        true
    }

    fn seekable(&self) -> bool {
        false
    }

    fn isatty(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&str]) -> (Vec<String>, Vec<String>) {
        let errors = Errors::default();
        let (mut whole, mut last) = (Vec::new(), Vec::new());
        for piece in pieces {
            errors.add(piece.as_bytes(), &mut |line| whole.push(String::from_utf8_lossy(line).into_owned()));
        }
        errors.end_line(&mut |line| last.push(String::from_utf8_lossy(line).into_owned()));
        (whole, last)
    }

    #[test]
    fn a_line_is_emitted_once_and_whole() {
        let (whole, last) = lines(&["one\ntw", "o", "\n\nfour"]);
        assert_eq!(whole, ["one", "two", ""]);
        assert_eq!(last, ["four"]);
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let long = "x".repeat(LONGEST + 1);
        let (whole, last) = lines(&[&long, "y"]);
        assert_eq!((whole.len(), whole[0].len()), (1, LONGEST + 1));
        assert_eq!(last, ["y"]);
    }
}
