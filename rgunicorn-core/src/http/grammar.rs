//! The productions that requests and responses share: tokens, field values, and how client bytes are quoted in messages.

/// What a byte may be part of, by its value.
struct Class([bool; 256]);

impl Class {
    const fn token() -> Self {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = matches!(byte as u8,
                b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z'
                | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|'
                | b'~');
            byte += 1;
        }
        Class(table)
    }
}

static TOKEN: Class = Class::token();

/// `tchar` (RFC 9110 section 5.6.2).
#[inline]
pub(super) fn is_tchar(byte: u8) -> bool {
    TOKEN.0[byte as usize]
}

/// `token`: at least one `tchar` (RFC 9110 section 5.6.2).
#[inline]
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_tchar(byte))
}

/// What may be in a field value (RFC 9110 section 5.5) and in a reason phrase (RFC 9112 section 4): HTAB, SP, VCHAR and
/// obs-text.
#[inline]
pub(super) const fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// `OWS` and `BWS` consist of these (RFC 9110 section 5.6.3).
#[inline]
pub(super) const fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Without the blanks at both ends. (`trim_ascii` would take line ends and form feeds along.)
#[inline]
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_blank(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_blank(*last)
    {
        bytes = rest;
    }
    bytes
}

/// `1*DIGIT` that fits into 64 bits (RFC 9110 section 8.6); no sign, no underscore, no blank.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |number, &byte| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// The elements of a comma-separated list, without surrounding blanks; empty ones included.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

/// The most client bytes that are shown in a message.
const SHOWN: usize = 80;

/// Client bytes for a message: in double quotes, everything but visible ASCII escaped, cut when long.
pub(super) fn quote(bytes: &[u8]) -> String {
    match bytes.get(..SHOWN) {
        Some(beginning) if bytes.len() > SHOWN => format!("\"{}...\"", beginning.escape_ascii()),
        _ => format!("\"{}\"", bytes.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_the_rfc() {
        let specials = b"!#$%&'*+-.^_`|~";
        for byte in 0..=255u8 {
            assert_eq!(is_tchar(byte), byte.is_ascii_alphanumeric() || specials.contains(&byte), "{byte:#x}");
        }
        assert!(!is_token(b""));
    }

    #[test]
    fn numbers_are_plain_digits() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"007"), Some(7));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in
            ["", "+1", "-1", " 1", "1 ", "1_0", "0x1", "1,1", "\u{661}", "\u{b2}", "18446744073709551616"]
        {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn trimming_takes_blanks_only() {
        assert_eq!(trim(b" \ta b\t "), b"a b");
        assert_eq!(trim(b" \x0ca\n "), b"\x0ca\n");
        assert_eq!(trim(b" \t "), b"");
    }

    #[test]
    fn quoted_bytes_are_short_and_visible() {
        assert_eq!(quote(b"a\r\n\xff\""), r#""a\r\n\xff\"""#);
        assert!(quote(&[b'x'; 10_000]).len() < 100);
    }
}
