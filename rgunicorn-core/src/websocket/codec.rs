//! The state of one WebSocket: messages put together and checked, pings answered, the closing handshake.

use super::contexts::Contexts;
use super::deflate::{Agreement, Broken, Deflate};
use super::frame::{self, Head, Opcode};
use super::{code, may_be_sent};

/// What a client has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message of text.
    Text(String),
    /// A message of bytes.
    Binary(Vec<u8>),
    /// The end: the client has closed, or must be given up; what it is to be told is part of the output.
    End {
        /// The client's code, or what was wrong.
        code: u16,
        /// In words.
        reason: String,
    },
}

/// A message in the making.
#[derive(Debug)]
struct Message {
    text: bool,
    compressed: bool,
    data: Vec<u8>,
    /// How much of it is known to be UTF-8.
    checked: usize,
}

/// One WebSocket. Give it what was [received](Self::receive), ask for the [next](Self::next) event, and send its
/// [output](Self::take_output).
#[derive(Debug)]
pub struct Codec {
    input: Vec<u8>,
    /// How much of the input was made use of.
    used: usize,
    output: Vec<u8>,
    /// The largest message, in bytes.
    most: usize,
    deflate: Option<Deflate>,
    /// The data frame that is being read, and how much of it was.
    frame: Option<(Head, u64)>,
    message: Option<Message>,
    close_sent: bool,
    close_heard: bool,
    ended: bool,
}

/// Why a client is given up.
struct Failure(u16, &'static str);

impl Codec {
    /// From messages of this size on, compression is worth its while.
    const WORTH_DEFLATING: usize = 64;

    /// A WebSocket that takes messages of at most `most` bytes; 0 is no limit.
    pub fn new(most: u64, deflate: Option<Agreement>, contexts: &Contexts) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Codec {
            input: Vec::new(),
            used: 0,
            output: Vec::new(),
            most: if most == 0 { usize::MAX - 1 } else { most },
            deflate: deflate.map(|agreement| Deflate::new(agreement, contexts)),
            frame: None,
            message: None,
            close_sent: false,
            close_heard: false,
            ended: false,
        }
    }

    /// Where received bytes are to be appended.
    pub fn receive(&mut self) -> &mut Vec<u8> {
        self.input.drain(..std::mem::take(&mut self.used));
        &mut self.input
    }

    /// Gives the buffer of what was received away, unless much of that has still to be looked at.
    pub fn take_buffer(&mut self) -> Option<Vec<u8>> {
        const LITTLE: usize = 1024;
        let rest = self.input.get(self.used..).unwrap_or(&[]);
        if rest.len() > LITTLE || self.input.capacity() <= LITTLE {
            return None;
        }
        let rest = rest.to_vec();
        self.used = 0;
        let mut buffer = std::mem::replace(&mut self.input, rest);
        buffer.clear();
        Some(buffer)
    }

    /// What the received bytes come to.
    #[expect(clippy::should_implement_trait, reason = "it goes on when more was received")]
    pub fn next(&mut self) -> Option<Event> {
        while !self.ended {
            match self.step() {
                Ok(Some(event)) => return Some(event),
                Ok(None) => return None,
                Err(None) => {}
                Err(Some(Failure(code, reason))) => {
                    self.close(code, reason);
                    self.ended = true;
                    return Some(Event::End { code, reason: reason.into() });
                }
            }
        }
        self.used = self.input.len();
        None
    }

    /// Reads one piece. `Err(None)` says that there may be another.
    fn step(&mut self) -> Result<Option<Event>, Option<Failure>> {
        if let Some((head, taken)) = self.frame {
            return self.data(head, taken);
        }
        let rest = self.input.get(self.used..).unwrap_or(&[]);
        let head = frame::read(rest, self.deflate.is_some())
            .map_err(|problem| Failure(code::PROTOCOL_ERROR, problem))?;
        let Some(head) = head else { return Ok(None) };
        if head.opcode.is_control() {
            let length = head.length as usize;
            let Some(payload) = rest.get(head.size..head.size + length) else { return Ok(None) };
            let mut payload = payload.to_vec();
            frame::unmask(&mut payload, head.mask, 0);
            self.used += head.size + length;
            return self.control(head.opcode, &payload);
        }
        self.used += head.size;
        match (&self.message, head.opcode) {
            (None, Opcode::Continuation) => {
                return Err(Some(Failure(code::PROTOCOL_ERROR, "a continuation of nothing")));
            }
            (Some(_), Opcode::Text | Opcode::Binary) => {
                return Err(Some(Failure(code::PROTOCOL_ERROR, "a message within a message")));
            }
            (None, opcode) => {
                let text = opcode == Opcode::Text;
                self.message =
                    Some(Message { text, compressed: head.compressed, data: Vec::new(), checked: 0 });
            }
            (Some(_), _) => {}
        }
        let begun = self.message.as_ref().map_or(0, |message| message.data.len());
        let compressed = self.message.as_ref().is_some_and(|message| message.compressed);
        if !compressed && head.length > self.most.saturating_sub(begun) as u64 {
            return Err(Some(Failure(code::TOO_BIG, "the message is too big")));
        }
        self.frame = Some((head, 0));
        Err(None)
    }

    /// Reads what has come of a data frame.
    fn data(&mut self, head: Head, taken: u64) -> Result<Option<Event>, Option<Failure>> {
        let left = usize::try_from(head.length - taken).unwrap_or(usize::MAX);
        let rest = self.input.get_mut(self.used..).unwrap_or(&mut []);
        let count = left.min(rest.len());
        let whole = count == left;
        if count == 0 && !whole {
            return Ok(None);
        }
        let piece = rest.get_mut(..count).unwrap_or(&mut []);
        frame::unmask(piece, head.mask, taken);
        let Some(message) = &mut self.message else { return Err(None) };
        let last = whole && head.last;
        match &mut self.deflate {
            Some(deflate) if message.compressed => {
                deflate.inflate(piece, last, &mut message.data, self.most).map_err(
                    |broken| match broken {
                        Broken::Data => Failure(code::INVALID_DATA, "the message can't be decompressed"),
                        Broken::TooBig => Failure(code::TOO_BIG, "the message is too big"),
                    },
                )?;
            }
            _ => message.data.extend_from_slice(piece),
        }
        self.used += count;
        self.frame = (!whole).then_some((head, taken + count as u64));
        if message.text {
            check(message, last)?;
        }
        if !last {
            return if whole { Err(None) } else { Ok(None) };
        }
        match self.message.take() {
            Some(message) if message.text => {
                let text = String::from_utf8(message.data);
                text.map(|text| Some(Event::Text(text))).map_err(|_| Some(NOT_UTF8))
            }
            Some(message) => Ok(Some(Event::Binary(message.data))),
            None => Err(None),
        }
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8]) -> Result<Option<Event>, Option<Failure>> {
        match opcode {
            Opcode::Ping if !self.close_sent => {
                frame::write(&mut self.output, Opcode::Pong, false, payload.len());
                self.output.extend_from_slice(payload);
                Err(None)
            }
            Opcode::Close => {
                self.close_heard = true;
                let (code, reason) = match payload {
                    [] => (code::NO_STATUS, ""),
                    [_] => return Err(Some(Failure(code::PROTOCOL_ERROR, "half a close code"))),
                    [high, low, reason @ ..] => {
                        let code = u16::from_be_bytes([*high, *low]);
                        if !may_be_sent(code) {
                            return Err(Some(Failure(
                                code::PROTOCOL_ERROR,
                                "a close code that means nothing",
                            )));
                        }
                        (code, std::str::from_utf8(reason).map_err(|_| NOT_UTF8)?)
                    }
                };
                self.ended = true;
                let end = Event::End { code, reason: reason.into() };
                self.close(code, "");
                Ok(Some(end))
            }
            _ => Err(None),
        }
    }

    /// Sends a message of text.
    pub fn text(&mut self, text: &str) {
        self.message(Opcode::Text, text.as_bytes());
    }

    /// Sends a message of bytes.
    pub fn binary(&mut self, bytes: &[u8]) {
        self.message(Opcode::Binary, bytes);
    }

    fn message(&mut self, opcode: Opcode, bytes: &[u8]) {
        if self.close_sent {
            return;
        }
        let deflate = self.deflate.as_mut().filter(|_| bytes.len() >= Self::WORTH_DEFLATING);
        if let Some(compressed) = deflate.and_then(|deflate| deflate.deflate(bytes)) {
            frame::write(&mut self.output, opcode, true, compressed.len());
            self.output.extend_from_slice(&compressed);
        } else {
            frame::write(&mut self.output, opcode, false, bytes.len());
            self.output.extend_from_slice(bytes);
        }
    }

    /// Asks the client whether it is there.
    pub fn ping(&mut self) {
        if !self.close_sent {
            frame::write(&mut self.output, Opcode::Ping, false, 0);
        }
    }

    /// Begins, or answers, the closing handshake. A reason is cut where it is too long for a control frame.
    pub fn close(&mut self, code: u16, reason: &str) {
        if std::mem::replace(&mut self.close_sent, true) {
            return;
        }
        if code == code::NO_STATUS {
            return frame::write(&mut self.output, Opcode::Close, false, 0);
        }
        let reason = reason.get(..reason.floor_char_boundary_at(123)).unwrap_or_default();
        frame::write(&mut self.output, Opcode::Close, false, 2 + reason.len());
        self.output.extend_from_slice(&code.to_be_bytes());
        self.output.extend_from_slice(reason.as_bytes());
    }

    /// Whether a close frame was sent.
    pub fn has_closed(&self) -> bool {
        self.close_sent
    }

    /// Whether the client has sent one.
    pub fn has_heard_close(&self) -> bool {
        self.close_heard
    }

    /// What is to be sent.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }
}

const NOT_UTF8: Failure = Failure(code::INVALID_DATA, "the text is not UTF-8");

/// Checks what has come of a text, so that a client is told of a fault as soon as it is there.
fn check(message: &mut Message, last: bool) -> Result<(), Failure> {
    match std::str::from_utf8(message.data.get(message.checked..).unwrap_or(&[])) {
        Ok(_) => message.checked = message.data.len(),
        Err(error) if error.error_len().is_none() && !last => message.checked += error.valid_up_to(),
        Err(_) => return Err(NOT_UTF8),
    }
    Ok(())
}

/// `str::floor_char_boundary` is newer than the Rust that we ask for.
trait Boundary {
    fn floor_char_boundary_at(&self, most: usize) -> usize;
}

impl Boundary for str {
    fn floor_char_boundary_at(&self, most: usize) -> usize {
        let most = most.min(self.len());
        (0..=most).rev().find(|index| self.is_char_boundary(*index)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first, 0x80 | payload.len() as u8, 1, 2, 3, 4];
        let mut payload = payload.to_vec();
        frame::unmask(&mut payload, [1, 2, 3, 4], 0);
        out.extend(payload);
        out
    }

    fn events(codec: &mut Codec, bytes: &[u8]) -> Vec<Event> {
        codec.receive().extend_from_slice(bytes);
        std::iter::from_fn(|| codec.next()).collect()
    }

    fn end(code: u16) -> impl Fn(&Event) -> bool {
        move |event| matches!(event, Event::End { code: found, .. } if *found == code)
    }

    #[test]
    fn messages_come_byte_by_byte_in_fragments_with_pings_between() {
        let mut codec = Codec::new(0, None, &Contexts::default());
        let parts = [
            frame(0x01, b"Gr\xc3"),
            frame(0x89, b"ping"),
            frame(0x80, b"\xbc\xc3\x9fe"),
            frame(0x82, b"\0\xff"),
        ];
        let mut found = Vec::new();
        for byte in parts.concat() {
            found.extend(events(&mut codec, &[byte]));
        }
        assert_eq!(found, [Event::Text("Grüße".into()), Event::Binary(vec![0, 255])]);
        assert_eq!(codec.take_output(), b"\x8a\x04ping");
    }

    #[test]
    fn a_close_is_answered_once_and_ends_it() {
        let mut codec = Codec::new(0, None, &Contexts::default());
        let close = frame(0x88, b"\x03\xe8bye");
        let found = events(&mut codec, &[close, frame(0x81, b"late")].concat());
        assert_eq!(found, [Event::End { code: 1000, reason: "bye".into() }]);
        assert_eq!(codec.take_output(), b"\x88\x02\x03\xe8");
        codec.close(1001, "again");
        codec.text("no more");
        assert_eq!(codec.take_output(), b"");
        let mut codec = Codec::new(0, None, &Contexts::default());
        assert!(events(&mut codec, &frame(0x88, b"")).iter().all(end(1005)));
        assert_eq!(codec.take_output(), b"\x88\x00");
    }

    #[test]
    fn what_breaks_the_rules_ends_it_with_a_code() {
        for (bytes, code) in [
            (frame(0x80, b"x"), 1002),
            ([frame(0x01, b"x"), frame(0x81, b"y")].concat(), 1002),
            (frame(0x81, b"\xff"), 1007),
            (frame(0x81, b"\xc3"), 1007),
            ([frame(0x01, b"a\xed"), frame(0x00, b"\xa0\x80")].concat(), 1007),
            (frame(0x88, b"\x03"), 1002),
            (frame(0x88, b"\x03\xed"), 1002),
            (frame(0x88, b"\x03\xe8\xff"), 1007),
            (frame(0x82, &[0; 101]), 1009),
            ([frame(0x02, &[0; 60]), frame(0x80, &[0; 60])].concat(), 1009),
        ] {
            let mut codec = Codec::new(100, None, &Contexts::default());
            let found = events(&mut codec, &bytes);
            assert!(found.len() == 1 && found.iter().all(end(code)), "{bytes:?}: {found:?}");
            assert!(codec.has_closed());
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut codec = Codec::new(0, None, &Contexts::default());
        codec.close(1000, &"ä".repeat(100));
        let output = codec.take_output();
        assert_eq!(output.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&output[4..]).is_ok());
    }

    #[test]
    fn compressed_messages_are_understood_and_sent() {
        let agreement = Agreement::from_offers("permessage-deflate");
        let contexts = Contexts::default();
        let mut codec = Codec::new(100_000, agreement, &contexts);
        let mut peer = Deflate::new(agreement.unwrap(), &contexts);
        for _ in 0..3 {
            let compressed = peer.deflate(b"Hello, Hello, Hello").unwrap();
            let (one, two) = compressed.split_at(4);
            let found = events(&mut codec, &[frame(0x41, one), frame(0x80, two)].concat());
            assert_eq!(found, [Event::Text("Hello, Hello, Hello".into())]);
        }
        codec.binary(&[7; 5000]);
        let output = codec.take_output();
        assert_eq!(output[0], 0xc2);
        let mut back = Vec::new();
        peer.inflate(&output[2..], true, &mut back, 10_000).unwrap();
        assert_eq!(back, [7; 5000]);
    }
}
