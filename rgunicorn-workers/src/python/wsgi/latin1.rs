//! Between bytes and the strings of PEP 3333: each character of such a string stands for one byte (ISO-8859-1).

use std::ffi::c_char;

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::types::string::PyStringData;

/// A string with one character for each byte, made from the bytes where they are.
pub(in crate::python) fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: the pointer and the length are those of a slice; the result is a new reference, or null with an exception.
    let string = unsafe {
        let pointer = bytes.as_ptr().cast::<c_char>();
        let string = ffi::PyUnicode_DecodeLatin1(pointer, bytes.len() as ffi::Py_ssize_t, std::ptr::null());
        Bound::from_owned_ptr_or_err(py, string)?
    };
    // SAFETY: DecodeLatin1 returns exactly a str.
    Ok(unsafe { string.cast_into_unchecked() })
}

/// The bytes that a string stands for, where they are; `what` names it in the error.
///
/// # Errors
/// `ValueError` for a character beyond U+00FF.
pub(super) fn encode<'a>(text: &'a Bound<'_, PyString>, what: &str) -> PyResult<&'a [u8]> {
    // SAFETY: a str's characters never change, and `text` keeps it alive. Each character of the narrowest
    // representation, which CPython always chooses, is one latin-1 byte.
    match unsafe { text.data() }? {
        PyStringData::Ucs1(bytes) => Ok(bytes),
        PyStringData::Ucs2(_) | PyStringData::Ucs4(_) => {
            Err(PyValueError::new_err(format!("{what} has a character that is not in latin-1")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::testing::attached;

    #[test]
    fn every_byte_goes_there_and_back() {
        attached(|py| {
            let bytes: Vec<u8> = (0..=255).collect();
            let text = decode(py, &bytes).unwrap();
            assert_eq!(text.as_any().len().unwrap(), 256);
            assert_eq!(encode(&text, "it").unwrap(), bytes);
            assert_eq!(decode(py, b"").unwrap().to_str().unwrap(), "");
            assert_eq!(decode(py, b"\xe4").unwrap().to_str().unwrap(), "ä");
        });
    }

    #[test]
    fn other_characters_are_refused() {
        attached(|py| {
            let error = encode(&PyString::new(py, "10 €"), "the price").unwrap_err();
            assert!(error.is_instance_of::<PyValueError>(py));
            assert!(error.to_string().contains("the price"));
        });
    }
}
