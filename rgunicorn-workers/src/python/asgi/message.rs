//! What an application sends, taken apart.

use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyMemoryView, PyString, PyTuple};

/// A dictionary with a type.
pub(super) struct Message<'a, 'py> {
    fields: &'a Bound<'py, PyDict>,
    kind: Bound<'py, PyString>,
}

impl<'a, 'py> Message<'a, 'py> {
    /// # Errors
    /// `TypeError` for what is no dictionary, `KeyError` for one without a type.
    pub(super) fn new(message: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        let py = message.py();
        let fields = message.cast::<PyDict>().map_err(|_| {
            PyTypeError::new_err(format!("a message is a dict; {} was sent", type_name(message)))
        })?;
        let kind = fields.get_item(intern!(py, "type"))?.ok_or_else(|| PyKeyError::new_err("type"))?;
        let kind = kind
            .cast_into::<PyString>()
            .map_err(|error| PyTypeError::new_err(format!("a message's type is a str; {error}")))?;
        Ok(Message { fields, kind })
    }

    pub(super) fn kind(&self) -> PyResult<&str> {
        self.kind.to_str()
    }

    pub(super) fn get(&self, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.fields.get_item(name)?.filter(|value| !value.is_none()))
    }

    /// A field that must be there.
    pub(super) fn need(&self, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.fields.get_item(name)?.ok_or_else(|| PyKeyError::new_err(name.clone().unbind()))
    }

    /// Whether there is a field, and it is true.
    pub(super) fn flag(&self, name: &Bound<'py, PyString>) -> PyResult<bool> {
        match self.fields.get_item(name)? {
            Some(value) => value.is_truthy(),
            None => Ok(false),
        }
    }

    /// The bytes of a field; none if it isn't there.
    pub(super) fn bytes(&self, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        match value.cast_into::<PyBytes>() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => bytes_of(error.into_inner()).map(Some),
        }
    }
}

/// The bytes of a `bytearray` or a `memoryview`, which may change once we have returned.
fn bytes_of(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyBytes>> {
    if !value.is_instance_of::<PyByteArray>() && !value.is_instance_of::<PyMemoryView>() {
        return Err(PyTypeError::new_err(format!("bytes are needed; {} was sent", type_name(&value))));
    }
    Ok(value.py().get_type::<PyBytes>().call1((value,))?.cast_into::<PyBytes>()?)
}

pub(super) fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "something else".into(), |name| name.to_string())
}

/// Calls `each` with the name and the value of each header.
///
/// # Errors
/// `TypeError` for what is no iterable of pairs of bytes, and what `each` fails with.
pub(super) fn for_each_header(
    headers: &Bound<'_, PyAny>,
    mut each: impl FnMut(&[u8], &[u8]) -> PyResult<()>,
) -> PyResult<()> {
    if let Ok(list) = headers.cast_exact::<PyList>() {
        // It may grow or shrink while Python code runs, so that it is counted anew each time.
        let mut index = 0;
        while index < list.len() {
            pair(&list.get_item(index)?, &mut each)?;
            index += 1;
        }
        return Ok(());
    }
    for header in headers.try_iter()? {
        pair(&header?, &mut each)?;
    }
    Ok(())
}

fn pair(header: &Bound<'_, PyAny>, each: &mut impl FnMut(&[u8], &[u8]) -> PyResult<()>) -> PyResult<()> {
    let (name, value) = if let Ok(pair) = header.cast_exact::<PyTuple>()
        && pair.len() == 2
    {
        (pair.get_item(0)?, pair.get_item(1)?)
    } else if let Ok(pair) = header.cast_exact::<PyList>()
        && pair.len() == 2
    {
        (pair.get_item(0)?, pair.get_item(1)?)
    } else {
        header.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?
    };
    let wrong = |what: &str, found: &Bound<'_, PyAny>| {
        PyTypeError::new_err(format!("the {what} of a header is bytes; {} was sent", type_name(found)))
    };
    let bytes = name.cast::<PyBytes>().map_err(|_| wrong("name", &name))?;
    let value_bytes = value.cast::<PyBytes>().map_err(|_| wrong("value", &value))?;
    each(bytes.as_bytes(), value_bytes.as_bytes())
}
