//! Several values in one setting.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{
    Kind, Mistake, Takes, Value, as_comma_list, as_path, as_paths, as_text, as_texts, joined, show_texts,
};
use crate::config::address::BindAddress;
use crate::http::AllowList;

/// Texts; the flag is repeated.
#[derive(Debug)]
pub struct Texts;

/// Paths; the flag is repeated.
#[derive(Debug)]
pub struct Files;

/// Addresses to listen on; the flag is repeated.
#[derive(Debug)]
pub struct Binds;

/// An address to listen on, or `None`.
#[derive(Debug)]
pub struct OptionalBind;

/// `NAME=value` pairs; the flag is repeated. A name without a value is one that a configuration file has deleted.
#[derive(Debug)]
pub struct EnvPairs;

/// Header names with commas between them, in any case.
#[derive(Debug)]
pub struct HeaderNames;

/// Directories with commas between them.
#[derive(Debug)]
pub struct Paths;

/// IP addresses and networks with commas between them, or `*`.
#[derive(Debug)]
pub struct AllowIps;

/// Header names and the value of each that says that a request came by TLS.
#[derive(Debug)]
pub struct SchemeHeaders;

/// A dictionary of anything.
#[derive(Debug)]
pub struct Mapping;

impl Kind<Vec<String>> for Texts {
    const TAKES: Takes = Takes::Values;
    const EXPECTS: &'static str = "text or a list of texts";

    fn read(value: &Value) -> Result<Vec<String>, Mistake> {
        Ok(as_texts(value)?.into_iter().map(str::to_string).collect())
    }

    fn show(value: &Vec<String>) -> Value {
        show_texts(value)
    }
}

impl Kind<Vec<PathBuf>> for Files {
    const TAKES: Takes = Takes::Values;
    const EXPECTS: &'static str = "a path or a list of paths";

    fn read(value: &Value) -> Result<Vec<PathBuf>, Mistake> {
        Ok(as_paths(value)?.into_iter().map(PathBuf::from).collect())
    }

    fn show(value: &Vec<PathBuf>) -> Value {
        Value::List(value.iter().map(Value::path).collect())
    }
}

impl Kind<Vec<BindAddress>> for Binds {
    const TAKES: Takes = Takes::Values;
    const EXPECTS: &'static str =
        "an address or a list of addresses, such as '127.0.0.1:8000' or 'unix:/run/app.sock'";

    fn read(value: &Value) -> Result<Vec<BindAddress>, Mistake> {
        let addresses = match value {
            // The one list in which an empty text means something: every address, the default port.
            Value::Text(text) => vec![OsStr::new(text)],
            other => as_paths(other)?,
        };
        if addresses.is_empty() {
            return Err(Mistake::Unexpected);
        }
        addresses.into_iter().map(|address| BindAddress::read(address).map_err(Mistake::Because)).collect()
    }

    fn show(value: &Vec<BindAddress>) -> Value {
        Value::List(value.iter().map(|address| Value::path(address.written())).collect())
    }
}

impl Kind<Option<BindAddress>> for OptionalBind {
    const EXPECTS: &'static str = "an address, such as '127.0.0.1:9100' or 'unix:/run/metrics.sock'";

    fn read(value: &Value) -> Result<Option<BindAddress>, Mistake> {
        match value {
            Value::None => Ok(None),
            other => match as_path(other)? {
                address if address.is_empty() => Ok(None),
                address => BindAddress::read(address).map(Some).map_err(Mistake::Because),
            },
        }
    }

    fn show(value: &Option<BindAddress>) -> Value {
        value.as_ref().map_or(Value::None, |address| Value::path(address.written()))
    }
}

impl Kind<Vec<(String, Option<String>)>> for EnvPairs {
    const TAKES: Takes = Takes::Values;
    const EXPECTS: &'static str = "a list of 'NAME=value' texts";

    fn read(value: &Value) -> Result<Vec<(String, Option<String>)>, Mistake> {
        let pair = |text: &str| match text.split_once('=') {
            // What the system would refuse, later and with less to say.
            Some((name, value)) if !name.is_empty() && !text.contains('\0') => {
                Ok((name.into(), Some(value.into())))
            }
            _ => Err(format!("{text:?} is not NAME=value").into()),
        };
        as_texts(value)?.into_iter().map(pair).collect()
    }

    fn show(value: &Vec<(String, Option<String>)>) -> Value {
        // What a configuration file deletes from the environment can't be written as a pair.
        show_texts(value.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?))))
    }
}

impl Kind<Vec<String>> for HeaderNames {
    const EXPECTS: &'static str = "header names with commas between them";

    fn read(value: &Value) -> Result<Vec<String>, Mistake> {
        Ok(as_comma_list(value)?.into_iter().map(str::to_ascii_uppercase).collect())
    }

    fn show(value: &Vec<String>) -> Value {
        show_texts(value)
    }
}

impl Kind<Vec<PathBuf>> for Paths {
    const EXPECTS: &'static str = "directories with commas between them";

    fn read(value: &Value) -> Result<Vec<PathBuf>, Mistake> {
        let paths = match value {
            Value::Raw(_) => {
                let bytes = as_path(value)?.as_bytes();
                bytes.split(|byte| *byte == b',').map(|path| OsStr::from_bytes(path.trim_ascii())).collect()
            }
            Value::List(_) => as_paths(value)?,
            _ => as_comma_list(value)?.into_iter().map(OsStr::new).collect(),
        };
        Ok(paths.into_iter().filter(|path| !path.is_empty()).map(PathBuf::from).collect())
    }

    fn show(value: &Vec<PathBuf>) -> Value {
        if value.is_empty() {
            return Value::None;
        }
        joined(value)
    }
}

impl Kind<AllowList> for AllowIps {
    const EXPECTS: &'static str = "IP addresses and networks with commas between them, or *";

    fn read(value: &Value) -> Result<AllowList, Mistake> {
        as_comma_list(value)?.join(",").parse().map_err(Mistake::Because)
    }

    fn show(value: &AllowList) -> Value {
        show_texts(value.to_string().split(',').filter(|entry| !entry.is_empty()))
    }
}

impl Kind<Vec<(String, String)>> for SchemeHeaders {
    const EXPECTS: &'static str =
        "a dictionary from header names to texts, such as {'X-FORWARDED-PROTO': 'https'}";

    fn read(value: &Value) -> Result<Vec<(String, String)>, Mistake> {
        let Value::Map(items) = value else { return Err(Mistake::Unexpected) };
        items
            .iter()
            .map(|(name, value)| {
                as_text(value).map(|value| (name.trim().to_ascii_uppercase(), value.to_string()))
            })
            .collect()
    }

    fn show(value: &Vec<(String, String)>) -> Value {
        Value::Map(value.iter().map(|(name, value)| (name.clone(), Value::text(value))).collect())
    }
}

impl Kind<Vec<(String, Value)>> for Mapping {
    const EXPECTS: &'static str = "a dictionary";

    fn read(value: &Value) -> Result<Vec<(String, Value)>, Mistake> {
        match value {
            Value::Map(items) => Ok(items.clone()),
            _ => Err(Mistake::Unexpected),
        }
    }

    fn show(value: &Vec<(String, Value)>) -> Value {
        Value::Map(value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_alone_is_a_list_of_one() {
        assert_eq!(Texts::read(&Value::text("a,b")), Ok(vec!["a,b".into()]));
        assert_eq!(Binds::read(&Value::text(":1")), Ok(vec![":1".parse().unwrap()]));
        assert_eq!(Texts::read(&Value::None), Ok(vec![]));
        assert_eq!(Binds::read(&Value::List(vec![])), Err(Mistake::Unexpected));
        assert_eq!(Binds::read(&Value::Int(8000)), Err(Mistake::Unexpected));
    }

    #[test]
    fn commas_separate_where_gunicorn_splits() {
        assert_eq!(
            HeaderNames::read(&Value::text("script_name, X,")),
            Ok(vec!["SCRIPT_NAME".into(), "X".into()])
        );
        assert_eq!(Paths::show(&vec!["a".into(), "b".into()]), Value::text("a,b"));
        let list = AllowIps::read(&Value::text("10.0.0.0/8, ::1")).unwrap();
        assert_eq!(AllowIps::show(&list).to_string(), "['10.0.0.0/8', '::1']");
        assert!(
            matches!(AllowIps::read(&Value::text("nobody")), Err(Mistake::Because(why)) if why.contains("nobody"))
        );
    }

    #[test]
    fn pairs_need_an_equals_sign() {
        assert_eq!(EnvPairs::read(&Value::text("A=b=c")), Ok(vec![("A".into(), Some("b=c".into()))]));
        assert_eq!(
            EnvPairs::read(&Value::text("A")),
            Err(Mistake::Because("\"A\" is not NAME=value".into()))
        );
    }

    #[test]
    fn scheme_header_names_are_upper_case() {
        let map = Value::Map(vec![("x-proto".into(), Value::text("https"))]);
        assert_eq!(SchemeHeaders::read(&map), Ok(vec![("X-PROTO".into(), "https".into())]));
        assert_eq!(SchemeHeaders::read(&Value::text("x")), Err(Mistake::Unexpected));
    }
}
