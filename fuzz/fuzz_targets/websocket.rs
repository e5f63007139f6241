//! WebSockets. However the bytes come in, the events and the answers are the same, and no message is larger than may be.
//!
//! The first byte chooses the extension and the limit, the second where the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgunicorn_core::websocket::handshake::Agreement;
use rgunicorn_core::websocket::{Codec, Contexts, Event, code};

fuzz_target!(|input: &[u8]| {
    let [flags, cut, bytes @ ..] = input else { return };
    let most = if flags & 1 == 1 { 100 } else { 70_000 };
    let agreement = (flags & 2 == 2).then(|| Agreement::from_offers("permessage-deflate")).flatten();
    // Shared by both, as by all WebSockets of a worker.
    let contexts = Contexts::default();
    let receive = |size: usize| receive(bytes, size.max(1), Codec::new(most, agreement, &contexts), most);
    let (whole, answers) = receive(bytes.len());
    let (pieces, to_pieces) = receive(usize::from(*cut));
    // Of two faults in one message, that one is found that comes first.
    if has_failed(&whole) && has_failed(&pieces) {
        assert_eq!(whole.split_last().map(|parts| parts.1), pieces.split_last().map(|parts| parts.1));
    } else {
        assert_eq!((whole, answers), (pieces, to_pieces));
    }
});

fn has_failed(events: &[Event]) -> bool {
    matches!(
        events.last(),
        Some(Event::End { code: code::PROTOCOL_ERROR | code::INVALID_DATA | code::TOO_BIG, .. })
    )
}

/// The events, and the bytes of the answers.
fn receive(bytes: &[u8], size: usize, mut codec: Codec, most: u64) -> (Vec<Event>, Vec<u8>) {
    let mut events = Vec::new();
    for piece in bytes.chunks(size) {
        codec.receive().extend_from_slice(piece);
        while let Some(event) = codec.next() {
            let length = match &event {
                Event::Text(text) => text.len(),
                Event::Binary(bytes) => bytes.len(),
                Event::End { reason, .. } => reason.len(),
            };
            assert!(length as u64 <= most.max(125), "{length} bytes");
            assert!(!matches!(events.last(), Some(Event::End { .. })), "after the end: {event:?}");
            events.push(event);
        }
    }
    (events, codec.take_output())
}
