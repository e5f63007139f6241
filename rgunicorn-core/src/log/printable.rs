//! What a worker, or somebody at the desk, has written, made fit for logs and terminals: nothing in it is obeyed.

use std::borrow::Cow;
use std::fmt::Write;

/// Text that stays one line.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_obeyed)
}

/// Text that may have lines and indentation.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| is_obeyed(character) && !matches!(character, '\n' | '\t'))
}

/// Control characters, and what has text shown in another order than it is in, or in another line.
fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, wanted: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&wanted) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        // A string takes anything.
        let _ = match (character, wanted(character)) {
            ('\n', true) => escaped.write_str("\\n"),
            ('\r', true) => escaped.write_str("\\r"),
            ('\t', true) => escaped.write_str("\\t"),
            (_, true) if u32::from(character) < 0x100 => write!(escaped, "\\x{:02x}", u32::from(character)),
            (_, true) => write!(escaped, "\\u{:04x}", u32::from(character)),
            (_, false) => escaped.write_char(character),
        };
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_it_is_obeyed() {
        assert_eq!(line("GET /é?\"\\"), "GET /é?\"\\");
        assert_eq!(
            line("a\r\n[INFO] b\t\x1b[2J\x7f\u{9b}\u{202e}\u{2028}"),
            "a\\r\\n[INFO] b\\t\\x1b[2J\\x7f\\x9b\\u202e\\u2028"
        );
        assert_eq!(lines("one\n\ttwo\x1b\r"), "one\n\ttwo\\x1b\\r");
    }
}
