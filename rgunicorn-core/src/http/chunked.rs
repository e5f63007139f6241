//! The chunked coding (RFC 9112 section 7.1) as a state machine.
//!
//! ```text
//! chunked-body = *chunk last-chunk trailer-section CRLF
//! chunk        = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
//! chunk-ext    = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
//! ```
//!
//! It moves by one byte at a time, except over chunk data, and keeps nothing of what it has read but numbers and the
//! beginning of a trailer's name. So there is no line to be buffered, and how the bytes were split can't matter.

use super::grammar::{is_blank, is_tchar, is_text};
use super::{HeaderMap, Limits, Policy, Refusal};

/// What is expected next. `match (state, byte)` in [`Chunked::step`] is the table of transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// The first digit of a chunk size.
    #[default]
    SizeStart,
    /// More digits, an extension, or the end of the line.
    Size,
    /// Blanks were read behind the size: an extension must follow.
    SizeBlank,
    /// The name of an extension, blanks before it.
    ExtensionStart,
    /// The rest of its name.
    ExtensionName,
    /// Blanks were read behind the name: a value or another extension must follow.
    ExtensionNameBlank,
    /// The value of an extension, blanks before it.
    ValueStart,
    /// The rest of a value that is a token.
    Value,
    /// The inside of a quoted value.
    Quoted,
    /// A character behind a backslash there.
    QuotedPair,
    /// A value has ended: the line does, or another extension follows.
    ValueEnd,
    /// Blanks were read behind a value: another extension must follow.
    ValueBlank,
    /// The LF of the line.
    SizeLf,
    /// Chunk data; not for [`Chunked::step`].
    Data,
    /// The CR behind it.
    DataCr,
    /// The LF behind it.
    DataLf,
    /// The first byte of a trailer field, of a folded line, or of the last CRLF.
    TrailerStart,
    /// The rest of its name.
    TrailerName,
    /// Blanks were read behind the name, which `strip_header_spaces` permits: the colon must follow.
    TrailerNameBlank,
    /// Its value.
    TrailerValue,
    /// The LF of its line.
    TrailerLf,
    /// The LF of the last CRLF.
    LastLf,
    /// Nothing more.
    Done,
}

/// Fields that change framing, routing or authentication may not come behind the body (RFC 9110 section 6.5.1).
const FORBIDDEN_TRAILERS: [&str; 6] =
    ["host", "content-length", "transfer-encoding", "trailer", "authorization", "te"];
/// The length of the longest of them.
const LONGEST_FORBIDDEN: usize = 17;

/// Where in a chunked body we are.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunked {
    state: State,
    /// What is left of the current chunk.
    remaining: u64,
    /// Bytes of the current line, or of the current trailer field with its folded lines.
    line: usize,
    /// How many trailer fields have begun.
    trailers: usize,
    /// Of the current trailer field.
    name: Name,
}

/// As much of a trailer's name as is needed to judge it.
#[derive(Debug, Clone, Default)]
struct Name {
    beginning: [u8; LONGEST_FORBIDDEN],
    length: usize,
    underscore: bool,
}

impl Name {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.beginning.get_mut(self.length) {
            *place = byte;
        }
        self.length += 1;
        self.underscore |= byte == b'_';
    }

    fn is_forbidden(&self) -> bool {
        let name = self.beginning.get(..self.length).unwrap_or(&[]);
        FORBIDDEN_TRAILERS.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()))
    }
}

impl Chunked {
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes what it can of `input`, and says how many bytes of it that were.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        policy: &Policy,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, Refusal> {
        let limits = policy.limits.effective();
        let mut rest = input;
        while let Some((&byte, behind)) = rest.split_first() {
            match self.state {
                State::Done => break,
                State::Data => {
                    let length =
                        usize::try_from(self.remaining).map_or(rest.len(), |left| left.min(rest.len()));
                    let (data, behind) = rest.split_at(length);
                    sink(data);
                    rest = behind;
                    self.remaining -= length as u64;
                    if self.remaining == 0 {
                        self.state = State::DataCr;
                    }
                }
                _ => {
                    self.state = self.step(byte, policy, &limits)?;
                    rest = behind;
                }
            }
        }
        Ok(input.len() - rest.len())
    }

    /// Moves on by one byte of framing.
    fn step(&mut self, byte: u8, policy: &Policy, limits: &Limits) -> Result<State, Refusal> {
        self.check_line(byte, limits)?;
        Ok(match (self.state, byte) {
            (State::SizeStart | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.add_digit(byte)?;
                State::Size
            }
            (State::Size | State::SizeBlank, b';') => State::ExtensionStart,
            (State::Size | State::SizeBlank, b' ' | b'\t') => State::SizeBlank,
            (State::Size, b'\r') => State::SizeLf,

            (State::ExtensionStart, b' ' | b'\t') => State::ExtensionStart,
            (State::ExtensionStart | State::ExtensionName, byte) if is_tchar(byte) => State::ExtensionName,
            (State::ExtensionName | State::ExtensionNameBlank, b' ' | b'\t') => State::ExtensionNameBlank,
            (State::ExtensionName | State::ExtensionNameBlank, b';') => State::ExtensionStart,
            (State::ExtensionName | State::ExtensionNameBlank, b'=') => State::ValueStart,
            (State::ExtensionName, b'\r') => State::SizeLf,

            (State::ValueStart, b' ' | b'\t') => State::ValueStart,
            (State::ValueStart, b'"') => State::Quoted,
            (State::ValueStart | State::Value, byte) if is_tchar(byte) => State::Value,
            (State::Quoted, b'"') => State::ValueEnd,
            (State::Quoted, b'\\') => State::QuotedPair,
            (State::Quoted | State::QuotedPair, byte) if is_text(byte) => State::Quoted,
            (State::Value | State::ValueEnd | State::ValueBlank, b';') => State::ExtensionStart,
            (State::Value | State::ValueEnd | State::ValueBlank, b' ' | b'\t') => State::ValueBlank,
            (State::Value | State::ValueEnd, b'\r') => State::SizeLf,

            (State::SizeLf, b'\n') => {
                self.line = 0;
                if self.remaining == 0 { State::TrailerStart } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SizeStart,

            (State::TrailerStart, b'\r') => State::LastLf,
            (State::TrailerStart, byte) if is_tchar(byte) => {
                self.begin_trailer(byte, limits)?;
                State::TrailerName
            }
            (State::TrailerStart, b' ' | b'\t') if policy.permit_obsolete_folding && self.trailers > 0 => {
                State::TrailerValue
            }
            (State::TrailerName, byte) if is_tchar(byte) => {
                self.name.push(byte);
                State::TrailerName
            }
            (State::TrailerName | State::TrailerNameBlank, b':') => {
                self.check_trailer(policy)?;
                State::TrailerValue
            }
            (State::TrailerName | State::TrailerNameBlank, b' ' | b'\t') if policy.strip_header_spaces => {
                State::TrailerNameBlank
            }
            (State::TrailerValue, byte) if is_text(byte) => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::LastLf, b'\n') => State::Done,

            (state, byte) => return Err(unexpected(state, byte)),
        })
    }

    /// Counts the byte, and refuses it if its line, or its trailer field, has become too long.
    fn check_line(&mut self, byte: u8, limits: &Limits) -> Result<(), Refusal> {
        let size = limits.field_size;
        match self.state {
            State::DataCr | State::DataLf | State::LastLf | State::Data | State::Done => return Ok(()),
            // A new field, unless the line is folded; the last CRLF counts for nothing.
            State::TrailerStart if !is_blank(byte) => self.line = 0,
            _ => {}
        }
        self.line += 1;
        if self.line <= size {
            return Ok(());
        }
        Err(match self.state {
            State::TrailerStart
            | State::TrailerName
            | State::TrailerNameBlank
            | State::TrailerValue
            | State::TrailerLf => {
                Refusal::fields_too_large(format!("a trailer field is larger than {size} bytes"))
            }
            _ => Refusal::bad(format!("a chunk size line is longer than {size} bytes")),
        })
    }

    fn add_digit(&mut self, byte: u8) -> Result<(), Refusal> {
        let digit = char::from(byte).to_digit(16).unwrap_or(0);
        if self.remaining > u64::MAX >> 4 {
            return Err(Refusal::bad("a chunk size that doesn't fit into 64 bits"));
        }
        self.remaining = self.remaining << 4 | u64::from(digit);
        Ok(())
    }

    fn begin_trailer(&mut self, byte: u8, limits: &Limits) -> Result<(), Refusal> {
        self.trailers += 1;
        if self.trailers > limits.fields {
            return Err(Refusal::fields_too_large(format!("more than {} trailer fields", limits.fields)));
        }
        self.name = Name::default();
        self.name.push(byte);
        Ok(())
    }

    fn check_trailer(&self, policy: &Policy) -> Result<(), Refusal> {
        if self.name.is_forbidden() {
            let name = self.name.beginning.get(..self.name.length).unwrap_or(&[]);
            return Err(Refusal::bad(format!("{} is not allowed in trailers", name.escape_ascii())));
        }
        if self.name.underscore && policy.header_map == HeaderMap::Refuse {
            return Err(Refusal::bad("a trailer name has an underscore (header_map = refuse)"));
        }
        Ok(())
    }
}

/// What was expected instead.
#[cold]
fn unexpected(state: State, byte: u8) -> Refusal {
    let expected = match state {
        State::SizeStart | State::Size | State::SizeBlank => "invalid chunk size",
        State::ExtensionStart
        | State::ExtensionName
        | State::ExtensionNameBlank
        | State::ValueStart
        | State::Value
        | State::Quoted
        | State::QuotedPair
        | State::ValueEnd
        | State::ValueBlank => "invalid chunk extension",
        State::SizeLf => "a chunk size line that doesn't end with CRLF",
        State::Data | State::DataCr | State::DataLf | State::Done => "chunk data that doesn't end with CRLF",
        State::TrailerStart if is_blank(byte) => "a trailer field is folded over several lines",
        State::TrailerStart | State::TrailerName | State::TrailerNameBlank => "invalid trailer name",
        State::TrailerValue => "invalid character in a trailer",
        State::TrailerLf | State::LastLf => "a trailer line that doesn't end with CRLF",
    };
    Refusal::bad(format!("{expected}: unexpected byte '{}'", byte.escape_ascii()))
}
