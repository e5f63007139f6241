//! From the name of a header to the key that it has in an environ. Clients send the same few names, spelt the same way,
//! again and again: the key objects are kept.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::PyString;

/// How many spellings are kept; more, which only somebody who makes names up can send, are made anew each time.
const LIMIT: usize = 256;

/// What a header means to an environ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing special: it becomes `HTTP_*`.
    Plain,
    /// `Host`, which also names the server where the socket has no name.
    Host,
    /// `SCRIPT_NAME`, which only a trusted forwarder gets past the parser.
    ScriptName,
    /// `Upgrade`, with which a client asks for another protocol.
    Upgrade,
    /// `Content-Type` and `Content-Length`, whose keys have no `HTTP_` before them.
    Content,
}

/// Keys by the spelling of the header name.
#[derive(Debug, Default)]
pub(super) struct HeaderNames {
    known: HashMap<Box<[u8]>, (Meaning, Py<PyString>)>,
}

impl HeaderNames {
    /// The meaning of a header, and its key.
    pub(super) fn get<'py>(&mut self, py: Python<'py>, name: &[u8]) -> (Meaning, Bound<'py, PyString>) {
        if let Some((meaning, key)) = self.known.get(name) {
            return (*meaning, key.bind(py).clone());
        }
        let (meaning, key) = make(name);
        if self.known.len() >= LIMIT {
            // Not interned: some versions of CPython (3.12.0 to 3.12.5) never let go of what is.
            return (meaning, PyString::new(py, &key));
        }
        let key = PyString::intern(py, &key);
        self.known.insert(name.into(), (meaning, key.clone().unbind()));
        (meaning, key)
    }
}

fn make(name: &[u8]) -> (Meaning, String) {
    // A header name is a token, and so ASCII: anything else has not passed the parser.
    let name = String::from_utf8_lossy(name).to_ascii_uppercase();
    let meaning = match name.as_str() {
        "HOST" => Meaning::Host,
        "UPGRADE" => Meaning::Upgrade,
        "SCRIPT_NAME" => Meaning::ScriptName,
        "CONTENT-TYPE" | "CONTENT-LENGTH" => Meaning::Content,
        _ => Meaning::Plain,
    };
    let prefix = if meaning == Meaning::Content { "" } else { "HTTP_" };
    (meaning, format!("{prefix}{}", name.replace('-', "_")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::testing::attached;

    #[test]
    fn names_become_keys_whatever_their_case() {
        attached(|py| {
            let mut names = HeaderNames::default();
            for (name, meaning, key) in [
                ("Host", Meaning::Host, "HTTP_HOST"),
                ("x-forwarded-for", Meaning::Plain, "HTTP_X_FORWARDED_FOR"),
                ("Content-type", Meaning::Content, "CONTENT_TYPE"),
                ("CONTENT-LENGTH", Meaning::Content, "CONTENT_LENGTH"),
                ("Content-Encoding", Meaning::Plain, "HTTP_CONTENT_ENCODING"),
                ("Script_Name", Meaning::ScriptName, "HTTP_SCRIPT_NAME"),
                ("Script-Name", Meaning::Plain, "HTTP_SCRIPT_NAME"),
            ] {
                let (found, text) = names.get(py, name.as_bytes());
                assert_eq!((found, text.to_str().unwrap()), (meaning, key));
                assert!(names.get(py, name.as_bytes()).1.is(&text));
            }
        });
    }

    #[test]
    fn made_up_names_do_not_fill_the_memory() {
        attached(|py| {
            let mut names = HeaderNames::default();
            for number in 0..2 * LIMIT {
                let name = format!("X-{number}");
                assert_eq!(names.get(py, name.as_bytes()).1.to_str().unwrap(), format!("HTTP_X_{number}"));
            }
            assert_eq!(names.known.len(), LIMIT);
            // Whoever interns the text gets the object that is kept for good, if there is one.
            let is_interned = |names: &mut HeaderNames, name: &str, key: &str| {
                let (_, made) = names.get(py, name.as_bytes());
                PyString::intern(py, key).is(&made)
            };
            assert!(is_interned(&mut names, "X-1", "HTTP_X_1"));
            assert!(!is_interned(&mut names, "X-Made-Up", "HTTP_X_MADE_UP"));
        });
    }
}
