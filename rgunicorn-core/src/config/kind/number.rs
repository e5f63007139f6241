//! Numbers, and times in seconds.

use std::time::Duration;

use super::{Kind, Mistake, Value, as_text};

/// A whole number, 0 or more.
#[derive(Debug)]
pub struct Whole;

/// A whole number that people write in octal: a file mode or mask.
#[derive(Debug)]
pub struct Octal;

/// A time in seconds, whole or with a fraction.
#[derive(Debug)]
pub struct Seconds;

/// Reads digits as Python's `int(text, 0)` does: `0x`, `0o` and `0b` prefixes, underscores between digits. A bare
/// leading zero means octal only if `octal` says so, as gunicorn has it for modes.
fn digits(text: &str, octal: bool) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text.starts_with('_') || text.ends_with('_') || text.contains("__") {
        return None;
    }
    let text = text.to_ascii_lowercase().replace('_', "");
    let (rest, radix) = if let Some(rest) = text.strip_prefix("0x") {
        (rest, 16)
    } else if let Some(rest) = text.strip_prefix("0o") {
        (rest, 8)
    } else if let Some(rest) = text.strip_prefix("0b") {
        (rest, 2)
    } else if octal && text.starts_with('0') {
        (text.as_str(), 8)
    } else {
        (text.as_str(), 10)
    };
    // `from_str_radix` would take a sign here.
    rest.chars().all(|c| c.is_digit(radix)).then(|| u64::from_str_radix(rest, radix).ok()).flatten()
}

fn whole<T: TryFrom<u64>>(value: &Value, octal: bool) -> Result<T, Mistake> {
    let number = match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        // In Python a boolean is a number.
        Value::Bool(value) => Some(u64::from(*value)),
        other => digits(as_text(other)?, octal),
    };
    number.and_then(|number| T::try_from(number).ok()).ok_or(Mistake::Unexpected)
}

fn show<T: TryInto<i64> + Copy + ToString>(number: &T) -> Value {
    match (*number).try_into() {
        Ok(number) => Value::Int(number),
        Err(_) => Value::Text(number.to_string()),
    }
}

impl<T: TryFrom<u64> + TryInto<i64> + Copy + ToString> Kind<T> for Whole {
    const EXPECTS: &'static str = "a whole number, 0 or more";

    fn read(value: &Value) -> Result<T, Mistake> {
        whole(value, false)
    }

    fn show(value: &T) -> Value {
        show(value)
    }
}

/// Declares kinds of whole numbers within bounds.
macro_rules! bounded {
    ($($(#[$doc:meta])* $name:ident: $expects:literal, $bounds:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl<T: TryFrom<u64> + TryInto<i64> + Copy + ToString> Kind<T> for $name {
            const EXPECTS: &'static str = $expects;

            fn read(value: &Value) -> Result<T, Mistake> {
                let number: u64 = whole(value, false)?;
                if !$bounds.contains(&number) {
                    return Err(Mistake::Unexpected);
                }
                T::try_from(number).map_err(|_| Mistake::Unexpected)
            }

            fn show(value: &T) -> Value {
                show(value)
            }
        }
    )*};
}

bounded! {
    /// At least one.
    Positive: "a whole number, 1 or more", (1..);
    /// What HTTP/2 allows as a flow control window (RFC 9113 section 6.9.1).
    WindowSize: "a whole number, 2147483647 at most", (..=0x7fff_ffff);
    /// What HTTP/2 allows as a frame size (RFC 9113 section 4.2).
    FrameSize: "a whole number from 16384 to 16777215", (16384..=16_777_215);
}

/// A number of bytes, which may be told in KiB, MiB or GiB.
#[derive(Debug)]
pub struct Bytes;

impl Kind<u64> for Bytes {
    const EXPECTS: &'static str = "a number of bytes, such as 268435456, 256M or 1G";

    fn read(value: &Value) -> Result<u64, Mistake> {
        let Value::Text(text) = value else { return whole(value, false) };
        let text = text.trim();
        let unit = text.chars().last().and_then(|last| "KMG".find(last.to_ascii_uppercase()));
        let (number, shift) = match unit {
            Some(unit) => (text.get(..text.len() - 1).unwrap_or_default(), 10 * (unit + 1)),
            None => (text, 0),
        };
        let number: u64 = whole(&Value::text(number), false)?;
        number.checked_mul(1 << shift).ok_or(Mistake::Unexpected)
    }

    fn show(value: &u64) -> Value {
        show(value)
    }
}

impl Kind<u32> for Octal {
    const EXPECTS: &'static str = "a mode or mask, such as 0o22, 022 or 18";

    fn read(value: &Value) -> Result<u32, Mistake> {
        whole(value, true).and_then(|mode| if mode <= 0o7777 { Ok(mode) } else { Err(Mistake::Unexpected) })
    }

    fn show(value: &u32) -> Value {
        show(value)
    }
}

impl Kind<Duration> for Seconds {
    const EXPECTS: &'static str = "a time in seconds, such as 30 or 0.5";

    fn read(value: &Value) -> Result<Duration, Mistake> {
        let seconds = match value {
            Value::Float(seconds) => *seconds,
            Value::Text(text) if text.contains('.') => {
                text.trim().parse().map_err(|_| Mistake::Unexpected)?
            }
            other => return whole(other, false).map(Duration::from_secs),
        };
        Duration::try_from_secs_f64(seconds).map_err(|_| Mistake::Unexpected)
    }

    fn show(value: &Duration) -> Value {
        if value.subsec_nanos() == 0 { show(&value.as_secs()) } else { Value::Float(value.as_secs_f64()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_in_every_form() {
        for (value, number) in [
            (Value::Int(4), 4_usize),
            (Value::text(" 4 "), 4),
            (Value::text("0x10"), 16),
            (Value::text("1_000"), 1000),
            (Value::text("010"), 10),
            (Value::Bool(true), 1),
        ] {
            assert_eq!(Whole::read(&value), Ok(number), "{value:?}");
        }
        for value in [
            Value::Int(-1),
            Value::text("-1"),
            Value::text("x"),
            Value::text(""),
            Value::text("1__0"),
            Value::None,
        ] {
            assert_eq!(<Whole as Kind<usize>>::read(&value), Err(Mistake::Unexpected), "{value:?}");
        }
        assert_eq!(<Whole as Kind<u32>>::read(&Value::Int(1 << 32)), Err(Mistake::Unexpected), "too large");
    }

    #[test]
    fn modes_are_octal_as_gunicorn_reads_them() {
        for text in ["0o22", "022", "18", "0x12", "0b10010"] {
            assert_eq!(Octal::read(&Value::text(text)), Ok(18), "{text}");
        }
        assert_eq!(Octal::read(&Value::Int(18)), Ok(18));
        assert_eq!(Octal::read(&Value::text("0")), Ok(0));
        for text in ["089", "10000", "0o", "+-1"] {
            assert_eq!(Octal::read(&Value::text(text)), Err(Mistake::Unexpected), "{text}");
        }
    }

    #[test]
    fn seconds_may_have_a_fraction() {
        assert_eq!(Seconds::read(&Value::Int(30)), Ok(Duration::from_secs(30)));
        assert_eq!(Seconds::read(&Value::text("0.25")), Ok(Duration::from_millis(250)));
        assert_eq!(Seconds::read(&Value::Float(2.5)), Ok(Duration::from_millis(2500)));
        assert_eq!(Seconds::show(&Duration::from_millis(2500)), Value::Float(2.5));
        assert_eq!(Seconds::show(&Duration::from_secs(2)), Value::Int(2));
        for value in
            [Value::Float(-1.0), Value::Float(f64::NAN), Value::text("5s"), Value::text("-0.5"), Value::None]
        {
            assert_eq!(Seconds::read(&value), Err(Mistake::Unexpected), "{value:?}");
        }
    }

    #[test]
    fn bytes_have_units() {
        for (value, number) in [
            (Value::Int(4096), 4096),
            (Value::text("4096"), 4096),
            (Value::text("256M"), 256 << 20),
            (Value::text(" 1g "), 1 << 30),
            (Value::text("3 K"), 3072),
        ] {
            assert_eq!(Bytes::read(&value), Ok(number), "{value:?}");
        }
        for value in ["", "M", "1T", "1.5G", "-1K", "99999999999999G"] {
            assert_eq!(Bytes::read(&Value::text(value)), Err(Mistake::Unexpected), "{value:?}");
        }
    }

    #[test]
    fn bounds_are_kept() {
        assert_eq!(FrameSize::read(&Value::Int(16384)), Ok(16384_u32));
        assert_eq!(<FrameSize as Kind<u32>>::read(&Value::Int(16383)), Err(Mistake::Unexpected));
        assert_eq!(<WindowSize as Kind<u32>>::read(&Value::Int(1 << 31)), Err(Mistake::Unexpected));
        assert_eq!(<Positive as Kind<usize>>::read(&Value::Int(0)), Err(Mistake::Unexpected));
    }
}
