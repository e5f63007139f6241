//! From the name of a header as the client spelt it to the bytes that a scope has: lower-cased. Clients send the same few
//! names again and again: the objects are kept.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// How many spellings are kept; more, which only somebody who makes names up can send, are made anew each time.
const LIMIT: usize = 256;

/// Lower-cased names by their spelling.
#[derive(Debug, Default)]
pub(super) struct HeaderNames {
    known: HashMap<Box<[u8]>, Py<PyBytes>>,
}

impl HeaderNames {
    pub(super) fn get<'py>(&mut self, py: Python<'py>, name: &[u8]) -> Bound<'py, PyBytes> {
        if let Some(known) = self.known.get(name) {
            return known.bind(py).clone();
        }
        let lower = PyBytes::new(py, &name.to_ascii_lowercase());
        if self.known.len() < LIMIT {
            self.known.insert(name.into(), lower.clone().unbind());
        }
        lower
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::testing::attached;

    #[test]
    fn names_are_lower_cased_and_kept_within_bounds() {
        attached(|py| {
            let mut names = HeaderNames::default();
            assert_eq!(names.get(py, b"X-Forwarded-For").as_bytes(), b"x-forwarded-for");
            assert!(names.get(py, b"Host").is(names.get(py, b"Host")));
            for number in 0..2 * LIMIT {
                names.get(py, format!("X-{number}").as_bytes());
            }
            assert_eq!(names.known.len(), LIMIT);
        });
    }
}
