//! What values a setting takes: one type a kind, each implementing the one small trait [`Kind`].
//!
//! A kind reads what any source gives, the text of a command line as well as the typed value of a TOML or Python file,
//! as gunicorn's validators do, and shows a value so that it reads back.

mod choice;
mod flag;
mod list;
mod number;
mod python;
mod text;
mod world;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::value::Value;

pub use choice::{
    AsgiLifespan, AsgiLoop, HeaderMaps, Http2Cleartext, HttpParser, Level, LogLevel, Protocols,
    ProxyProtocol, ReloadEngine,
};
pub use flag::{Switch, SwitchOff};
pub use list::{
    AllowIps, Binds, EnvPairs, Files, HeaderNames, Mapping, OptionalBind, Paths, SchemeHeaders, Texts,
};
pub use number::{Bytes, FrameSize, Octal, Positive, Seconds, Whole, WindowSize};
pub use python::{ClassName, Hook, SslVersion};
pub use text::{ConfigPlace, LogTarget, OptionalPath, OptionalText, PagePath, Target, Text};
pub use world::{Directory, GroupId, UserId};

/// What a flag of the command line is followed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: the flag stands for this value.
    Nothing(bool),
    /// A value; of several flags the last counts.
    Value,
    /// A value, or nothing for this one.
    OptionalValue(&'static str),
    /// A value; repeated flags make a list.
    Values,
}

/// A kind of value that settings of the Rust type `T` can have.
pub trait Kind<T> {
    /// What its flag is followed by.
    const TAKES: Takes = Takes::Value;
    /// What is right, as in "'x' is not ...".
    const EXPECTS: &'static str;

    /// Whether `None`, as of `os.environ.get(...)`, is as if the setting wasn't there: where it has no `None` of its own.
    const NONE_IS_UNSET: bool = false;

    /// Reads a value from any source.
    ///
    /// # Errors
    /// A sentence with the value and what would be right, or nothing where [`EXPECTS`](Self::EXPECTS) says it.
    fn read(value: &Value) -> Result<T, Mistake>;

    /// Shows a value; [`read`](Self::read) reads it back.
    fn show(value: &T) -> Value;
}

/// Why a value is not of its kind.
#[derive(Debug, PartialEq, Eq)]
pub enum Mistake {
    /// It is not what the kind expects; nothing more to say.
    Unexpected,
    /// A whole sentence.
    Because(String),
}

impl Mistake {
    /// The whole sentence.
    pub(super) fn explain(self, value: &Value, expects: &str) -> String {
        match self {
            Mistake::Unexpected => format!("{} is not {expects}", value.literal()),
            Mistake::Because(reason) => reason,
        }
    }
}

impl From<String> for Mistake {
    fn from(reason: String) -> Self {
        Mistake::Because(reason)
    }
}

/// `value` as text without white space around it.
fn as_text(value: &Value) -> Result<&str, Mistake> {
    match value {
        Value::Text(text) => Ok(text.trim()),
        Value::Raw(text) => Err(format!("{text:?} is not UTF-8").into()),
        _ => Err(Mistake::Unexpected),
    }
}

/// `value` as a path, without white space around it.
fn as_path(value: &Value) -> Result<&OsStr, Mistake> {
    match value {
        Value::Text(text) => Ok(OsStr::new(text.trim())),
        Value::Raw(text) => Ok(OsStr::from_bytes(text.as_bytes().trim_ascii())),
        _ => Err(Mistake::Unexpected),
    }
}

/// `value` as a list of paths: a path alone is a list of one, and nothing is an empty list.
fn as_paths(value: &Value) -> Result<Vec<&OsStr>, Mistake> {
    match value {
        Value::None => Ok(Vec::new()),
        Value::Text(text) if text.is_empty() => Ok(Vec::new()),
        Value::List(items) => items.iter().map(as_path).collect(),
        other => Ok(vec![as_path(other)?]),
    }
}

/// Paths with commas between them.
fn joined<P: AsRef<OsStr>>(paths: &[P]) -> Value {
    let bytes: Vec<&[u8]> = paths.iter().map(|path| path.as_ref().as_bytes()).collect();
    Value::path(OsString::from_vec(bytes.join(&b',')))
}

/// `value` as a list of texts: a text alone is a list of one, and nothing is an empty list.
fn as_texts(value: &Value) -> Result<Vec<&str>, Mistake> {
    match value {
        Value::None => Ok(Vec::new()),
        Value::Text(text) if text.is_empty() => Ok(Vec::new()),
        Value::List(items) => items.iter().map(as_text).collect(),
        other => Ok(vec![as_text(other)?]),
    }
}

/// `value` as a list of texts, where a text alone holds several with commas between them.
fn as_comma_list(value: &Value) -> Result<Vec<&str>, Mistake> {
    match value {
        Value::None => Ok(Vec::new()),
        Value::Text(text) => Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()),
        Value::List(items) => items.iter().map(as_text).collect(),
        _ => Err(Mistake::Unexpected),
    }
}

fn show_texts<T: ToString>(items: impl IntoIterator<Item = T>) -> Value {
    Value::List(items.into_iter().map(|item| Value::Text(item.to_string())).collect())
}
