//! Values of settings, to Python and back.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple, PyType};
use rgunicorn_core::config::Value;

/// How deep lists and dictionaries may lie in each other: deeper than in any setting, and an end for those that hold
/// themselves.
const DEPTH: usize = 16;

/// The value as Python has it; a callable by its name.
///
/// # Errors
/// When there is no memory left.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::None => py.None().into_bound(py),
        Value::Bool(value) => PyBool::new(py, *value).to_owned().into_any(),
        Value::Int(value) => PyInt::new(py, *value).into_any(),
        Value::Float(value) => PyFloat::new(py, *value).into_any(),
        Value::Text(text) | Value::Callable(text) | Value::Class(text) | Value::Other(text) => {
            PyString::new(py, text).into_any()
        }
        Value::Raw(text) => text.as_os_str().into_pyobject(py)?.into_any(),
        Value::List(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(to_python(py, item)?)?;
            }
            list.into_any()
        }
        Value::Map(items) => {
            let map = PyDict::new(py);
            for (key, item) in items {
                map.set_item(key, to_python(py, item)?)?;
            }
            map.into_any()
        }
    })
}

/// What a setting reads from a Python object.
///
/// # Errors
/// When the object can't be looked at.
pub(crate) fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    read(value, 0)
}

fn read(value: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if value.is_none() {
        return Ok(Value::None);
    }
    if let Ok(value) = value.cast::<PyBool>() {
        return Ok(Value::Bool(value.is_true()));
    }
    if value.is_instance_of::<PyInt>() {
        return Ok(value.extract().map_or_else(|_| Value::Other(value.to_string()), Value::Int));
    }
    if let Ok(value) = value.cast::<PyFloat>() {
        return Ok(Value::Float(value.value()));
    }
    if let Ok(text) = value.extract::<String>() {
        return Ok(Value::Text(text));
    }
    if let Ok(bytes) = value.extract::<&[u8]>() {
        return Ok(Value::path(OsString::from_vec(bytes.to_vec())));
    }
    let deeper = depth < DEPTH;
    if let Ok(map) = value.cast::<PyDict>()
        && deeper
    {
        let items = map.iter().map(|(key, item)| Ok((key.str()?.to_string(), read(&item, depth + 1)?)));
        return Ok(Value::Map(items.collect::<PyResult<_>>()?));
    }
    let is_list = value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>();
    let is_set = value.is_instance_of::<PySet>() || value.is_instance_of::<PyFrozenSet>();
    if (is_list || is_set) && deeper {
        let items = value.try_iter()?.map(|item| read(&item?, depth + 1));
        return Ok(Value::List(items.collect::<PyResult<_>>()?));
    }
    if let Ok(path) = value.extract::<PathBuf>() {
        return Ok(Value::path(path));
    }
    if value.is_instance_of::<PyType>() || value.is_callable() {
        let qualified = || {
            let module: String = value.getattr("__module__")?.extract()?;
            let name: String = value.getattr("__qualname__")?.extract()?;
            PyResult::Ok(format!("{module}.{name}"))
        };
        let name = qualified().unwrap_or_else(|_| value.get_type().to_string());
        return Ok(if value.is_instance_of::<PyType>() { Value::Class(name) } else { Value::Callable(name) });
    }
    Ok(Value::Other(value.repr().map_or_else(|_| value.get_type().to_string(), |text| text.to_string())))
}
