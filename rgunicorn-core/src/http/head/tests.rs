use proptest::prelude::*;

use super::*;
use crate::http::{HeaderMap, Limits};

/// All that a head says, in an order that can be compared.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    len: usize,
    line: [String; 4],
    version: Version,
    headers: Vec<(String, String)>,
    body: BodyFraming,
    scheme: Scheme,
    keep_alive: bool,
    expects_continue: bool,
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Reads a head from `input`, which comes in pieces of these sizes, again and again. `None`: there is no end of it.
fn read_split(input: &[u8], policy: &Policy, sizes: &[usize]) -> Result<Option<Seen>, Refusal> {
    let mut reader = HeadReader::default();
    let mut head = RequestHead::default();
    let mut buffer = Vec::new();
    for size in sizes.iter().cycle() {
        let end = input.len().min(buffer.len() + size);
        buffer.extend_from_slice(&input[buffer.len()..end]);
        if reader.read(&mut buffer, &mut head, policy, true)? {
            let of = |span: Span| text(span.of(&buffer));
            return Ok(Some(Seen {
                len: head.len,
                line: [head.method, head.target, head.path, head.query].map(of),
                version: head.version,
                headers: head.headers.iter().map(|header| (of(header.name), of(header.value))).collect(),
                body: head.body,
                scheme: head.scheme,
                keep_alive: head.keep_alive,
                expects_continue: head.expects_continue,
            }));
        }
        if end == input.len() {
            break;
        }
    }
    Ok(None)
}

/// Reads it in one piece and byte by byte.
fn read(input: &[u8], policy: &Policy) -> Result<Option<Seen>, Refusal> {
    let whole = read_split(input, policy, &[usize::MAX / 2]);
    assert_eq!(whole, read_split(input, policy, &[1]), "{}", text(input));
    whole
}

fn status(input: &[u8], policy: &Policy) -> u16 {
    match read(input, policy) {
        Ok(Some(_)) => 200,
        Ok(None) => 0,
        Err(refusal) => {
            assert!(refusal.message.is_ascii() && refusal.message.len() < 300, "{}", refusal.message);
            refusal.status
        }
    }
}

/// A GET with these lines, each of which gets its CRLF.
fn get(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.replace('\n', "\r\n")).into_bytes()
}

const USUAL: &[u8] =
    b"POST /a/b?c=d HTTP/1.1\r\nHost: a.example\r\nuser-agent:x\r\nX-Empty: \t\r\nCookie: \t a; b \t\r\n\
    Content-Length: 5\r\nExpect: 100-continue\r\nX-Forwarded-Proto: https\r\n\r\nhelloGET";

#[test]
fn a_usual_request() {
    let seen = read(USUAL, &Policy::default()).unwrap().unwrap();
    let header = |name: &str, value: &str| (name.to_string(), value.to_string());
    assert_eq!(
        seen,
        Seen {
            len: USUAL.len() - 8,
            line: ["POST", "/a/b?c=d", "/a/b", "c=d"].map(String::from),
            version: Version::HTTP_11,
            headers: vec![
                header("Host", "a.example"),
                header("user-agent", "x"),
                header("X-Empty", ""),
                header("Cookie", "a; b"),
                header("Content-Length", "5"),
                header("Expect", "100-continue"),
                header("X-Forwarded-Proto", "https"),
            ],
            body: BodyFraming::Length(5),
            scheme: Scheme::Https,
            keep_alive: true,
            expects_continue: true,
        }
    );
}

#[test]
fn requests_that_are_accepted() {
    let policy = Policy::default();
    for input in [
        &b"GET / HTTP/1.0\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: \xff\xfe\t~\r\n\r\n",
        b"GET / HTTP/1.1\r\n!#$%&'*+-.^`|~0aZ: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nExpect: 100-CONTINUE\r\n\r\n",
    ] {
        assert_eq!(status(input, &policy), 200, "{}", text(input));
        for end in 0..input.len() {
            assert_eq!(status(&input[..end], &policy), 0, "{} up to {end}", text(input));
        }
    }
}

#[test]
fn requests_that_are_refused() {
    let long = "x".repeat(8190);
    for (want, input) in [
        // Lines.
        (400, b"\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec()),
        (400, b"\nGET / HTTP/1.1\r\n\r\n".to_vec()),
        (400, b"\rGET / HTTP/1.1\r\n\r\n".to_vec()),
        (400, b" \r\n".to_vec()),
        (400, b"\x16\x03\x01\x02\x00\x01\x00".to_vec()),
        (400, b"\0".to_vec()),
        (400, b"GET / HTTP/1.1\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost: a\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\n\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\n\rX".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost\n: a\r\n\r\n".to_vec()),
        // The request line, as soon as it has come.
        (400, b"GET /\r\n".to_vec()),
        (400, b"get / HTTP/1.1\r\n".to_vec()),
        (400, b"GET / HTTP/2.0\r\n".to_vec()),
        (400, b"GET /\xe9 HTTP/1.1\r\n".to_vec()),
        (400, b"GET * HTTP/1.1\r\n".to_vec()),
        (400, b"GET a.example:80 HTTP/1.1\r\n".to_vec()),
        // Fields.
        (400, b"GET / HTTP/1.1\r\n Host: a\r\n".to_vec()),
        (400, get("A: b\n c\n")),
        (400, get("A: b\n\tc\n")),
        (400, get("A : b\n")),
        (400, get("A\t: b\n")),
        (400, get(": b\n")),
        (400, get("A\n")),
        (400, get("A b: c\n")),
        (400, get("A\0: c\n")),
        (400, get("A(: c\n")),
        (400, get("\u{e9}: c\n")),
        (400, get("A: \0\n")),
        (400, get("A: b\0c\n")),
        (400, get("A: b\x0bc\n")),
        (400, get("A: \x7f\n")),
        (400, get("Host: a\n")),
        (400, get("host: b\n")),
        (400, get("Content-Type: a\nContent-Type: a\n")),
        (400, get("X-Forwarded-Proto: https\nX-Forwarded-Ssl: off\n")),
        (417, get("Expect: 200-ok\n")),
        (417, b"GET / HTTP/1.0\r\nExpect: x\r\n\r\n".to_vec()),
        // Framing.
        (400, get("Content-Length: +1\n")),
        (400, get("Content-Length: -1\n")),
        (400, get("Content-Length: 1_0\n")),
        (400, get("Content-Length: 1 0\n")),
        (400, get("Content-Length: 0x1\n")),
        (400, get("Content-Length: 1, 1\n")),
        (400, get("Content-Length: \u{661}\n")),
        (400, get("Content-Length: \u{b2}\n")),
        (400, get("Content-Length:\n")),
        (400, get("Content-Length: 18446744073709551616\n")),
        (400, get("Content-Length: 1\nContent-Length: 2\n")),
        (400, get("Content-Length: 1\nContent-Length: 1\n")),
        (400, get("Content-Length: 1\nTransfer-Encoding: chunked\n")),
        (400, get("Transfer-Encoding: chunked\nContent-Length: 1\n")),
        (400, get("Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n")),
        (400, get("Transfer-Encoding: chunked, chunked\n")),
        (400, get("Transfer-Encoding: chunked, gzip\n")),
        (400, get("Transfer-Encoding: gzip\n")),
        (400, get("Transfer-Encoding: identity\n")),
        (400, get("Transfer-Encoding: \x0bchunked\n")),
        (400, get("Transfer-Encoding : chunked\n")),
        (400, get("Transfer-Encoding:\n chunked\n")),
        (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
        (501, get("Transfer-Encoding: gzip, chunked\n")),
        (501, get("Transfer-Encoding: xchunked\n")),
        (501, get("Transfer-Encoding: chunked;a=b\n")),
        (501, get("Transfer-Encoding: \u{a0}chunked\n")),
        (501, get("Transfer-Encoding:\n")),
        // Limits, before the end has come.
        (414, format!("GET /{long}").into_bytes()),
        (414, format!("\r\nGET /{long}").into_bytes()),
        (431, format!("GET / HTTP/1.1\r\n{long}").into_bytes()),
        (431, format!("GET / HTTP/1.1\r\nA: {long}").into_bytes()),
        (431, get(&"A: b\n".repeat(100))),
        // What a dropped header would be counts too.
        (431, get(&"A_B: b\n".repeat(100))),
    ] {
        assert_eq!(status(&input, &Policy::default()), want, "{}", text(&input));
    }
}

#[test]
fn limits_are_met_to_the_byte() {
    let limits = Limits { line: 16, fields: 2, field_size: 10, head: 0 };
    let policy = Policy { limits, ..Policy::default() };
    assert_eq!(status(b"GET /ab HTTP/1.1\r\n\r\n", &policy), 200);
    assert_eq!(status(b"\r\nGET /ab HTTP/1.1\r\n\r\n", &policy), 200);
    assert_eq!(status(b"GET /ab HTTP/1.1", &policy), 0);
    assert_eq!(status(b"GET /abc HTTP/1.1", &policy), 414);
    assert_eq!(status(b"GET / HTTP/1.1\r\nA: 45678\r\n\r\n", &policy), 200);
    assert_eq!(status(b"GET / HTTP/1.1\r\nA: 456789", &policy), 431);
    assert_eq!(status(b"GET / HTTP/1.1\r\nA:\r\nB:\r\n\r\n", &policy), 200);
    assert_eq!(status(b"GET / HTTP/1.1\r\nA:\r\nB:\r\nC", &policy), 431);
    // A folded field is as long as all of its lines.
    let policy = Policy { permit_obsolete_folding: true, ..policy };
    assert_eq!(status(b"GET / HTTP/1.1\r\nA:\r\n 678\r\n\r\n", &policy), 200);
    assert_eq!(status(b"GET / HTTP/1.1\r\nA:\r\n 6789", &policy), 431);
}

#[test]
fn the_head_as_a_whole_has_its_limit() {
    let limits = Limits { line: 16, fields: 100, field_size: 10, head: 38 };
    let policy = Policy { limits, ..Policy::default() };
    // It is counted up to the end of a field, its line end not included.
    assert_eq!(status(b"GET / HTTP/1.1\r\nA:4567\r\nB:4567\r\nC:4567\r\n\r\n", &policy), 200);
    assert_eq!(status(b"GET / HTTP/1.1\r\nA:4567\r\nB:4567\r\nC:45678", &policy), 431);
    assert_eq!(status(b"GET / HTTP/1.1\r\nA:4567\r\nB:4567\r\nC:4567\r\nD:\r\n\r\n", &policy), 431);
    let refusal = read(b"GET / HTTP/1.1\r\nA:4567\r\nB:4567\r\nC:45678", &policy).unwrap_err();
    assert_eq!(refusal.message, "the request head is larger than limit_request_head, 38 bytes");
    // A field that is too large by itself is what is named.
    let refusal = read(b"GET / HTTP/1.1\r\nA:4567\r\nB:4567890123456789", &policy).unwrap_err();
    assert_eq!(refusal.message, "header field \"B\" is larger than 10 bytes");
    // By default it is 64 KiB.
    let field = format!("A: {}\n", "x".repeat(8000));
    assert_eq!(status(&get(&field.repeat(8)), &Policy::default()), 200);
    assert_eq!(status(&get(&field.repeat(9)), &Policy::default()), 431);
}

#[test]
fn limits_of_zero() {
    let limits = Limits { line: 0, fields: 0, field_size: 0, head: 0 };
    let policy = Policy { limits, ..Policy::default() };
    let line = |length: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(length - 14)).into_bytes();
    let one =
        |input: &[u8]| read_split(input, &policy, &[8192]).map(|_| ()).map_err(|refusal| refusal.status);
    assert_eq!(one(&line(1024 * 1024)), Ok(()));
    assert_eq!(one(&line(1024 * 1024 + 1)), Err(414));
    assert_eq!(one(&get(&"A: b\n".repeat(32767))), Ok(()));
    assert_eq!(one(&get(&"A: b\n".repeat(32768))), Err(431));
    assert_eq!(one(&get(&format!("A: {}\n", "x".repeat(8185)))), Ok(()));
    assert_eq!(one(&get(&format!("A: {}\n", "x".repeat(8186)))), Err(431));
}

#[test]
fn more_fields_than_fit_on_the_stack() {
    let seen = read(&get(&"A: b\n".repeat(99)), &Policy::default()).unwrap().unwrap();
    assert_eq!(seen.headers.len(), 100);
}

#[test]
fn relaxed_forms_are_made_regular() {
    let policy = Policy {
        permit_obsolete_folding: true,
        strip_header_spaces: true,
        permit_unconventional_http_method: true,
        permit_unconventional_http_version: true,
        casefold_http_method: true,
        ..Policy::default()
    };
    let input = b"get / HTTP/1.2\r\nA \t : b \r\n\tc\r\n d\r\nTransfer-Encoding :\r\n chunked\r\n\r\n";
    let seen = read(input, &policy).unwrap().unwrap();
    assert_eq!(seen.line[0], "GET");
    assert_eq!(seen.version, Version { major: 1, minor: 2 });
    let want = [("A", "b c d"), ("Transfer-Encoding", "chunked")];
    assert_eq!(seen.headers, want.map(|(name, value)| (name.to_string(), value.to_string())));
    assert_eq!(seen.body, BodyFraming::Chunked);
    assert_eq!(seen.len, input.len());
    for input in [
        &b"GET / HTTP/1.1\r\n A: b\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nA\r\n : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nA b : c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n \0\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\rd\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\n 2\r\n\r\n",
        b"G(T / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.11\r\n\r\n",
    ] {
        assert_eq!(status(input, &policy), 400, "{}", text(input));
    }
}

#[test]
fn dropped_headers_have_no_say() {
    let input = get("Content_Length: 5\nTransfer_Encoding: chunked\nX_Y: z\n");
    for header_map in [HeaderMap::Drop, HeaderMap::Dangerous] {
        let policy = Policy { header_map, ..Policy::default() };
        let seen = read(&input, &policy).unwrap().unwrap();
        assert_eq!(seen.body, BodyFraming::None);
        assert_eq!(seen.headers.len(), if header_map == HeaderMap::Drop { 1 } else { 4 });
    }
    assert_eq!(status(&input, &Policy { header_map: HeaderMap::Refuse, ..Policy::default() }), 400);
}

#[test]
fn a_connect_ends_the_connection() {
    let seen = read(b"CONNECT a:1 HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", &Policy::default());
    assert!(!seen.unwrap().unwrap().keep_alive);
}

#[test]
fn one_reader_and_one_head_serve_a_pipeline() {
    let mut input = Vec::new();
    for index in 0..5 {
        input.extend_from_slice(format!("GET /{index} HTTP/1.1\r\nA: {index}\r\nB: c\r\n\r\n").as_bytes());
    }
    let (mut reader, mut head) = (HeadReader::default(), RequestHead::default());
    let mut rest = input.as_mut_slice();
    for index in 0..5 {
        assert_eq!(reader.read(rest, &mut head, &Policy::default(), false), Ok(true));
        assert_eq!(head.path.of(rest), format!("/{index}").as_bytes());
        assert_eq!(head.headers.len(), 2);
        assert_eq!(head.headers[0].value.of(rest), index.to_string().as_bytes());
        rest = &mut rest[head.len..];
    }
    assert_eq!(reader.read(rest, &mut head, &Policy::default(), false), Ok(false));
}

#[test]
fn a_dripping_head_costs_no_more_than_its_bytes() {
    // A megabyte, a byte at a time: searching from the beginning each time would take hours.
    let mut input = b"GET /".to_vec();
    input.resize(1024 * 1024 - 20, b'x');
    let policy = Policy { limits: Limits { line: 0, ..Limits::default() }, ..Policy::default() };
    let mut reader = HeadReader::default();
    let mut head = RequestHead::default();
    for end in 1..=input.len() {
        assert_eq!(reader.read(&mut input[..end], &mut head, &policy, false), Ok(false));
    }
}

/// A request, and what people break in one.
fn almost_a_request() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        "GET / HTTP/1.1",
        "POST /a?b HTTP/1.0",
        "OPTIONS * HTTP/1.1",
        "get / HTTP/1.1",
        "GET / HTTP/1.2",
        "\r\nGET / HTTP/1.1",
    ]);
    let field = prop::sample::select(vec![
        "Host: a",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Connection: close",
        "A_B: c",
        "A : b",
        " folded",
        "Expect: 100-continue",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Ssl: off",
        "\tfolded ",
        "X:",
        "LongName: longvalue",
    ]);
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r"]);
    let fields = prop::collection::vec((field, end), 0..6);
    let change = prop::option::weighted(0.5, (any::<prop::sample::Index>(), any::<u8>()));
    (line, fields, change).prop_map(|(line, fields, change)| {
        let fields: String = fields.into_iter().map(|(field, end)| format!("{field}{end}")).collect();
        let mut bytes = format!("{line}\r\n{fields}\r\nbody").into_bytes();
        if let Some((index, byte)) = change {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        bytes
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let header_map = prop::sample::select(vec![HeaderMap::Drop, HeaderMap::Refuse, HeaderMap::Dangerous]);
    let limits = prop::sample::select(vec![
        Limits::default(),
        Limits { line: 20, fields: 3, field_size: 24, head: 50 },
        Limits { line: 1, fields: 1, field_size: 1, head: 0 },
    ]);
    (limits, header_map, any::<[bool; 5]>()).prop_map(|(limits, header_map, on)| Policy {
        limits,
        header_map,
        permit_obsolete_folding: on[0],
        strip_header_spaces: on[1],
        permit_unconventional_http_method: on[2],
        permit_unconventional_http_version: on[3],
        casefold_http_method: on[4],
        ..Policy::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_split_gives_the_same(
        input in almost_a_request(),
        policy in any_policy(),
        sizes in prop::collection::vec(1usize..30, 1..9),
    ) {
        let whole = read(&input, &policy);
        prop_assert_eq!(&whole, &read_split(&input, &policy, &sizes));
        if let Ok(Some(seen)) = whole {
            for part in seen.headers.iter().map(|(_, value)| value).chain(&seen.line) {
                // They were escaped: a control character would show as \r, \n or \x.., and a backslash as two.
                let part = part.replace("\\\\", "");
                prop_assert!(!part.contains("\\r") && !part.contains("\\n") && !part.contains("\\x0"));
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(input in prop::collection::vec(any::<u8>(), 0..200), policy in any_policy()) {
        let _ = read(&input, &policy);
        let mut request = b"GET / HTTP/1.1\r\n".to_vec();
        request.extend_from_slice(&input);
        let _ = read(&request, &policy);
    }
}
