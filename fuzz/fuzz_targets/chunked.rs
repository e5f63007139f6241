//! Bodies in chunks. However the bytes come in, the content is the same, and so is where it ends.
//!
//! The first byte chooses the relaxing settings, the second where the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgunicorn_core::http::{BodyDecoder, BodyFraming, HeaderMap, Policy, Refusal};

fuzz_target!(|input: &[u8]| {
    let [flags, cut, bytes @ ..] = input else { return };
    let policy = Policy {
        permit_obsolete_folding: flags & 1 == 1,
        strip_header_spaces: flags & 2 == 2,
        header_map: if flags & 4 == 4 { HeaderMap::Refuse } else { HeaderMap::Drop },
        ..Policy::default()
    };
    let whole = decode(bytes, bytes.len().max(1), &policy);
    let pieces = decode(bytes, usize::from(*cut).max(1), &policy);
    match (&whole, &pieces) {
        (Ok(a), Ok(b)) => assert_eq!(a, b),
        (Err(a), Err(b)) => assert_eq!((a.status, a.to_string()), (b.status, b.to_string())),
        _ => panic!("{whole:?} in one piece, {pieces:?} in several"),
    }
});

/// The content, how many bytes it took, and whether it has ended.
fn decode(bytes: &[u8], size: usize, policy: &Policy) -> Result<(Vec<u8>, usize, bool), Refusal> {
    let (mut decoder, mut content) = (BodyDecoder::new(BodyFraming::Chunked), Vec::new());
    let (mut consumed, mut done) = (0, false);
    for piece in bytes.chunks(size) {
        let decoded = decoder.decode(piece, policy, &mut |part| content.extend_from_slice(part))?;
        consumed += decoded.consumed;
        done = decoded.done;
        assert!(decoded.consumed <= piece.len());
        if done {
            break;
        }
        assert_eq!(decoded.consumed, piece.len(), "what comes before the end is all taken");
    }
    assert!(content.len() <= consumed);
    Ok((content, consumed, done))
}
