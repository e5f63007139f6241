//! The extension permessage-deflate (RFC 7692), a server's side.
//!
//! Our window has its full size and is kept from message to message, unless the client says otherwise.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What a sync flush ends with, and a message leaves out.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Agreement {
    /// We forget our window after each message.
    pub(super) server_no_context_takeover: bool,
    /// The client does.
    pub(super) client_no_context_takeover: bool,
    /// How large the client lets our window be: the power of two.
    pub(super) server_max_window_bits: Option<u8>,
}

impl Agreement {
    /// The first of the client's offers that can be met; none if there is none.
    pub fn from_offers(offers: &str) -> Option<Agreement> {
        offers.split(',').find_map(|offer| {
            let mut parts = offer.split(';').map(str::trim);
            if parts.next() != Some("permessage-deflate") {
                return None;
            }
            let mut agreement = Agreement::default();
            let mut seen = Vec::new();
            for part in parts {
                let (name, value) = match part.split_once('=') {
                    Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
                    None => (part, None),
                };
                if seen.contains(&name) {
                    return None;
                }
                seen.push(name);
                match (name, value) {
                    ("server_no_context_takeover", None) => agreement.server_no_context_takeover = true,
                    ("client_no_context_takeover", None) => agreement.client_no_context_takeover = true,
                    // How small its window is, is the client's business.
                    ("client_max_window_bits", None) => {}
                    ("client_max_window_bits", Some(bits)) if window(bits) => {}
                    // zlib has none of 256 bytes.
                    ("server_max_window_bits", Some(bits)) if window(bits) && bits != "8" => {
                        agreement.server_max_window_bits = bits.parse().ok();
                    }
                    _ => return None,
                }
            }
            Some(agreement)
        })
    }

    /// The value of `Sec-WebSocket-Extensions` in the answer.
    pub(super) fn answer(self) -> String {
        let mut answer = "permessage-deflate".to_string();
        if self.server_no_context_takeover {
            answer.push_str("; server_no_context_takeover");
        }
        if self.client_no_context_takeover {
            answer.push_str("; client_no_context_takeover");
        }
        if let Some(bits) = self.server_max_window_bits {
            answer.push_str(&format!("; server_max_window_bits={bits}"));
        }
        answer
    }
}

fn window(bits: &str) -> bool {
    matches!(bits, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15")
}

/// Compresses and decompresses the messages of one WebSocket.
#[derive(Debug)]
pub(super) struct Deflate {
    agreement: Agreement,
    /// Each has some 100 KiB of memory, and is made when it is first needed.
    compress: Option<Compress>,
    decompress: Option<Decompress>,
}

/// Why something can't be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Data,
    TooBig,
}

impl Deflate {
    pub(super) fn new(agreement: Agreement) -> Self {
        Deflate { agreement, compress: None, decompress: None }
    }

    /// A message, compressed; none if that can't be done.
    pub(super) fn deflate(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let bits = self.agreement.server_max_window_bits.unwrap_or(15);
        let compress = self
            .compress
            .get_or_insert_with(|| Compress::new_with_window_bits(Compression::new(6), false, bits));
        if self.agreement.server_no_context_takeover {
            compress.reset();
        }
        let mut out = Vec::with_capacity(plain.len() / 2 + 64);
        let before = compress.total_in();
        loop {
            let used = usize::try_from(compress.total_in() - before).ok()?;
            let rest = plain.get(used..)?;
            compress.compress_vec(rest, &mut out, FlushCompress::Sync).ok()?;
            let used = usize::try_from(compress.total_in() - before).ok()?;
            // Room that is left says that the flush is complete.
            if used == plain.len() && out.len() < out.capacity() {
                break;
            }
            out.reserve(out.capacity().max(1024));
        }
        if out.ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
        Some(out)
    }

    /// Appends what a piece of a message stands for to `out`, which may become `most` bytes long; `last` says that the
    /// message ends with it.
    pub(super) fn inflate(
        &mut self,
        piece: &[u8],
        last: bool,
        out: &mut Vec<u8>,
        most: usize,
    ) -> Result<(), Broken> {
        self.inflate_piece(piece, out, most)?;
        if last {
            self.inflate_piece(&TAIL, out, most)?;
            if self.agreement.client_no_context_takeover
                && let Some(decompress) = &mut self.decompress
            {
                decompress.reset(false);
            }
        }
        Ok(())
    }

    fn inflate_piece(&mut self, piece: &[u8], out: &mut Vec<u8>, most: usize) -> Result<(), Broken> {
        let decompress = self.decompress.get_or_insert_with(|| Decompress::new(false));
        let mut rest = piece;
        loop {
            // One byte more than is allowed shows that there is too much.
            let room =
                most.saturating_add(1).saturating_sub(out.len()).min(rest.len().saturating_mul(4).max(1024));
            out.reserve_exact(room);
            let (before_in, before_out) = (decompress.total_in(), out.len());
            let status =
                decompress.decompress_vec(rest, out, FlushDecompress::Sync).map_err(|_| Broken::Data)?;
            if out.len() > most {
                return Err(Broken::TooBig);
            }
            let used = usize::try_from(decompress.total_in() - before_in).map_err(|_| Broken::Data)?;
            rest = rest.get(used..).unwrap_or(&[]);
            if status == Status::StreamEnd {
                // A block that says it is the last one: the next message begins a new stream.
                decompress.reset(false);
            }
            let full = out.len() == out.capacity();
            if rest.is_empty() && !full {
                return Ok(());
            }
            if used == 0 && out.len() == before_out && !full && status != Status::StreamEnd {
                return Err(Broken::Data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_met_or_left() {
        let agreed = |offers: &str| Agreement::from_offers(offers).map(Agreement::answer);
        let plain = Some("permessage-deflate".to_string());
        assert_eq!(agreed("permessage-deflate; client_max_window_bits"), plain);
        assert_eq!(agreed("x-other, permessage-deflate"), plain);
        assert_eq!(agreed("permessage-deflate; server_max_window_bits=8, permessage-deflate"), plain);
        let small = "permessage-deflate; server_max_window_bits=10";
        assert_eq!(agreed(small).as_deref(), Some(small));
        let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(agreed(both).as_deref(), Some(both));
        for offers in
            ["", "x-other", "permessage-deflate; unknown", "permessage-deflate; client_max_window_bits=99"]
        {
            assert_eq!(agreed(offers), None, "{offers}");
        }
    }

    #[test]
    fn messages_come_back_whole_and_in_pieces() {
        for agreement in [
            Agreement::default(),
            Agreement {
                server_no_context_takeover: true,
                client_no_context_takeover: true,
                server_max_window_bits: Some(9),
            },
        ] {
            let (mut ours, mut theirs) = (Deflate::new(agreement), Deflate::new(agreement));
            for message in
                [&b""[..], b"Hello", &[b'a'; 300_000], &(0..=255).cycle().take(70_000).collect::<Vec<u8>>()]
            {
                let compressed = ours.deflate(message).unwrap();
                let mut out = Vec::new();
                for piece in compressed.chunks(7) {
                    theirs.inflate(piece, false, &mut out, 1 << 20).unwrap();
                }
                theirs.inflate(b"", true, &mut out, 1 << 20).unwrap();
                assert!(out == message, "{} bytes", message.len());
            }
        }
    }

    #[test]
    fn a_bomb_and_garbage_are_refused() {
        let bomb = Deflate::new(Agreement::default()).deflate(&vec![0; 1 << 20]).unwrap();
        let mut out = Vec::new();
        let mut deflate = Deflate::new(Agreement::default());
        assert_eq!(deflate.inflate(&bomb, true, &mut out, 1000), Err(Broken::TooBig));
        assert!(out.capacity() < 4096, "{}", out.capacity());
        let mut deflate = Deflate::new(Agreement::default());
        assert_eq!(deflate.inflate(&[0xff; 20], true, &mut Vec::new(), 1000), Err(Broken::Data));
    }
}
