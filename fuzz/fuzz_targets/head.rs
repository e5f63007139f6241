//! Request heads. However the bytes come in, the head is the same one; and what it says lies within it.
//!
//! The first byte chooses the relaxing settings, the second where the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgunicorn_core::http::{BodyFraming, HeadReader, HeaderMap, Policy, Refusal, RequestHead, Span};

fuzz_target!(|input: &[u8]| {
    let [flags, cut, bytes @ ..] = input else { return };
    let flag = |bit: u8| flags >> bit & 1 == 1;
    let policy = Policy {
        permit_obsolete_folding: flag(0),
        strip_header_spaces: flag(1),
        permit_unconventional_http_method: flag(2),
        permit_unconventional_http_version: flag(3),
        casefold_http_method: flag(4),
        header_map: [HeaderMap::Drop, HeaderMap::Refuse, HeaderMap::Dangerous][usize::from(flags >> 5) % 3],
        ..Policy::default()
    };
    let trusted = flag(7);
    let whole = read(bytes, bytes.len().max(1), &policy, trusted);
    let pieces = read(bytes, usize::from(*cut).max(1), &policy, trusted);
    match (&whole, &pieces) {
        (Ok(None), Ok(None)) => {}
        (Ok(Some(a)), Ok(Some(b))) => assert_eq!(format!("{a:?}"), format!("{b:?}")),
        (Err(a), Err(b)) => assert_eq!((a.status, a.to_string()), (b.status, b.to_string())),
        _ => panic!("{whole:?} in one piece, {pieces:?} in several"),
    }
});

/// The head at the beginning of `bytes`, with its buffer, if there is a whole one; they come `size` at a time.
fn read(
    bytes: &[u8],
    size: usize,
    policy: &Policy,
    trusted: bool,
) -> Result<Option<(RequestHead, Vec<u8>)>, Refusal> {
    let (mut reader, mut head, mut buffer) = (HeadReader::default(), RequestHead::default(), Vec::new());
    for piece in bytes.chunks(size) {
        buffer.extend_from_slice(piece);
        if reader.read(&mut buffer, &mut head, policy, trusted)? {
            check(&head, &buffer);
            buffer.truncate(head.len);
            return Ok(Some((head, buffer)));
        }
    }
    Ok(None)
}

fn check(head: &RequestHead, buffer: &[u8]) {
    assert!(head.len <= buffer.len());
    let text = |span: &Span| {
        assert!(span.start <= span.end && span.end as usize <= head.len, "{span:?} of {}", head.len);
        span.of(buffer)
    };
    let visible = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_graphic);
    assert!(!text(&head.method).is_empty() && visible(text(&head.method)));
    assert!(!text(&head.target).is_empty() && visible(text(&head.target)));
    assert!(visible(text(&head.path)) && visible(text(&head.query)));
    for header in &head.headers {
        let (name, value) = (text(&header.name), text(&header.value));
        assert!(!name.is_empty() && visible(name) && !name.contains(&b':'), "{name:?}");
        assert!(!value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f), "{value:?}");
    }
    let fields = |wanted: &[u8]| {
        head.headers.iter().filter(|header| header.name.of(buffer).eq_ignore_ascii_case(wanted)).count()
    };
    match head.body {
        BodyFraming::None => assert_eq!(fields(b"transfer-encoding"), 0),
        BodyFraming::Length(_) => {
            assert_eq!((fields(b"content-length"), fields(b"transfer-encoding")), (1, 0));
        }
        BodyFraming::Chunked => {
            assert_eq!((fields(b"content-length"), fields(b"transfer-encoding")), (0, 1));
        }
    }
}
