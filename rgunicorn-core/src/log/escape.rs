//! Makes what a client sent safe to print: one line stays one line, a quoted field stays one field.
//!
//! Quotes get a backslash, as gunicorn gives them; so do backslashes, or else `\` before a quote would end the field.
//! Control characters become `\xHH`, or `\n`, `\r`, `\t`; characters that end a line for some readers, or have a terminal show
//! others in another order than they are in ("Trojan Source"), `\uHHHH`.

use std::borrow::Cow;

/// Appends bytes as a header has them: latin-1, printed as UTF-8.
pub(super) fn latin1(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0x20..0x7f => out.push(*byte),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0xa0.. => {
                let mut utf8 = [0; 2];
                out.extend_from_slice(char::from(*byte).encode_utf8(&mut utf8).as_bytes());
            }
            _ => hexadecimal(out, *byte),
        }
    }
}

/// Appends text.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    for character in text.chars() {
        match u8::try_from(character) {
            Ok(byte) => latin1(out, &[byte]),
            Err(_) if is_misleading(character) => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
            }
            Err(_) => {
                let mut utf8 = [0; 4];
                out.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
            }
        }
    }
}

/// Line and paragraph separators; embeddings, overrides and isolates of the direction of text, and their ends.
pub(super) fn is_misleading(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A message, in which only [misleading](is_misleading) characters are escaped: lines and colours may be meant.
pub(super) fn message(text: &str) -> Cow<'_, str> {
    if !text.contains(is_misleading) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_misleading(character) {
            true => escaped.extend(character.escape_unicode().filter(|part| !matches!(part, '{' | '}'))),
            false => escaped.push(character),
        }
    }
    escaped.into()
}

/// Appends a path with its percent-encoding undone, as `PATH_INFO` is.
pub(super) fn decoded_path(out: &mut Vec<u8>, path: &[u8]) {
    let mut rest = path;
    while let Some((first, behind)) = rest.split_first() {
        let pair = (*first == b'%').then(|| behind.split_at_checked(2)).flatten();
        let byte = pair.and_then(|(digits, behind)| Some((hex_pair(digits)?, behind)));
        let (byte, behind) = byte.unwrap_or((*first, behind));
        latin1(out, &[byte]);
        rest = behind;
    }
}

fn hex_pair(digits: &[u8]) -> Option<u8> {
    let mut value = 0;
    for digit in digits {
        value = value << 4 | char::from(*digit).to_digit(16)? as u8;
    }
    Some(value)
}

fn hexadecimal(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'?');
    out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(escape: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        escape(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn quotes_and_lines_stay_inside() {
        assert_eq!(
            done(|out| latin1(out, b"a\"b\\\"c\r\nd\x00\x7f\x9b\xe9")),
            r#"a\"b\\\"c\r\nd\x00\x7f\x9bé"#
        );
        assert_eq!(done(|out| text(out, "é\"\u{2028}\u{85}€")), "é\\\"\\u2028\\x85€");
    }

    #[test]
    fn text_is_shown_in_the_order_that_it_is_in() {
        for character in "\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}".chars() {
            let shown = format!("a\\u{:04x}b", u32::from(character));
            assert_eq!(done(|out| text(out, &format!("a{character}b"))), shown);
            assert_eq!(message(&format!("a{character}b")), shown);
        }
        let fine = "שלום\u{200f}, \x1b[32mgreen\x1b[0m\n";
        assert_eq!(message(fine), fine);
    }

    #[test]
    fn paths_are_decoded_and_then_escaped() {
        assert_eq!(done(|out| decoded_path(out, b"/a%20b%0Ac%2")), r"/a b\nc%2");
        assert_eq!(done(|out| decoded_path(out, b"%zz%41%")), "%zzA%");
    }
}
