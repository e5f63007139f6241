//! The extension permessage-deflate (RFC 7692), a server's side: what is agreed on, and messages compressed and decompressed.
//!
//! Both directions refer to earlier messages, unless the client says otherwise. What that takes is not what zlib keeps for a
//! stream, some 300 KiB: it is the bytes that may be referred to. A WebSocket keeps those, few, and borrows the rest for a
//! message from [`Contexts`](super::contexts::Contexts).

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::contexts::{Contexts, Owner};

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
    /// How large we let the client's be, where it lets us say so.
    pub(super) client_max_window_bits: Option<u8>,
}

/// How far back we let a client refer, as a power of two: we have to keep so much of what it has sent.
const CLIENT_WINDOW: u8 = 12;
/// How much of what we have sent is kept to refer to.
const SENT: usize = 4096;

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
                    ("client_max_window_bits", None) => {
                        agreement.client_max_window_bits = Some(CLIENT_WINDOW);
                    }
                    // zlib has none of 256 bytes: what a client that names it means is anybody's guess.
                    ("client_max_window_bits", Some("8")) => {}
                    ("client_max_window_bits", Some(bits)) if window(bits) => {
                        agreement.client_max_window_bits =
                            bits.parse().ok().map(|bits: u8| bits.min(CLIENT_WINDOW));
                    }
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
        if let Some(bits) = self.client_max_window_bits {
            answer.push_str(&format!("; client_max_window_bits={bits}"));
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
    contexts: Contexts,
    owner: Owner,
    /// Ours for as long as a message is incomplete.
    decompress: Option<Decompress>,
    /// The end of what the client has sent, and of what we have.
    received: History,
    sent: History,
}

/// The last bytes of a direction, decompressed.
#[derive(Debug)]
struct History {
    bytes: Vec<u8>,
    most: usize,
}

impl History {
    fn new(most: usize) -> Self {
        History { bytes: Vec::new(), most }
    }

    fn add(&mut self, message: &[u8]) {
        let message = message.get(message.len().saturating_sub(self.most)..).unwrap_or(message);
        let surplus = (self.bytes.len() + message.len()).saturating_sub(self.most);
        self.bytes.drain(..surplus);
        self.bytes.reserve_exact(message.len());
        self.bytes.extend_from_slice(message);
    }
}

/// Why something can't be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Data,
    TooBig,
}

impl Deflate {
    pub(super) fn new(agreement: Agreement, contexts: &Contexts) -> Self {
        let window = |bits: Option<u8>| 1 << bits.unwrap_or(15);
        let kept = |forgets: bool, window: usize| History::new(if forgets { 0 } else { window });
        Deflate {
            agreement,
            contexts: contexts.clone(),
            owner: contexts.owner(),
            decompress: None,
            received: kept(agreement.client_no_context_takeover, window(agreement.client_max_window_bits)),
            sent: kept(
                agreement.server_no_context_takeover,
                window(agreement.server_max_window_bits).min(SENT),
            ),
        }
    }

    /// A message, compressed; none if that can't be done.
    pub(super) fn deflate(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let bits = self.agreement.server_max_window_bits.unwrap_or(15);
        let (mut compress, ours) = self.contexts.compressor(self.owner, bits);
        if !ours || self.agreement.server_no_context_takeover {
            compress.reset();
            if !self.sent.bytes.is_empty() {
                compress.set_dictionary(&self.sent.bytes).ok()?;
            }
        }
        let compressed = compress_message(&mut compress, plain)?;
        self.contexts.keep_compressor(self.owner, bits, compress);
        self.sent.add(plain);
        Some(compressed)
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
        let mut decompress = match self.decompress.take() {
            Some(decompress) => decompress,
            None => self.borrow_decompressor()?,
        };
        inflate_piece(&mut decompress, piece, out, most)?;
        if last {
            inflate_piece(&mut decompress, &TAIL, out, most)?;
            self.received.add(out);
            self.contexts.keep_decompressor(self.owner, decompress);
        } else {
            self.decompress = Some(decompress);
        }
        Ok(())
    }

    /// A decompressor that knows what came before.
    fn borrow_decompressor(&self) -> Result<Decompress, Broken> {
        let (mut decompress, ours) = self.contexts.decompressor(self.owner);
        if !ours || self.agreement.client_no_context_takeover {
            decompress.reset(false);
            if !self.received.bytes.is_empty() {
                decompress.set_dictionary(&self.received.bytes).map_err(|_| Broken::Data)?;
            }
        }
        Ok(decompress)
    }
}

fn compress_message(compress: &mut Compress, plain: &[u8]) -> Option<Vec<u8>> {
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

fn inflate_piece(
    decompress: &mut Decompress,
    piece: &[u8],
    out: &mut Vec<u8>,
    most: usize,
) -> Result<(), Broken> {
    let mut rest = piece;
    loop {
        // One byte more than is allowed shows that there is too much.
        let room =
            most.saturating_add(1).saturating_sub(out.len()).min(rest.len().saturating_mul(4).max(1024));
        out.reserve_exact(room);
        let (before_in, before_out) = (decompress.total_in(), out.len());
        let status = decompress.decompress_vec(rest, out, FlushDecompress::Sync).map_err(|_| Broken::Data)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// One with contexts of its own.
    fn alone(agreement: Agreement) -> Deflate {
        Deflate::new(agreement, &Contexts::default())
    }

    #[test]
    fn an_offer_is_met_or_left() {
        let agreed = |offers: &str| Agreement::from_offers(offers).map(Agreement::answer);
        let plain = Some("permessage-deflate".to_string());
        assert_eq!(agreed("permessage-deflate"), plain);
        for (offered, bits) in [("", 12), ("=15", 12), ("=10", 10)] {
            let answer = format!("permessage-deflate; client_max_window_bits={bits}");
            assert_eq!(agreed(&format!("permessage-deflate; client_max_window_bits{offered}")), Some(answer));
        }
        assert_eq!(agreed("permessage-deflate; client_max_window_bits=8"), plain);
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
                client_max_window_bits: None,
            },
        ] {
            let (mut ours, mut theirs) = (alone(agreement), alone(agreement));
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
        let bomb = alone(Agreement::default()).deflate(&vec![0; 1 << 20]).unwrap();
        let mut out = Vec::new();
        let mut deflate = alone(Agreement::default());
        assert_eq!(deflate.inflate(&bomb, true, &mut out, 1000), Err(Broken::TooBig));
        assert!(out.capacity() < 4096, "{}", out.capacity());
        let mut deflate = alone(Agreement::default());
        assert_eq!(deflate.inflate(&[0xff; 20], true, &mut Vec::new(), 1000), Err(Broken::Data));
    }

    #[test]
    fn many_share_few_contexts_and_still_refer_to_what_came_before() {
        let agreements = [
            Agreement::default(),
            Agreement { client_max_window_bits: Some(12), ..Agreement::default() },
            Agreement {
                server_max_window_bits: Some(9),
                client_max_window_bits: Some(9),
                ..Agreement::default()
            },
        ];
        for agreement in agreements {
            // What the client compresses has the window that we have allowed: ours is made to be as small.
            let client = Agreement {
                server_max_window_bits: agreement.client_max_window_bits,
                client_max_window_bits: agreement.server_max_window_bits,
                ..agreement
            };
            let contexts = Contexts::default();
            let mut pairs: Vec<_> =
                (0..100).map(|_| (Deflate::new(agreement, &contexts), alone(client))).collect();
            for round in 0..4 {
                for (number, (server, client)) in pairs.iter_mut().enumerate() {
                    let message = |from: &str| {
                        let text = format!(
                            "{from} {number} says: {}",
                            "so many words, and more of them; ".repeat(9)
                        );
                        text.into_bytes()
                    };
                    let sent = client.deflate(&message("client")).unwrap();
                    let mut out = Vec::new();
                    // In two frames, with others in between.
                    let (one, two) = sent.split_at(sent.len() / 2);
                    server.inflate(one, false, &mut out, 1 << 20).unwrap();
                    let mut other = Vec::new();
                    let hello = alone(client.agreement).deflate(b"hello").unwrap();
                    Deflate::new(agreement, &contexts).inflate(&hello, true, &mut other, 100).unwrap();
                    assert_eq!(other, b"hello");
                    server.inflate(two, true, &mut out, 1 << 20).unwrap();
                    assert!(out == message("client"), "{agreement:?} {round} {number}");
                    let answer = server.deflate(&message("server")).unwrap();
                    let mut out = Vec::new();
                    client.inflate(&answer, true, &mut out, 1 << 20).unwrap();
                    assert!(out == message("server"), "{agreement:?} {round} {number}");
                    // The second time it is known by heart.
                    assert!(round == 0 || answer.len() < 30, "{agreement:?} {round}: {} bytes", answer.len());
                }
            }
        }
    }

    #[test]
    fn an_idle_one_keeps_little() {
        let agreement = Agreement::from_offers("permessage-deflate; client_max_window_bits").unwrap();
        let mut deflate = alone(agreement);
        let mut peer = alone(agreement);
        for round in 0..50_u32 {
            let message: Vec<u8> =
                (0..3000_u32).map(|byte| (byte.wrapping_mul(round + 7) >> 3) as u8).collect();
            let compressed = peer.deflate(&message).unwrap();
            deflate.inflate(&compressed, true, &mut Vec::new(), 1 << 20).unwrap();
            deflate.deflate(&message).unwrap();
        }
        assert!(deflate.decompress.is_none());
        let kept = deflate.received.bytes.capacity() + deflate.sent.bytes.capacity();
        assert!(kept <= 16 * 1024, "{kept}");
    }
}
