//! Python objects, by name: the core has no Python, so a name is all it keeps.

use super::{Kind, Mistake, Value, as_text};

/// A class, by its name or dotted path.
#[derive(Debug)]
pub struct ClassName;

/// A hook function, by its qualified name or dotted path.
#[derive(Debug)]
pub struct Hook;

/// A constant of Python's `ssl` module, or anything else: its setting has no effect.
#[derive(Debug)]
pub struct SslVersion;

impl Kind<String> for ClassName {
    const EXPECTS: &'static str = "the name of a class";
    const NONE_IS_UNSET: bool = true;

    fn read(value: &Value) -> Result<String, Mistake> {
        let name = match value {
            Value::Class(name) => name.as_str(),
            other => as_text(other)?,
        };
        if name.is_empty() { Err(Mistake::Unexpected) } else { Ok(name.to_string()) }
    }

    fn show(value: &String) -> Value {
        Value::text(value)
    }
}

impl Kind<Option<String>> for Hook {
    const EXPECTS: &'static str = "a function";

    fn read(value: &Value) -> Result<Option<String>, Mistake> {
        match value {
            Value::None => Ok(None),
            Value::Callable(name) | Value::Class(name) => Ok(Some(name.clone())),
            other => as_text(other).map(|name| Some(name.to_string())),
        }
    }

    fn show(value: &Option<String>) -> Value {
        value.as_ref().map_or(Value::None, |name| Value::Callable(name.clone()))
    }
}

impl Kind<String> for SslVersion {
    const EXPECTS: &'static str = "a TLS version";

    fn read(value: &Value) -> Result<String, Mistake> {
        match value {
            Value::List(_) | Value::Map(_) => Err(Mistake::Unexpected),
            other => Ok(other.to_string()),
        }
    }

    fn show(value: &String) -> Value {
        Value::text(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_kept_by_name() {
        assert_eq!(ClassName::read(&Value::Class("a.B".into())), Ok("a.B".into()));
        assert_eq!(ClassName::read(&Value::text("sync")), Ok("sync".into()));
        assert_eq!(ClassName::read(&Value::Callable("f".into())), Err(Mistake::Unexpected));
        assert_eq!(ClassName::read(&Value::text("")), Err(Mistake::Unexpected));
    }

    #[test]
    fn hooks_are_functions() {
        assert_eq!(Hook::read(&Value::Callable("when_ready".into())), Ok(Some("when_ready".into())));
        assert_eq!(Hook::read(&Value::Int(1)), Err(Mistake::Unexpected));
    }
}
