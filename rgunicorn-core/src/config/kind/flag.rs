//! Yes or no.

use super::{Kind, Mistake, Takes, Value, as_text};

/// Off unless its flag is given.
#[derive(Debug)]
pub struct Switch;

/// On unless its flag is given.
#[derive(Debug)]
pub struct SwitchOff;

fn read(value: &Value, none: bool) -> Result<bool, Mistake> {
    match value {
        Value::None => Ok(none),
        Value::Bool(value) => Ok(*value),
        other => match as_text(other)?.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Mistake::Unexpected),
        },
    }
}

impl Kind<bool> for Switch {
    const TAKES: Takes = Takes::Nothing(true);
    const EXPECTS: &'static str = "true or false";

    fn read(value: &Value) -> Result<bool, Mistake> {
        read(value, false)
    }

    fn show(value: &bool) -> Value {
        Value::Bool(*value)
    }
}

impl Kind<bool> for SwitchOff {
    const TAKES: Takes = Takes::Nothing(false);
    const EXPECTS: &'static str = "true or false";

    fn read(value: &Value) -> Result<bool, Mistake> {
        read(value, true)
    }

    fn show(value: &bool) -> Value {
        Value::Bool(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_read_as_gunicorn_reads_them() {
        assert_eq!(Switch::read(&Value::text(" True ")), Ok(true));
        assert_eq!(Switch::read(&Value::text("false")), Ok(false));
        assert_eq!(Switch::read(&Value::None), Ok(false));
        assert_eq!(SwitchOff::read(&Value::None), Ok(true));
        assert_eq!(Switch::read(&Value::text("yes")), Err(Mistake::Unexpected));
        assert_eq!(Switch::read(&Value::Int(1)), Err(Mistake::Unexpected));
    }
}
