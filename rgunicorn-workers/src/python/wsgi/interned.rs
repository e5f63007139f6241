//! Strings that Python has once, made when they are first asked for, under the GIL alone.
//!
//! pyo3's own `intern!` has a lock around the making, and lets go of the GIL for it: a coroutine that finds the lock taken
//! would park the thread of the one that has it, for ever.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// A string, and the object once there is one.
pub(crate) struct Interned {
    text: &'static str,
    object: AtomicPtr<ffi::PyObject>,
}

impl Interned {
    pub(crate) const fn new(text: &'static str) -> Self {
        Interned { text, object: AtomicPtr::new(ptr::null_mut()) }
    }

    #[inline]
    pub(crate) fn get<'py>(&'static self, py: Python<'py>) -> Borrowed<'static, 'py, PyString> {
        let mut object = self.object.load(Ordering::Acquire);
        if object.is_null() {
            // Whoever comes meanwhile makes the same one; the reference is kept for good.
            object = PyString::intern(py, self.text).into_ptr();
            self.object.store(object, Ordering::Release);
        }
        // SAFETY: a string, which is never let go of.
        unsafe { Borrowed::from_ptr(py, object).cast_unchecked() }
    }
}

/// The Python string of a literal.
macro_rules! intern {
    ($py:expr, $text:expr) => {{
        static TEXT: $crate::python::wsgi::interned::Interned =
            $crate::python::wsgi::interned::Interned::new($text);
        TEXT.get($py)
    }};
}
pub(crate) use intern;
