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
