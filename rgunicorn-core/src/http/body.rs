//! A request body's framing: Content-Length and chunked (RFC 9112 sections 6 and 7.1).

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
    framing: BodyFraming,
}

impl BodyDecoder {
    /// A decoder for a body with this framing.
    pub fn new(framing: BodyFraming) -> Self {
        BodyDecoder { framing }
    }

    /// Decodes `input`, which starts where the last call's `consumed` left off, and hands each stretch of content to
    /// `sink`. Never asks for more input than it needs; never consumes beyond the end of the body.
    ///
    /// # Errors
    /// A [`Refusal`] for malformed chunk sizes, extensions, terminators or trailers, or ones over the limits.
    pub fn decode(
        &mut self,
        input: &[u8],
        policy: &Policy,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Decoded, Refusal> {
        let _ = (input, policy, sink, self.framing);
        todo!()
    }
}
