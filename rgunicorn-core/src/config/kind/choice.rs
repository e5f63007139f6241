//! One of a few words.

use super::{Kind, Mistake, Takes, Value, as_text};
use crate::http::HeaderMap;

/// Declares kinds that take one word of a few, in any case; `None` is the first of them.
macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident: $expects:literal, [$first:literal $(, $word:literal)*];)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl Kind<String> for $name {
            const EXPECTS: &'static str = $expects;

            fn read(value: &Value) -> Result<String, Mistake> {
                word(value, &[$first $(, $word)*])
            }

            fn show(value: &String) -> Value {
                Value::text(value)
            }
        }
    )*};
}

choices! {
    /// What watches the files of `reload`.
    ReloadEngine: "one of auto, poll or inotify", ["auto", "poll", "inotify"];
    /// HTTP/2 without TLS.
    Http2Cleartext: "one of off, prior-knowledge, upgrade or both", ["off", "prior-knowledge", "upgrade", "both"];
    /// The event loop of ASGI.
    AsgiLoop: "one of auto, asyncio or uvloop", ["auto", "asyncio", "uvloop"];
    /// The lifespan protocol of ASGI.
    AsgiLifespan: "one of auto, on or off", ["auto", "on", "off"];
    /// gunicorn's choice of parsers.
    HttpParser: "one of auto, fast or python", ["auto", "fast", "python"];
}

fn word(value: &Value, words: &[&str]) -> Result<String, Mistake> {
    let word = match value {
        Value::None => words.first().copied().unwrap_or_default().to_string(),
        other => as_text(other)?.to_ascii_lowercase(),
    };
    if words.contains(&word.as_str()) { Ok(word) } else { Err(Mistake::Unexpected) }
}

/// The PROXY protocol: its flag alone means `auto`, and booleans are taken as gunicorn takes them.
#[derive(Debug)]
pub struct ProxyProtocol;

impl Kind<String> for ProxyProtocol {
    const TAKES: Takes = Takes::OptionalValue("auto");
    const EXPECTS: &'static str = "one of off, v1, v2 or auto";

    fn read(value: &Value) -> Result<String, Mistake> {
        let value = match value {
            Value::Bool(on) => Value::text(if *on { "auto" } else { "off" }),
            other => other.clone(),
        };
        let word = word(&value, &["off", "false", "0", "none", "auto", "true", "1", "v1", "v2"])?;
        Ok(match word.as_str() {
            "false" | "0" | "none" => "off".to_string(),
            "true" | "1" => "auto".to_string(),
            _ => word,
        })
    }

    fn show(value: &String) -> Value {
        Value::text(value)
    }
}

/// HTTP versions, the preferred one first, with commas between them.
#[derive(Debug)]
pub struct Protocols;

impl Kind<Vec<String>> for Protocols {
    const EXPECTS: &'static str = "h1 or h2, or both with a comma between them";

    fn read(value: &Value) -> Result<Vec<String>, Mistake> {
        let mut protocols: Vec<String> = Vec::new();
        for protocol in super::as_comma_list(value)? {
            let protocol = protocol.to_ascii_lowercase();
            if !["h1", "h2"].contains(&protocol.as_str()) || protocols.contains(&protocol) {
                return Err(Mistake::Unexpected);
            }
            protocols.push(protocol);
        }
        if protocols.is_empty() {
            protocols.push("h1".to_string());
        }
        Ok(protocols)
    }

    fn show(value: &Vec<String>) -> Value {
        super::show_texts(value)
    }
}

/// See [`HeaderMap`].
#[derive(Debug)]
pub struct HeaderMaps;

impl Kind<HeaderMap> for HeaderMaps {
    const EXPECTS: &'static str = "one of drop, refuse or dangerous";

    fn read(value: &Value) -> Result<HeaderMap, Mistake> {
        Ok(match word(value, &["drop", "refuse", "dangerous"])?.as_str() {
            "refuse" => HeaderMap::Refuse,
            "dangerous" => HeaderMap::Dangerous,
            _ => HeaderMap::Drop,
        })
    }

    fn show(value: &HeaderMap) -> Value {
        Value::text(match value {
            HeaderMap::Drop => "drop",
            HeaderMap::Refuse => "refuse",
            HeaderMap::Dangerous => "dangerous",
        })
    }
}

/// How much the error log says: this and what is more severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happens in ordinary operation.
    Info,
    /// What may need a look.
    Warning,
    /// What went wrong.
    Error,
    /// What stops the server.
    Critical,
}

impl LogLevel {
    /// All of them, the most talkative first.
    pub const ALL: [LogLevel; 5] =
        [LogLevel::Debug, LogLevel::Info, LogLevel::Warning, LogLevel::Error, LogLevel::Critical];

    /// The name that `loglevel` has for it.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warning => "warning",
            LogLevel::Error => "error",
            LogLevel::Critical => "critical",
        }
    }
}

/// See [`LogLevel`].
#[derive(Debug)]
pub struct Level;

impl Kind<LogLevel> for Level {
    const EXPECTS: &'static str = "one of debug, info, warning, error or critical";

    fn read(value: &Value) -> Result<LogLevel, Mistake> {
        Ok(match word(value, &["info", "debug", "warning", "warn", "error", "critical"])?.as_str() {
            "debug" => LogLevel::Debug,
            "warning" | "warn" => LogLevel::Warning,
            "error" => LogLevel::Error,
            "critical" => LogLevel::Critical,
            _ => LogLevel::Info,
        })
    }

    fn show(value: &LogLevel) -> Value {
        Value::text(value.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_in_any_case_and_others_refused() {
        assert_eq!(ReloadEngine::read(&Value::text("Poll")), Ok("poll".into()));
        assert_eq!(ReloadEngine::read(&Value::None), Ok("auto".into()));
        assert_eq!(ReloadEngine::read(&Value::text("fsevents")), Err(Mistake::Unexpected));
        assert_eq!(Level::read(&Value::text("WARNING")), Ok(LogLevel::Warning));
        assert_eq!(Level::read(&Value::text("trace")), Err(Mistake::Unexpected));
        assert_eq!(HeaderMaps::read(&Value::text("refuse")), Ok(HeaderMap::Refuse));
    }

    #[test]
    fn the_proxy_protocol_takes_booleans() {
        assert_eq!(ProxyProtocol::read(&Value::Bool(true)), Ok("auto".into()));
        assert_eq!(ProxyProtocol::read(&Value::text("0")), Ok("off".into()));
        assert_eq!(ProxyProtocol::read(&Value::text("v3")), Err(Mistake::Unexpected));
    }

    #[test]
    fn http_protocols_are_known_and_not_repeated() {
        assert_eq!(Protocols::read(&Value::text("h2, h1")), Ok(vec!["h2".into(), "h1".into()]));
        assert_eq!(Protocols::read(&Value::text("h1,h1")), Err(Mistake::Unexpected));
        assert_eq!(Protocols::read(&Value::text("h3")), Err(Mistake::Unexpected));
    }
}
