//! Text, paths, and the files that logs go to.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::{Kind, Mistake, Value, as_path, as_text};

/// Text.
#[derive(Debug)]
pub struct Text;

/// Text, or `None`.
#[derive(Debug)]
pub struct OptionalText;

/// The path of a page that the server answers itself, or `None`.
#[derive(Debug)]
pub struct PagePath;

/// Where the configuration is: a path, or `python:`, `program:` or `file:` and what is meant by it.
#[derive(Debug)]
pub struct ConfigPlace;

/// A path, or `None`.
#[derive(Debug)]
pub struct OptionalPath;

/// Where a log goes; see [`LogTarget`].
#[derive(Debug)]
pub struct Target;

/// Where a log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// `-`: standard error for the error log, standard output for the access log.
    Standard,
    /// A file.
    File(PathBuf),
}

/// Empty text is no value where there may be none.
fn optional(value: &Value) -> Result<Option<&str>, Mistake> {
    match value {
        Value::None => Ok(None),
        other => as_text(other).map(|text| Some(text).filter(|text| !text.is_empty())),
    }
}

/// As [`optional`], for paths.
fn optional_path(value: &Value) -> Result<Option<&OsStr>, Mistake> {
    match value {
        Value::None => Ok(None),
        other => as_path(other).map(|path| Some(path).filter(|path| !path.is_empty())),
    }
}

impl Kind<String> for Text {
    const EXPECTS: &'static str = "text";
    const NONE_IS_UNSET: bool = true;

    fn read(value: &Value) -> Result<String, Mistake> {
        as_text(value).map(str::to_string)
    }

    fn show(value: &String) -> Value {
        Value::text(value)
    }
}

impl Kind<Option<String>> for OptionalText {
    const EXPECTS: &'static str = "text";

    fn read(value: &Value) -> Result<Option<String>, Mistake> {
        optional(value).map(|text| text.map(str::to_string))
    }

    fn show(value: &Option<String>) -> Value {
        value.as_ref().map_or(Value::None, Value::text)
    }
}

impl Kind<Option<String>> for PagePath {
    const EXPECTS: &'static str = "the path of a URL, such as '/health', without '?' or '%'";

    fn read(value: &Value) -> Result<Option<String>, Mistake> {
        let Some(path) = optional(value)? else { return Ok(None) };
        let valid =
            path.len() > 1 && path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
        if !valid || path.contains(['?', '%', '#']) {
            return Err(Mistake::Unexpected);
        }
        Ok(Some(path.trim_end_matches('/').to_string()))
    }

    fn show(value: &Option<String>) -> Value {
        value.as_ref().map_or(Value::None, Value::text)
    }
}

impl Kind<Option<PathBuf>> for OptionalPath {
    const EXPECTS: &'static str = "a path";

    fn read(value: &Value) -> Result<Option<PathBuf>, Mistake> {
        optional_path(value).map(|path| path.map(PathBuf::from))
    }

    fn show(value: &Option<PathBuf>) -> Value {
        value.as_ref().map_or(Value::None, Value::path)
    }
}

impl Kind<PathBuf> for ConfigPlace {
    const EXPECTS: &'static str = "a path";
    const NONE_IS_UNSET: bool = true;

    fn read(value: &Value) -> Result<PathBuf, Mistake> {
        as_path(value).map(PathBuf::from)
    }

    fn show(value: &PathBuf) -> Value {
        Value::path(value)
    }
}

impl<T: AsRef<OsStr> + ?Sized> From<&T> for LogTarget {
    fn from(text: &T) -> Self {
        let text = text.as_ref();
        if text == "-" { LogTarget::Standard } else { LogTarget::File(text.into()) }
    }
}

fn show_target(target: &LogTarget) -> Value {
    match target {
        LogTarget::Standard => Value::text("-"),
        LogTarget::File(path) => Value::path(path),
    }
}

impl Kind<LogTarget> for Target {
    const EXPECTS: &'static str = "a file, or - for standard error";

    /// `None` is no error log at all in gunicorn: that is a file, too.
    fn read(value: &Value) -> Result<LogTarget, Mistake> {
        optional_path(value).map(|path| LogTarget::from(path.unwrap_or(OsStr::new("/dev/null"))))
    }

    fn show(value: &LogTarget) -> Value {
        show_target(value)
    }
}

impl Kind<Option<LogTarget>> for Target {
    const EXPECTS: &'static str = "a file, or - for standard output";

    fn read(value: &Value) -> Result<Option<LogTarget>, Mistake> {
        optional_path(value).map(|path| path.map(LogTarget::from))
    }

    fn show(value: &Option<LogTarget>) -> Value {
        value.as_ref().map_or(Value::None, show_target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_text_is_no_value_where_there_may_be_none() {
        assert_eq!(OptionalText::read(&Value::text(" ")), Ok(None));
        assert_eq!(OptionalPath::read(&Value::text("")), Ok(None));
        assert_eq!(Text::read(&Value::text(" a ")), Ok("a".into()));
    }

    #[test]
    fn a_dash_is_the_standard_stream() {
        assert_eq!(Target::read(&Value::text("-")), Ok(LogTarget::Standard));
        assert_eq!(Target::read(&Value::text("-")), Ok(Some(LogTarget::Standard)));
        assert_eq!(Target::read(&Value::text("a.log")), Ok(Some(LogTarget::File("a.log".into()))));
        assert_eq!(<Target as Kind<Option<LogTarget>>>::read(&Value::None), Ok(None));
    }
}
