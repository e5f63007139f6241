//! `wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling"): by returning one, an application says that
//! the rest of a file is its answer.

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use super::interned::intern;
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;

/// An iterable over the blocks of a file-like object; where that is a plain file, the kernel sends it.
#[pyclass(frozen, subclass, module = "rgunicorn")]
#[derive(Debug)]
pub(super) struct FileWrapper {
    #[pyo3(get)]
    filelike: Py<PyAny>,
    #[pyo3(get)]
    blksize: i64,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize=8192))]
    fn new(filelike: Py<PyAny>, blksize: i64) -> Self {
        FileWrapper { filelike, blksize }
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let block = self.filelike.bind(py).call_method1(intern!(py, "read"), (self.blksize,))?;
        Ok(if block.is_truthy()? { Some(block) } else { None })
    }

    /// Has a `close` where the file-like object has one, and no other attribute.
    fn __getattr__(&self, py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
        match name {
            "close" => self.filelike.getattr(py, intern!(py, "close")),
            _ => Err(PyAttributeError::new_err(format!("'FileWrapper' object has no attribute {name:?}"))),
        }
    }
}

/// A file that the kernel can send, from where it stands to its end.
#[derive(Debug)]
pub(super) struct PlainFile {
    /// A descriptor of our own: the application may close its own any time.
    pub(super) descriptor: OwnedFd,
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl FileWrapper {
    /// The plain file behind it, if there is one.
    pub(super) fn plain_file(&self, py: Python<'_>) -> Option<PlainFile> {
        // Whatever is unusual about the object shows as an exception here, and means that it must be read.
        let (descriptor, offset) = descriptor(self.filelike.bind(py)).ok().flatten()?;
        // SAFETY: the object's file is open, as it has just told its position, and stays so while we hold the GIL.
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned().ok()?;
        let file = File::from(descriptor);
        // One without a block is empty, or its content is made up as it is read and its size says nothing of it: those in
        // /proc have the size 0, those in /sys that of a page.
        let metadata = file.metadata().ok().filter(|metadata| metadata.is_file() && metadata.blocks() > 0)?;
        Some(PlainFile { length: metadata.len().saturating_sub(offset), descriptor: file.into(), offset })
    }
}

/// The descriptor and the position, if what is read from the object is what is in the file.
///
/// Having a `fileno()` doesn't say that: `gzip.GzipFile` has one, and reads something else. So it must be one of `io`'s
/// own classes, or have one as its `file` (as Django's `File` and `tempfile`'s have).
fn descriptor(filelike: &Bound<'_, PyAny>) -> PyResult<Option<(RawFd, u64)>> {
    let py = filelike.py();
    let io = py.import(intern!(py, "io"))?;
    let (file_io, buffered) =
        (io.getattr(intern!(py, "FileIO"))?, io.getattr(intern!(py, "BufferedReader"))?);
    let random = io.getattr(intern!(py, "BufferedRandom"))?;
    let is_plain = |object: &Bound<'_, PyAny>| -> PyResult<bool> {
        if object.get_type().is(&file_io) {
            return Ok(true);
        }
        let is_buffered = object.get_type().is(&buffered) || object.get_type().is(&random);
        Ok(is_buffered && object.getattr(intern!(py, "raw"))?.get_type().is(&file_io))
    };
    let file = match is_plain(filelike)? {
        true => filelike.clone(),
        false => filelike.getattr(intern!(py, "file"))?,
    };
    if !is_plain(&file)? {
        return Ok(None);
    }
    let descriptor: RawFd = filelike.call_method0(intern!(py, "fileno"))?.extract()?;
    if descriptor != file.call_method0(intern!(py, "fileno"))?.extract::<RawFd>()? {
        return Ok(None);
    }
    Ok(Some((descriptor, file.call_method0(intern!(py, "tell"))?.extract()?)))
}
