//! A request body's framing: Content-Length and chunked (RFC 9112 sections 6 and 7.1).

use super::chunked::Chunked;
use super::{Policy, Refusal};

/// How the body of a request is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyFraming {
    /// There is none.
    #[default]
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// What one call of [`BodyDecoder::decode`] made of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// How many bytes of the input were used up.
    pub consumed: usize,
    /// Whether the body, trailers included, has ended.
    pub done: bool,
}

/// Takes the framing off a request body, however the bytes come in.
#[derive(Debug, Clone)]
pub struct BodyDecoder {
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    /// So many bytes are left; none of a request without a body.
    Length(u64),
    Chunked(Chunked),
}

impl BodyDecoder {
    /// A decoder for a body with this framing.
    pub fn new(framing: BodyFraming) -> Self {
        BodyDecoder {
            state: match framing {
                BodyFraming::None => State::Length(0),
                BodyFraming::Length(length) => State::Length(length),
                BodyFraming::Chunked => State::Chunked(Chunked::default()),
            },
        }
    }

    /// Decodes `input`, which starts where the last call's `consumed` left off, and hands each stretch of content to
    /// `sink`. Never asks for more input than it needs; never consumes beyond the end of the body. What comes before
    /// that is all consumed, so that nothing needs to be kept for the next call.
    ///
    /// # Errors
    /// A [`Refusal`] for malformed chunk sizes, extensions, terminators or trailers, or ones over the limits. It is
    /// final: what the decoder would make of further input means nothing.
    pub fn decode(
        &mut self,
        input: &[u8],
        policy: &Policy,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Decoded, Refusal> {
        match &mut self.state {
            State::Length(left) => {
                let consumed = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= consumed as u64;
                if consumed > 0 {
                    sink(input.get(..consumed).unwrap_or(input));
                }
                Ok(Decoded { consumed, done: *left == 0 })
            }
            State::Chunked(chunked) => {
                let consumed = chunked.decode(input, policy, sink)?;
                Ok(Decoded { consumed, done: chunked.is_done() })
            }
        }
    }
}

#[cfg(test)]
mod tests;
