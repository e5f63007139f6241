//! Who is accepted, and when a connection is over.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use rgunicorn_core::engine::Accept;

use crate::host::{Host, body};

#[test]
fn more_connections_than_allowed_wait_for_their_turn() {
    let host = Host::start(|config| {
        config.worker_connections = 2;
        config.keepalive = Duration::from_millis(200);
    });
    let mut held: Vec<_> = (0..2).map(|_| host.connect()).collect();
    for stream in &mut held {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
    }
    // The third is answered once one of the two has been idle for too long.
    assert_eq!(body(&host.ask("/")), b"hello");
}

#[test]
fn accepting_while_idle_answers_everybody() {
    let host = Host::start(|config| {
        config.accept = Accept::WhileIdle;
        config.keepalive = Duration::ZERO;
    });
    let mut streams: Vec<_> = (0..20).map(|_| host.connect()).collect();
    for stream in &mut streams {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    }
    for stream in &mut streams {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(body(&answer), b"hello");
    }
}

#[test]
fn a_refused_upload_that_has_ended_makes_room_at_once() {
    let host = Host::start(|config| {
        config.limit_request_body = 40_000_000;
        config.worker_connections = 1;
    });
    let mut stream = host.connect();
    // What waits in the socket is more than one turn reads.
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let chunk = [b"100000\r\n".as_slice(), &[b'b'; 1 << 20], b"\r\n"].concat();
    for _ in 0..44 {
        stream.write_all(&chunk).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let start = Instant::now();
    assert_eq!(body(&host.ask("/")), b"hello");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}
