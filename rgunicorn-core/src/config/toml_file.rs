//! TOML configuration files: the settings' names are the keys, at the top or in a table `[rgunicorn]`.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};
use super::nearest;
use super::settings::SETTINGS;
use super::sources::Entry;
use super::value::Value;

/// The table that settings may stand in, for files that have others to themselves.
const TABLE: &str = "rgunicorn";

/// Reads the settings of the file at `path`, which holds `text`.
///
/// # Errors
/// Bad TOML, or a key that is no setting's.
pub(super) fn entries(path: &Path, text: &str) -> Result<Vec<Entry>, ConfigError> {
    let line_at = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
    let document = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(String::new(), |span| format!(":{}", line_at(span.start)));
        ConfigError::file(format!("{}{line}", path.display()), format!("bad TOML: {}", error.message()))
    })?;

    let mut keys = Vec::new();
    for (key, value) in document.into_inner() {
        match value.into_inner() {
            DeValue::Table(table) if key.get_ref() == TABLE => {
                keys.extend(table.into_iter().map(|(key, value)| (key, value.into_inner())));
            }
            value => keys.push((key, value)),
        }
    }

    keys.into_iter()
        .map(|(key, value)| {
            let origin = Origin::File { path: path.to_path_buf(), line: Some(line_at(key.span().start)) };
            let name = key.into_inner();
            let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
                let known = SETTINGS.iter().filter(|setting| !setting.is_hook()).map(|setting| setting.name);
                let nearest = nearest::nearest(&name, known).map(str::to_string);
                return Err(ConfigError::Unknown { origin, name: name.into_owned(), nearest });
            };
            Ok(Entry { setting, value: value_of(value), origin })
        })
        .collect()
}

fn value_of(value: DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Boolean(value) => Value::Bool(value),
        // A number out of bounds stays text, and its setting says what is wrong with it.
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Int(number),
            Err(_) => Value::text(number.as_str()),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => Value::text(number.as_str()),
        },
        DeValue::Array(items) => {
            Value::List(items.into_iter().map(|item| value_of(item.into_inner())).collect())
        }
        DeValue::Table(items) => Value::Map(
            items
                .into_iter()
                .map(|(key, value)| (key.into_inner().into_owned(), value_of(value.into_inner())))
                .collect(),
        ),
        DeValue::Datetime(time) => Value::Other(time.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, Value, usize)>, String> {
        let entries = entries(Path::new("f.toml"), text).map_err(|error| error.to_string())?;
        let line = |origin| match origin {
            Origin::File { line: Some(line), .. } => line,
            _ => 0,
        };
        let mut entries: Vec<_> = entries
            .into_iter()
            .map(|entry| (entry.setting.name.to_string(), entry.value, line(entry.origin)))
            .collect();
        entries.sort_by_key(|(_, _, line)| *line);
        Ok(entries)
    }

    #[test]
    fn keys_stand_at_the_top_or_in_their_table() {
        let text = "workers = 2\nbind = [':1',\n ':2']\n[rgunicorn]\ntimeout = 1.5\npreload_app = true\numask = 0o22\n";
        let expected = vec![
            ("workers".into(), Value::Int(2), 1),
            ("bind".into(), Value::List(vec![Value::text(":1"), Value::text(":2")]), 2),
            ("timeout".into(), Value::Float(1.5), 5),
            ("preload_app".into(), Value::Bool(true), 6),
            ("umask".into(), Value::Int(18), 7),
        ];
        assert_eq!(read(text), Ok(expected));
    }

    #[test]
    fn a_table_can_be_a_value() {
        let map = Value::Map(vec![("X-Proto".into(), Value::text("https"))]);
        assert_eq!(
            read("[secure_scheme_headers]\nX-Proto = 'https'"),
            Ok(vec![("secure_scheme_headers".into(), map, 1)])
        );
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_setting() {
        assert_eq!(
            read("\n\nwokers = 2"),
            Err("f.toml:3: there is no setting \"wokers\"; did you mean \"workers\"?".into())
        );
        assert_eq!(
            read("database = 2"),
            Err("f.toml:1: there is no setting \"database\"; docs/settings.md lists them all".into())
        );
    }

    #[test]
    fn bad_toml_names_its_line() {
        let error = read("workers = 2\nbind = ").unwrap_err();
        assert!(error.starts_with("configuration file f.toml:2: bad TOML: "), "{error}");
    }
}
