use proptest::prelude::*;

use super::*;

const HTTP_11: Circumstances =
    Circumstances { version: Version::HTTP_11, head_request: false, keep_alive: true, known_length: None };

fn head(status: &str, headers: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::default();
    head.start(status.as_bytes()).unwrap();
    for (name, value) in headers {
        head.header(name.as_bytes(), value.as_bytes()).unwrap();
    }
    head
}

/// The head without the lines of `Server` and `Date`, and what `finish` answered.
fn finish(head: &ResponseHead, circumstances: &Circumstances) -> (String, Framing, bool) {
    let mut out = Vec::new();
    let (framing, keep_alive) = head.finish(&mut out, circumstances);
    let text = String::from_utf8(out).unwrap();
    let (status, rest) = text.split_once("\r\n").unwrap();
    let rest = rest.strip_prefix("Server: rgunicorn\r\nDate: ").unwrap();
    assert_eq!(&rest[26..31], "GMT\r\n");
    (format!("{status}\r\n{}", &rest[31..]), framing, keep_alive)
}

#[test]
fn a_usual_response() {
    let head = head("200 OK", &[("Content-Type", " text/plain\t"), ("X-A", "b: c"), ("X-E", "")]);
    let (text, framing, keep_alive) = finish(&head, &Circumstances { known_length: Some(5), ..HTTP_11 });
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\
         X-A: b: c\r\nX-E: \r\n\r\n"
    );
    assert_eq!((framing, keep_alive), (Framing::Length(5), true));
    let headers: Vec<_> = head.headers().collect();
    assert_eq!(headers, [(&b"Content-Type"[..], &b"text/plain"[..]), (b"X-A", b"b: c"), (b"X-E", b"")]);
    assert!(SERVER.contains(crate::SERVER));
}

#[test]
fn framing_by_status_version_and_length() {
    let v10 = Circumstances { version: Version::HTTP_10, ..HTTP_11 };
    let for_head = Circumstances { head_request: true, known_length: Some(0), ..HTTP_11 };
    let known = Circumstances { known_length: Some(7), ..HTTP_11 };
    let length = [("Content-Length", "3")];
    for (status, headers, circumstances, want, lines) in [
        ("200 OK", &[][..], HTTP_11, (Framing::Chunked, true), "Transfer-Encoding: chunked\r\n"),
        ("200 OK", &[], v10, (Framing::UntilClose, false), ""),
        ("200 OK", &[], known, (Framing::Length(7), true), "Content-Length: 7\r\n"),
        ("200 OK", &length, known, (Framing::Length(3), true), "Content-Length: 3\r\n"),
        ("200 OK", &length, v10, (Framing::Length(3), true), "Content-Length: 3\r\n"),
        ("200 OK", &[], for_head, (Framing::None, true), ""),
        ("200 OK", &length, for_head, (Framing::None, true), "Content-Length: 3\r\n"),
        ("204 No Content", &length, known, (Framing::None, true), ""),
        ("205 Reset Content", &length, known, (Framing::Length(0), true), "Content-Length: 0\r\n"),
        ("205 Reset Content", &[], v10, (Framing::Length(0), true), "Content-Length: 0\r\n"),
        ("304 Not Modified", &length, HTTP_11, (Framing::None, true), "Content-Length: 3\r\n"),
        ("304 Not Modified", &[], known, (Framing::None, true), ""),
        ("103 Early Hints", &length, known, (Framing::None, false), ""),
    ] {
        let (text, framing, keep_alive) = finish(&head(status, headers), &circumstances);
        assert_eq!((framing, keep_alive), want, "{status} {headers:?} {circumstances:?}");
        let version = if circumstances.version == Version::HTTP_10 { "1.0" } else { "1.1" };
        let connection = if keep_alive { "keep-alive" } else { "close" };
        assert_eq!(text, format!("HTTP/{version} {status}\r\nConnection: {connection}\r\n{lines}\r\n"));
    }
}

#[test]
fn the_servers_headers_are_the_servers() {
    let ours = [
        "connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "TE",
        "Trailers",
        "Transfer-Encoding",
        "Upgrade",
        "Server",
        "DATE",
    ];
    let headers: Vec<_> = ours.iter().map(|name| (*name, "x")).collect();
    let head = head("200 OK", &headers);
    assert_eq!(head.headers().count(), 0);
    assert_eq!(
        finish(&head, &HTTP_11).0,
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
}

#[test]
fn an_own_server_and_date_take_the_place_of_ours() {
    let mut head = head("200 OK", &[]);
    head.header_over_ours(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT").unwrap();
    head.header_over_ours(b"Server", b"mine").unwrap();
    let mut out = Vec::new();
    head.finish(&mut out, &Circumstances { known_length: Some(0), ..HTTP_11 });
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
         Server: mine\r\n\r\n"
    );
    // The next response has ours again.
    head.start(b"200 OK").unwrap();
    finish(&head, &HTTP_11);
}

#[test]
fn trailers_say_nothing_of_the_framing() {
    let trailers = |name: &'static [u8]| Informational::trailers([(name, &b"1"[..])]);
    assert_eq!(trailers(b"X-Sum").unwrap(), b"X-Sum: 1\r\n");
    for name in NOT_IN_TRAILERS {
        assert_eq!(trailers(name.as_bytes()), Err(InvalidResponse::Trailer(name.into())));
    }
    assert!(trailers(b"transfer-encoding").is_err() && trailers(b"a b").is_err());
}

#[test]
fn the_application_may_close_and_upgrade() {
    let close = head("200 OK", &[("Connection", "Close"), ("Content-Length", "0")]);
    let (text, _, keep_alive) = finish(&close, &HTTP_11);
    assert!(text.contains("Connection: close\r\n") && !keep_alive, "{text}");

    let upgrade = head("101 Switching Protocols", &[("Upgrade", "WebSocket"), ("Connection", "Upgrade")]);
    let (text, framing, keep_alive) = finish(&upgrade, &HTTP_11);
    assert_eq!(text, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n");
    assert_eq!((framing, keep_alive), (Framing::None, false));

    let required = head("426 Upgrade Required", &[("Upgrade", "h2c"), ("Content-Length", "0")]);
    assert!(finish(&required, &HTTP_11).0.contains("Connection: upgrade\r\nUpgrade: h2c\r\n"));
    let dying = Circumstances { keep_alive: false, ..HTTP_11 };
    assert!(finish(&required, &dying).0.contains("Connection: upgrade, close\r\n"));
}

#[test]
fn statuses() {
    let mut head = ResponseHead::default();
    for good in ["200 OK", "200", "200 ", "599 \u{e9}\tx", "999 x", "200  OK"] {
        assert_eq!(head.start(good.as_bytes()), Ok(()), "{good:?}");
        assert!(head.is_started());
    }
    for bad in [
        "",
        "20",
        "2000 OK",
        "abc",
        "+20 OK",
        "200\tOK",
        "200OK",
        "200 O\rK",
        "200 OK\r\n",
        "200 O\0",
        " 200",
        "099 x",
    ] {
        assert!(matches!(head.start(bad.as_bytes()), Err(InvalidResponse::Status(_))), "{bad:?}");
        assert!(!head.is_started());
    }
    head.start(b"204").unwrap();
    assert!(finish(&head, &HTTP_11).0.starts_with("HTTP/1.1 204 \r\n"));
}

#[test]
fn headers_that_are_refused() {
    let mut head = head("200 OK", &[("Content-Length", "3")]);
    for name in ["", "a b", "a:", "a\r\nb", "\u{e9}", "a\0"] {
        assert!(
            matches!(head.header(name.as_bytes(), b"x"), Err(InvalidResponse::HeaderName(_))),
            "{name:?}"
        );
    }
    for value in ["a\r\nb: c", "\n", "\r", "\0", "\x7f", "\x1b", "a\r\n b"] {
        let refused = head.header(b"X-Secret", value.as_bytes());
        assert_eq!(refused, Err(InvalidResponse::HeaderValue("X-Secret".into())), "{value:?}");
        assert!(head.header(b"Connection", value.as_bytes()).is_err(), "{value:?}");
    }
    for length in ["4", "", "+3", "3,3", "0x3", "99999999999999999999"] {
        let refused = head.header(b"content-length", length.as_bytes());
        assert_eq!(refused, Err(InvalidResponse::ContentLength(length.into())));
    }
    assert_eq!(head.header(b"content-length", b" 3 "), Ok(()));
    assert_eq!(head.headers().count(), 1);
    assert_eq!(head.content_length_given(), Some(3));
}

#[test]
fn starting_again_forgets() {
    let mut head = head("101 X", &[("Content-Length", "3"), ("Connection", "close, upgrade"), ("A", "b")]);
    head.start(b"200 OK").unwrap();
    let want = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(finish(&head, &HTTP_11).0, want);
    head.clear();
    assert!(!head.is_started());
    assert!(finish(&head, &HTTP_11).0.starts_with("HTTP/1.1 500 Internal Server Error\r\n"));
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let likely = prop::sample::select(b"\r\n: \tabC-1\0\x7f\xff".to_vec());
    prop_oneof![prop::collection::vec(likely, 0..12), prop::collection::vec(any::<u8>(), 0..12)]
}

proptest! {
    #[test]
    fn no_line_can_be_injected(
        status in prop_oneof![Just(b"200 OK".to_vec()), bytes().prop_map(|b| [&b"200 "[..], &b].concat()), bytes()],
        headers in prop::collection::vec((prop_oneof![Just(b"X".to_vec()), bytes()], bytes()), 0..5),
    ) {
        let mut head = ResponseHead::default();
        let _ = head.start(&status);
        let accepted: Vec<_> =
            headers.iter().filter(|(name, value)| head.header(name, value).is_ok()).collect();
        let mut out = Vec::new();
        head.finish(&mut out, &HTTP_11);

        let lines: Vec<_> = out.split(|byte| *byte == b'\n').collect();
        // Status, Server, Date, Connection, framing; the empty line, and what is behind it: nothing.
        prop_assert!(lines.len() <= 5 + accepted.len() + 2);
        let (last, lines) = lines.split_last().unwrap();
        prop_assert!(last.is_empty());
        let (empty, lines) = lines.split_last().unwrap();
        prop_assert_eq!(*empty, b"\r");
        for line in lines {
            let text = line.strip_suffix(b"\r").unwrap();
            prop_assert!(!text.is_empty() && text.iter().copied().all(is_text));
        }
        // Another parser reads the same headers.
        let mut slots = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut slots);
        prop_assert_eq!(response.parse(&out), Ok(httparse::Status::Complete(out.len())));
        let ours: Vec<_> = head.headers().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        let theirs: Vec<_> = response.headers.iter().skip(response.headers.len() - ours.len()).map(|h| (h.name.as_bytes().to_vec(), h.value.to_vec())).collect();
        prop_assert_eq!(ours, theirs);
    }
}
