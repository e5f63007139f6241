//! Who is accepted, and when a connection is over.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rgunicorn_core::engine::Accept;

use crate::host::{Host, ask_on, body};

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
fn the_oldest_idle_connection_makes_way() {
    let host = Host::start(|config| {
        config.worker_connections = 3;
        config.keepalive = Duration::from_secs(600);
    });
    let mut held: Vec<_> = (0..3).map(|_| host.connect()).collect();
    for stream in &mut held {
        assert!(ask_on(stream, "/").ends_with("hello"));
    }
    // The one that was opened first isn't the one that has been idle for longest.
    std::thread::sleep(Duration::from_millis(1100));
    assert!(ask_on(&mut held[0], "/").ends_with("hello"));
    assert_eq!(body(&host.ask("/")), b"hello");
    assert_eq!(held[1].read(&mut [0]).unwrap(), 0);
    for number in [0, 2] {
        assert!(ask_on(&mut held[number], "/").ends_with("hello"));
    }
}

#[test]
fn nothing_idle_makes_way_for_nobody() {
    let host = Host::start(|config| {
        config.worker_connections = 2;
        config.keepalive = Duration::from_secs(600);
    });
    let mut held: Vec<_> = (0..2).map(|_| host.connect()).collect();
    for stream in &mut held {
        assert!(ask_on(stream, "/").contains("\r\nConnection: keep-alive\r\n"));
    }
    std::thread::sleep(Duration::from_millis(2500));
    for stream in &mut held {
        assert!(ask_on(stream, "/").contains("\r\nConnection: keep-alive\r\n"));
    }
}

#[test]
fn busy_connections_end_while_others_wait() {
    let host = Host::start(|config| {
        config.worker_connections = 2;
        config.keepalive = Duration::from_secs(600);
    });
    let mut held: Vec<_> = (0..2).map(|_| host.connect()).collect();
    let answered = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for stream in &mut held {
            scope.spawn(|| {
                while ask_on(stream, "/").contains("\r\nConnection: keep-alive\r\n")
                    && !answered.load(Relaxed)
                {
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
        }
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(body(&host.ask("/")), b"hello");
        answered.store(true, Relaxed);
    });
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
