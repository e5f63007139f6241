//! Finds the lines of a request head, however the bytes come in: where each ends, whether it ends properly, whether it
//! is within its limit.
//!
//! Every byte is looked at once, and every verdict depends on the bytes before it alone; so a head that comes in a byte
//! at a time costs no more than one that comes at once, and is judged the same. What the lines say is not known here.

use memchr::memchr2;

use super::grammar::{is_blank, is_tchar, quote};
use super::{Limits, Refusal};

/// Offsets in the buffer must fit into a [`Span`](super::Span), where `limit_request_head` is none.
const MAX_HEAD: usize = i32::MAX as usize;

/// What comes next in the buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    /// An empty line that is ignored, or the request line.
    #[default]
    Beginning,
    /// The first byte of the request line.
    RequestLineStart,
    /// The rest of the request line.
    RequestLine,
    /// The first byte of a field, of a folded line, or of the empty line that ends the head.
    LineStart,
    /// The rest of a field's line.
    Field,
}

/// What the scan came upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The bytes end before the head does.
    Partial,
    /// The request line, without its line end.
    RequestLine {
        /// Offset of its first byte.
        start: usize,
        /// Offset behind its last byte.
        end: usize,
    },
    /// The end of the head.
    End {
        /// Offset of the first field, or of the empty line if there is no field.
        fields_start: usize,
        /// How many fields there are; folded lines belong to the field before them.
        fields: usize,
        /// Offset behind the empty line.
        end: usize,
    },
}

/// How far a head was scanned.
#[derive(Debug, Clone, Default)]
pub(super) struct Scan {
    stage: Stage,
    /// Offset of the first byte that was not dealt with.
    at: usize,
    /// Where the request line, or the current field, starts.
    start: usize,
    fields_start: usize,
    fields: usize,
}

impl Scan {
    /// Goes on to the next thing of interest.
    ///
    /// # Errors
    /// 400 for line ends other than CRLF, folded lines that are not permitted, or more than one empty line before the
    /// request line; 414 and 431 for lines over their limit, before their end has come.
    pub(super) fn next(&mut self, buffer: &[u8], limits: &Limits, folding: bool) -> Result<Found, Refusal> {
        loop {
            let Some(&byte) = buffer.get(self.at) else { return Ok(Found::Partial) };
            match self.stage {
                Stage::Beginning => {
                    if byte == b'\r' && !self.line_feed(buffer)? {
                        return Ok(Found::Partial);
                    }
                    self.stage = Stage::RequestLineStart;
                }
                Stage::RequestLineStart => {
                    if !is_tchar(byte) {
                        return Err(not_a_request(byte));
                    }
                    self.start = self.at;
                    self.stage = Stage::RequestLine;
                }
                Stage::RequestLine => {
                    let over = || Refusal::line_too_long(limits.line);
                    let most = self.start.saturating_add(limits.line);
                    let Some(end) = self.line_end(buffer, most, over)? else {
                        return Ok(Found::Partial);
                    };
                    self.fields_start = self.at;
                    self.stage = Stage::LineStart;
                    return Ok(Found::RequestLine { start: self.start, end });
                }
                Stage::LineStart if byte == b'\r' || byte == b'\n' => {
                    if !self.line_feed(buffer)? {
                        return Ok(Found::Partial);
                    }
                    return Ok(Found::End {
                        fields_start: self.fields_start,
                        fields: self.fields,
                        end: self.at,
                    });
                }
                Stage::LineStart => {
                    if is_blank(byte) {
                        if self.fields == 0 {
                            return Err(Refusal::bad("white space before the first header field"));
                        }
                        if !folding {
                            return Err(Refusal::bad("a header field is folded over several lines"));
                        }
                    } else {
                        self.fields += 1;
                        if self.fields > limits.fields {
                            let message = format!("more than {} header fields", limits.fields);
                            return Err(Refusal::fields_too_large(message));
                        }
                        self.start = self.at;
                    }
                    self.stage = Stage::Field;
                }
                Stage::Field => {
                    // The limit counts the line end in.
                    let limit = limits.field_size.saturating_sub(2);
                    let (start, most) = (self.start, self.start.saturating_add(limit));
                    // The message shows no more than the limit, or it would depend on how much has come.
                    let over = || match most <= limits.head {
                        true => field_too_large(buffer.get(start..most).unwrap_or(&[]), limits.field_size),
                        false => Refusal::head_over_limit(limits.head),
                    };
                    if self.line_end(buffer, most.min(limits.head), over)?.is_none() {
                        return Ok(Found::Partial);
                    }
                    self.stage = Stage::LineStart;
                }
            }
        }
    }

    /// Looks for the end of the current line: the offset of its CRLF, if that has come, which may be no greater than
    /// `most`.
    fn line_end(
        &mut self,
        buffer: &[u8],
        most: usize,
        over: impl FnOnce() -> Refusal,
    ) -> Result<Option<usize>, Refusal> {
        let rest = buffer.get(self.at..).unwrap_or(&[]);
        let found = memchr2(b'\r', b'\n', rest);
        let end = self.at + found.unwrap_or(rest.len());
        // Before the byte at `end` is judged, so that a line is too long whatever comes behind the limit.
        if end > most.min(MAX_HEAD) {
            return Err(over());
        }
        self.at = end;
        Ok(self.line_feed(buffer)?.then_some(end))
    }

    /// Passes over the CRLF that should be next; says whether all of it has come.
    fn line_feed(&mut self, buffer: &[u8]) -> Result<bool, Refusal> {
        match (buffer.get(self.at), buffer.get(self.at + 1)) {
            (None, _) | (Some(b'\r'), None) => Ok(false),
            (Some(b'\r'), Some(b'\n')) => {
                self.at += 2;
                Ok(true)
            }
            (Some(b'\r'), Some(_)) => Err(Refusal::bad("a CR that no LF follows, in the head")),
            (Some(_), _) => Err(Refusal::bad("an LF that no CR precedes, in the head: lines end with CRLF")),
        }
    }
}

/// Names the likely cause, where there is one.
#[cold]
fn not_a_request(byte: u8) -> Refusal {
    Refusal::bad(match byte {
        // The record type of a ClientHello (RFC 8446 section 5.1).
        0x16 => {
            "no HTTP request but a TLS handshake: is the client using https on a plain http port?".to_string()
        }
        b'\r' | b'\n' => "an empty line instead of a request line".to_string(),
        byte => format!("a request line can't start with {}", quote(&[byte])),
    })
}

#[cold]
fn field_too_large(field: &[u8], limit: usize) -> Refusal {
    let name = field.split(|&byte| byte == b':').next().unwrap_or(field);
    Refusal::fields_too_large(format!("header field {} is larger than {limit} bytes", quote(name)))
}
