//! Environment variables.

use std::ffi::{OsStr, OsString};

/// Sets a variable, for this process and those that it starts. A name that can't be one (empty, or with `=` or NUL) is
/// left alone.
///
/// To be called where no other thread runs: at start-up, and around forks.
pub(crate) fn set(name: &str, value: &OsStr) {
    if !name.is_empty() && !name.contains(['=', '\0']) && !value.as_encoded_bytes().contains(&0) {
        // SAFETY: by the above, no other thread reads the environment meanwhile; an interpreter that was preloaded
        // changes it no differently.
        unsafe { std::env::set_var(name, value) };
    }
}

/// Removes a variable; for when, see [`set`].
pub(crate) fn remove(name: &str) {
    if !name.is_empty() && !name.contains(['=', '\0']) {
        // SAFETY: as for `set`.
        unsafe { std::env::remove_var(name) };
    }
}

/// Variables that were set, or removed, for a while, and what they were before.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    before: Vec<(String, Option<OsString>)>,
}

impl Overlay {
    /// Takes back what was done before, and sets these, or removes those without a value.
    pub(crate) fn replace(&mut self, variables: &[(String, Option<String>)]) {
        for (name, value) in self.before.drain(..).rev() {
            put(&name, value.as_deref());
        }
        for (name, value) in variables {
            self.before.push((name.clone(), std::env::var_os(name)));
            put(name, value.as_ref().map(OsStr::new));
        }
    }
}

fn put(name: &str, value: Option<&OsStr>) {
    match value {
        Some(value) => set(name, value),
        None => remove(name),
    }
}
