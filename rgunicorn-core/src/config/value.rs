//! A value as a source gives it, before the setting's kind has read it.

use std::ffi::{OsStr, OsString};
use std::fmt;

/// A value from a command line (always text), a TOML file or a Python file; and what a setting's value is shown as.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Python's `None`.
    None,
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(String),
    /// Text that isn't UTF-8, as only paths may be.
    Raw(OsString),
    /// A list, tuple or set.
    List(Vec<Value>),
    /// A dictionary or a TOML table, in its order.
    Map(Vec<(String, Value)>),
    /// A Python function or another callable object, by its qualified name.
    Callable(String),
    /// A Python class, as `module.Class`.
    Class(String),
    /// Anything else, as its `repr`.
    Other(String),
}

impl Value {
    /// Text, from anything that is text.
    pub fn text(text: impl Into<String>) -> Self {
        Value::Text(text.into())
    }

    /// A path, whatever its bytes are.
    pub fn path(path: impl AsRef<OsStr>) -> Self {
        let path = path.as_ref();
        path.to_str().map_or_else(|| Value::Raw(path.to_owned()), Value::text)
    }

    /// The value as it would be written in a Python configuration file.
    pub fn literal(&self) -> String {
        match self {
            Value::Text(text) => quoted(text),
            Value::Raw(text) => quoted(&text.to_string_lossy()),
            other => other.to_string(),
        }
    }
}

/// What `--print-config` prints, which is what Python's `str` makes of it: text bare, but quoted within a list.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::None => f.write_str("None"),
            Value::Bool(true) => f.write_str("True"),
            Value::Bool(false) => f.write_str("False"),
            Value::Int(number) => write!(f, "{number}"),
            Value::Float(number) => write!(f, "{number:?}"),
            Value::Text(text) => f.write_str(text),
            Value::Raw(text) => f.write_str(&text.to_string_lossy()),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(Value::literal).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Value::Map(items) => {
                let items: Vec<String> = items
                    .iter()
                    .map(|(key, value)| format!("{}: {}", quoted(key), value.literal()))
                    .collect();
                write!(f, "{{{}}}", items.join(", "))
            }
            Value::Callable(name) => write!(f, "<{name}()>"),
            Value::Class(name) => write!(f, "<class '{name}'>"),
            Value::Other(repr) => f.write_str(repr),
        }
    }
}

/// Python's quotes: single ones, unless only they are in the text.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_bare_alone_and_quoted_inside() {
        assert_eq!(Value::text("a b").to_string(), "a b");
        assert_eq!(Value::List(vec![Value::text("a"), Value::None]).to_string(), "['a', None]");
        assert_eq!(Value::Map(vec![("k".into(), Value::Bool(true))]).to_string(), "{'k': True}");
    }

    #[test]
    fn quotes_are_pythons() {
        assert_eq!(Value::text("it's").literal(), "\"it's\"");
        assert_eq!(Value::text("'\"").literal(), "'\\'\"'");
        assert_eq!(Value::text("a\n\x01").literal(), "'a\\n\\x01'");
        assert_eq!(Value::Float(2.0).literal(), "2.0");
    }
}
