//! The field lines of a head (RFC 9112 section 5): relaxed forms made regular, then taken apart by httparse.
//!
//! The [scan](super::scan) has seen to it that every line ends with CRLF, and that no CR or LF stands anywhere else.

use httparse::{EMPTY_HEADER, Status};

use super::grammar::{is_blank, is_text, is_token, quote, trim};
use super::{Policy, Refusal};

/// So many fields are taken apart without an allocation.
const USUAL: usize = 64;

/// Hands name and value of each field in `section`, which ends with the empty line, to `each`. There are `count`.
///
/// # Errors
/// 400 for names that are no tokens, and values with control characters; any that `each` has.
pub(super) fn tokenise(
    section: &[u8],
    count: usize,
    each: impl FnMut(&[u8], &[u8]) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    if count <= USUAL {
        tokenise_into(section, &mut [EMPTY_HEADER; USUAL], each)
    } else {
        tokenise_into(section, &mut vec![EMPTY_HEADER; count], each)
    }
}

fn tokenise_into<'b>(
    section: &'b [u8],
    slots: &mut [httparse::Header<'b>],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    match httparse::parse_headers(section, slots) {
        Ok(Status::Complete((used, fields))) if used == section.len() => {
            fields.iter().try_for_each(|field| each(field.name.as_bytes(), field.value))
        }
        _ => Err(diagnose(section)),
    }
}

/// Finds the field that httparse refused, and says what is wrong with it.
#[cold]
fn diagnose(section: &[u8]) -> Refusal {
    for line in Lines(section) {
        let Some(colon) = memchr::memchr(b':', line) else {
            return Refusal::bad(format!("header line {} has no colon", quote(line)));
        };
        let (name, value) = line.split_at(colon);
        if name.last().copied().is_some_and(is_blank) {
            return Refusal::bad(format!(
                "white space between header name {} and its colon",
                quote(trim(name))
            ));
        }
        if !is_token(name) {
            return Refusal::bad(format!("invalid header name {}", quote(name)));
        }
        if !value.iter().copied().all(is_text) {
            // The value stays out of the message: it may be a secret.
            return Refusal::bad(format!("a control character in the value of header {}", quote(name)));
        }
    }
    Refusal::bad("malformed header fields")
}

/// Makes the relaxed forms that the policy permits regular, in place and without changing the length: white space before
/// a colon goes behind it, and a folded field becomes one line, with blanks at its end for what that saves.
pub(super) fn normalise(section: &mut [u8], policy: &Policy) {
    if !policy.permit_obsolete_folding && !policy.strip_header_spaces {
        return;
    }
    let mut start = 0;
    while let Some(field) = section.get_mut(start..).filter(|rest| !rest.is_empty()) {
        let (first, whole) = extent(field);
        let next = start + whole + 2;
        if policy.strip_header_spaces {
            move_colon(field.get_mut(..first).unwrap_or_default());
        }
        if first < whole {
            unfold(field.get_mut(..whole).unwrap_or_default());
        }
        start = next;
    }
}

/// The length of a field's first line, and of the whole field with its folded lines; neither counts the last CRLF.
fn extent(section: &[u8]) -> (usize, usize) {
    let mut first = None;
    let mut at = 0;
    for line in Lines(section) {
        if first.is_some() && !line.first().copied().is_some_and(is_blank) {
            break;
        }
        at += line.len() + 2;
        first.get_or_insert(line.len());
    }
    (first.unwrap_or(0), at.saturating_sub(2))
}

/// `Name  :value` becomes `Name:  value`.
fn move_colon(line: &mut [u8]) {
    let Some(colon) = memchr::memchr(b':', line) else { return };
    let name = line.get(..colon).unwrap_or(&[]);
    let length = name.iter().rposition(|&byte| !is_blank(byte)).map_or(0, |last| last + 1);
    line.get_mut(length..=colon).unwrap_or_default().fill(b' ');
    if let Some(byte) = line.get_mut(length) {
        *byte = b':';
    }
}

/// Joins lines with one space each (RFC 9112 section 5.2).
fn unfold(field: &mut [u8]) {
    let mut written = 0;
    let mut start = 0;
    while start < field.len() {
        let rest = field.get(start..).unwrap_or(&[]);
        let length = memchr::memchr(b'\r', rest).unwrap_or(rest.len());
        let line = rest.get(..length).unwrap_or(&[]);
        let lead = line.iter().take_while(|&&byte| is_blank(byte)).count();
        let kept = trim(line).len();
        if start > 0 {
            // Takes the place of the CRLF, or of a blank, that was there.
            field.get_mut(written..=written).unwrap_or_default().fill(b' ');
            written += 1;
        }
        field.copy_within(start + lead..start + lead + kept, written);
        written += kept;
        start += length + 2;
    }
    field.get_mut(written..).unwrap_or_default().fill(b' ');
}

/// The lines of a section, up to the empty one.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'\r', self.0)?;
        let (line, rest) = self.0.split_at(end);
        self.0 = rest.get(2..).unwrap_or(&[]);
        (!line.is_empty()).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(section: &str, folding: bool, spaces: bool) -> String {
        let policy =
            Policy { permit_obsolete_folding: folding, strip_header_spaces: spaces, ..Policy::default() };
        let mut bytes = section.as_bytes().to_vec();
        normalise(&mut bytes, &policy);
        assert_eq!(bytes.len(), section.len());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn folded_fields_become_one_line() {
        for (section, want) in [
            ("A: b\r\n c\r\nD: e\r\n\r\n", "A: b c  \r\nD: e\r\n\r\n"),
            ("A: b \t\r\n\t  c \r\n d\r\n\r\n", "A: b c d         \r\n\r\n"),
            ("A:\r\n b\r\n\r\n", "A: b  \r\n\r\n"),
            ("A: b\r\n \r\n c\r\n\r\n", "A: b  c    \r\n\r\n"),
            ("A: b\r\n\r\n", "A: b\r\n\r\n"),
            ("\r\n", "\r\n"),
        ] {
            assert_eq!(normalised(section, true, false), want, "{section:?}");
        }
    }

    #[test]
    fn a_colon_moves_to_its_name() {
        assert_eq!(normalised("A \t: b : c\r\nD: e\r\n\r\n", false, true), "A:   b : c\r\nD: e\r\n\r\n");
        assert_eq!(normalised("A\r\nB: c\r\n\r\n", false, true), "A\r\nB: c\r\n\r\n");
    }

    #[test]
    fn a_name_is_never_made_of_a_folded_line() {
        let both = normalised("A \r\n : b\r\nC : d\r\n e\r\n\r\n", true, true);
        assert!(both.starts_with("A : b"), "{both:?}");
        assert!(both.contains("\r\nC:  d e"), "{both:?}");
        assert!(tokenise(both.as_bytes(), 2, |_, _| Ok(())).is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (section, message) in [
            ("A: b\r\nC d\r\n\r\n", "header line \"C d\" has no colon"),
            ("A : b\r\n\r\n", "white space between header name \"A\" and its colon"),
            (": b\r\n\r\n", "invalid header name \"\""),
            ("A(: b\r\n\r\n", "invalid header name \"A(\""),
            ("A: b\0\r\n\r\n", "a control character in the value of header \"A\""),
            ("A: \x7f\r\n\r\n", "a control character in the value of header \"A\""),
        ] {
            let refusal = tokenise(section.as_bytes(), 2, |_, _| Ok(())).unwrap_err();
            assert_eq!((refusal.status, refusal.message.as_str()), (400, message));
        }
    }
}
