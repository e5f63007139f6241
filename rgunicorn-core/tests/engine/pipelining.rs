//! Requests that come before the one in front of them was answered.

use std::io::{Read, Write};

use crate::host::{Host, ask_on, read_answer, skip_chunked};

const GET: &str = "GET / HTTP/1.1\r\nHost: t\r\n\r\n";

fn statuses(answers: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(answers).into_owned();
    text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].to_string()).collect()
}

#[test]
fn requests_are_answered_in_order_and_together() {
    let host = Host::start(|_| {});
    let mut stream = host.connect();
    let mut requests = Vec::new();
    for number in 0..1000 {
        let body = format!("request {number}.");
        let head = format!("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        requests.extend_from_slice(head.as_bytes());
    }
    requests.extend_from_slice(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    stream.write_all(&requests).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let mut rest = answers.as_str();
    for number in 0..1000 {
        let expected = format!("request {number}.");
        let at = rest.find(&expected).unwrap_or_else(|| panic!("{expected} is missing"));
        rest = &rest[at + expected.len()..];
    }
    assert!(rest.ends_with("hello"));
}

#[test]
fn a_bad_request_line_behind_a_good_request_is_refused() {
    let host = Host::start(|_| {});
    let answers = host.exchange(format!("{GET}{GET}G /\r\nHost: t\r\n\r\n{GET}"));
    assert_eq!(statuses(&answers), ["200", "200", "400"]);
    assert_eq!(host.calls(), 2);
}

#[test]
fn a_body_that_is_too_large_behind_a_good_request_is_refused() {
    let host = Host::start(|config| config.limit_request_body = 10);
    let large = format!("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{GET}", GET.len());
    let answers = host.exchange(format!("{GET}{large}{GET}"));
    assert_eq!(statuses(&answers), ["200", "413"]);
    assert_eq!(host.calls(), 1);
}

#[test]
fn a_malformed_chunk_behind_a_good_request_is_refused() {
    let host = Host::start(|_| {});
    for chunks in ["1\r\nX1\r\nX\r\n0\r\n\r\n", "x\r\n\r\n", "2\r\nab0\r\n\r\n"] {
        let calls = host.calls();
        let bad = format!("POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let answers = host.exchange(format!("{GET}{bad}{GET}"));
        assert_eq!(statuses(&answers), ["200", "400"], "{chunks:?}");
        assert_eq!(host.calls() - calls, 1, "{chunks:?}");
    }
}

#[test]
fn a_request_that_comes_while_a_body_is_pulled_does_not_end_the_connection() {
    let host = Host::start(|_| {});
    let mut stream = host.connect();
    assert!(ask_on(&mut stream, "/").ends_with("hello"));
    stream.write_all(b"GET /slowly HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    for _ in 0..3 {
        std::thread::sleep(std::time::Duration::from_millis(70));
        stream.write_all(GET.as_bytes()).unwrap();
    }
    skip_chunked(&mut stream).unwrap();
    for _ in 0..3 {
        assert!(read_answer(&mut stream).unwrap().ends_with("hello"));
    }
    assert!(ask_on(&mut stream, "/").ends_with("hello"));
}
