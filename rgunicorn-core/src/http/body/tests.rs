use proptest::prelude::*;

use super::*;
use crate::http::{HeaderMap, Limits};

/// The content, how many bytes were consumed, and whether the body has ended; or the refusal.
type Outcome = Result<(Vec<u8>, usize, bool), Refusal>;

/// Decodes `input` as it would come in pieces of these sizes, again and again.
fn decode_split(framing: BodyFraming, input: &[u8], policy: &Policy, sizes: &[usize]) -> Outcome {
    let mut decoder = BodyDecoder::new(framing);
    let mut content = Vec::new();
    let mut at = 0;
    for size in sizes.iter().cycle() {
        let piece = &input[at..input.len().min(at + size)];
        let decoded = decoder.decode(piece, policy, &mut |bytes| {
            assert!(!bytes.is_empty());
            content.extend_from_slice(bytes);
        })?;
        at += decoded.consumed;
        if decoded.done {
            return Ok((content, at, true));
        }
        assert_eq!(decoded.consumed, piece.len(), "all is consumed as long as the body goes on");
        if at == input.len() {
            break;
        }
    }
    Ok((content, at, false))
}

fn decode(framing: BodyFraming, input: &[u8], policy: &Policy) -> Outcome {
    let whole = decode_split(framing, input, policy, &[usize::MAX / 2]);
    assert_eq!(whole, decode_split(framing, input, policy, &[1]), "{:?}", input.escape_ascii().to_string());
    whole
}

fn chunked(input: &[u8]) -> Outcome {
    decode(BodyFraming::Chunked, input, &Policy::default())
}

#[test]
fn no_body_and_lengths() {
    let policy = Policy::default();
    assert_eq!(decode(BodyFraming::None, b"GET", &policy), Ok((vec![], 0, true)));
    assert_eq!(decode(BodyFraming::Length(0), b"GET", &policy), Ok((vec![], 0, true)));
    assert_eq!(decode(BodyFraming::Length(3), b"abcd", &policy), Ok((b"abc".to_vec(), 3, true)));
    assert_eq!(decode(BodyFraming::Length(9), b"abcd", &policy), Ok((b"abcd".to_vec(), 4, false)));
    assert_eq!(decode(BodyFraming::Length(u64::MAX), b"a", &policy), Ok((b"a".to_vec(), 1, false)));
}

#[test]
fn chunks_extensions_and_trailers() {
    for (input, content) in [
        (&b"0\r\n\r\n"[..], &b""[..]),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"3\r\nabc\r\nA\r\n0123456789\r\n00\r\n\r\n", b"abc0123456789"),
        (b"0000000000000000000000000003\r\n\r\n\r\r\n0\r\n\r\n", b"\r\n\r"),
        (b"1;a\r\nx\r\n0;b=c\r\n\r\n", b"x"),
        (b"1 ; a = \"b;\\\"\xff\" ;c\t;d=e\r\nx\r\n0\r\n\r\n", b"x"),
        (b"1;a=\"\"\r\nx\r\n0\r\n\r\n", b"x"),
        (b"0\r\nA: b\r\nC:\r\nE_F: \xff\t \r\n\r\n", b""),
        (b"0\r\nHosts: b\r\nTransfer-Encoding-X: c\r\n\r\n", b""),
    ] {
        let text = input.escape_ascii().to_string();
        let mut longer = input.to_vec();
        longer.extend_from_slice(b"GET /");
        assert_eq!(chunked(&longer), Ok((content.to_vec(), input.len(), true)), "{text}");
        for end in 0..input.len() {
            let (_, consumed, done) = chunked(&input[..end]).unwrap();
            assert_eq!((consumed, done), (end, false), "{text} up to {end}");
        }
    }
}

#[test]
fn malformed_chunks_are_refused() {
    for input in [
        &b"\r\n"[..],
        b" 3\r\n",
        b"3 \r\n",
        b"+3\r\n",
        b"-3\r\n",
        b"0x3\r\n",
        b"3_0\r\n",
        b"g\r\n",
        b";a\r\n",
        b"3\n",
        b"3\rx",
        b"3\r\r\n",
        b"\xd9\xa1\r\n",
        b"3\0\r\n",
        b"10000000000000000\r\n",
        b"ffffffffffffffffff\r\n",
        b"3;\r\n",
        b"3;a;\r\n",
        b"3;a \r\n",
        b"3;a=\r\n",
        b"3;a=b \r\n",
        b"3;=b\r\n",
        b"3;a=\"b\r\n",
        b"3;a=\"b\"c\r\n",
        b"3;a b\r\n",
        b"3;a=b c\r\n",
        b"3;a\rb\r\n",
        b"3;a\n",
        b"3;a=\"\n\"\r\n",
        b"3;a=\"\\\r\n",
        b"3;a=\"\0\"\r\n",
        b"3;a(b\r\n",
        b"3;\x7f\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n",
        b"3\r\nabc\rx",
        b"3\r\nabc0\r\n",
        b"0\r\n\n",
        b"0\r\n\rx",
        b"0\r\nA: b\n",
        b"0\r\nA: b\rc",
        b"0\r\nA: b\r\n\n",
        b"0\r\nA : b\r\n",
        b"0\r\n: b\r\n",
        b"0\r\nA\r\n",
        b"0\r\n A: b\r\n",
        b"0\r\nA: b\r\n c\r\n",
        b"0\r\nA: \0\r\n",
        b"0\r\nA(: b\r\n",
        b"0\r\nHost: a\r\n",
        b"0\r\ncontent-length: 1\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\n",
        b"0\r\nTE: a\r\n",
        b"0\r\nTrailer: a\r\n",
        b"0\r\nAuthorization: a\r\n",
    ] {
        let refusal = chunked(input).expect_err(&input.escape_ascii().to_string());
        assert_eq!(refusal.status, 400, "{}", input.escape_ascii());
    }
}

#[test]
fn limits_hold_before_the_line_has_ended() {
    let limits = Limits { line: 0, fields: 2, field_size: 10, head: 0 };
    let policy = Policy { limits, ..Policy::default() };
    let status =
        |input: &[u8]| decode(BodyFraming::Chunked, input, &policy).map(|_| ()).map_err(|e| e.status);
    assert_eq!(status(b"00000001\r\na"), Ok(()));
    assert_eq!(status(b"00000000001"), Err(400));
    assert_eq!(status(b"1;aaaaaaaaa"), Err(400));
    assert_eq!(status(b"0\r\nA: bcdef\r\nB: cdefg\r\n\r\n"), Ok(()));
    assert_eq!(status(b"0\r\nA: bcdefghi"), Err(431));
    assert_eq!(status(b"0\r\nA:\r\nB:\r\nC"), Err(431));
}

#[test]
fn trailers_follow_the_relaxing_settings() {
    let status = |input: &[u8], policy: &Policy| {
        decode(BodyFraming::Chunked, input, policy).map(|(_, _, done)| done).map_err(|refusal| refusal.status)
    };
    let policy = Policy { permit_obsolete_folding: true, strip_header_spaces: true, ..Policy::default() };
    assert_eq!(status(b"0\r\nA \t: b\r\n c\r\n\r\n", &policy), Ok(true));
    assert_eq!(status(b"0\r\nHost : b\r\n\r\n", &policy), Err(400));
    assert_eq!(status(b"0\r\n A: b\r\n\r\n", &policy), Err(400));
    let policy = Policy { header_map: HeaderMap::Refuse, ..Policy::default() };
    assert_eq!(status(b"0\r\nA_B: c\r\n\r\n", &policy), Err(400));
    assert_eq!(status(b"0\r\nA-B: c_d\r\n\r\n", &policy), Ok(true));
}

/// Bytes that look like a chunked body, more or less.
fn almost_chunked() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..20).prop_map(|data| {
            [format!("{:x}\r\n", data.len()).into_bytes(), data, b"\r\n".to_vec()].concat()
        }),
        1 => Just(b"1;a=\"b\"\r\nx\r\n".to_vec()),
        1 => Just(b"0\r\nA: b\r\n\r\n".to_vec()),
        1 => prop::collection::vec(prop::sample::select(b"\r\n;=\"\\ \t0aA:\0\xff".to_vec()), 1..6),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_split_gives_the_same(
        input in almost_chunked(),
        sizes in prop::collection::vec(1usize..9, 1..9),
        relaxed: bool,
    ) {
        let limits = Limits { line: 0, fields: 2, field_size: 16, head: 0 };
        let policy = Policy {
            limits, permit_obsolete_folding: relaxed, strip_header_spaces: relaxed, ..Policy::default()
        };
        let whole = decode(BodyFraming::Chunked, &input, &policy);
        prop_assert_eq!(&whole, &decode_split(BodyFraming::Chunked, &input, &policy, &sizes));
    }

    #[test]
    fn what_was_encoded_comes_out(data in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..9)) {
        let mut input = Vec::new();
        for piece in &data {
            input.extend_from_slice(format!("{:X}\r\n", piece.len()).as_bytes());
            input.extend_from_slice(piece);
            input.extend_from_slice(b"\r\n");
        }
        input.extend_from_slice(b"0\r\n\r\n");
        prop_assert_eq!(chunked(&input), Ok((data.concat(), input.len(), true)));
    }
}
