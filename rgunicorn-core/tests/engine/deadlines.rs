//! Who is given up, and who isn't.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::host::{Host, ask_on, body};

#[test]
fn a_client_that_stops_reading_is_given_up() {
    let host = Host::start(|config| config.send_timeout = Duration::from_millis(300));
    let mut stream = host.connect();
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    host.wait_for_drops(1);
}

#[test]
fn a_client_that_sends_and_does_not_read_is_given_up_too() {
    let host = Host::start(|config| config.send_timeout = Duration::from_millis(300));
    let mut stream = host.connect();
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let start = Instant::now();
    while host.held() > 0 || host.calls() == 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "what it sends buys it time");
        let _ = stream.write_all(b"x");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_time_that_the_application_takes_is_not_the_client_s() {
    let host = Host::start(|config| config.keepalive = Duration::from_millis(400));
    let mut stream = host.connect();
    assert!(ask_on(&mut stream, "/").ends_with("hello"));
    std::thread::sleep(Duration::from_millis(50));
    assert!(ask_on(&mut stream, "/sleep").ends_with("slept"));
    std::thread::sleep(Duration::from_millis(100));
    assert!(ask_on(&mut stream, "/").ends_with("hello"));
}

#[test]
fn a_client_that_reads_while_the_worker_is_busy_is_not_given_up() {
    let host = Host::start(|config| config.send_timeout = Duration::from_millis(300));
    let mut stream = host.connect();
    stream.write_all(b"GET /pull HTTP/1.0\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(body(&host.ask("/sleep")), b"slept"));
        std::thread::sleep(Duration::from_millis(50));
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(body(&answer).len(), 10_000_000);
    });
}

#[test]
fn an_upload_takes_as_long_as_it_takes() {
    let host = Host::start(|config| {
        config.client_header_timeout = Duration::from_millis(60);
        config.client_body_timeout = Duration::from_millis(60);
    });
    let mut stream = host.connect();
    const SIZE: usize = 300 << 20;
    stream
        .write_all(format!("PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes())
        .unwrap();
    let piece = vec![b'u'; 1 << 20];
    for _ in 0..SIZE / piece.len() {
        stream.write_all(&piece).unwrap();
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[test]
fn times_without_end_are_no_limit() {
    let host = Host::start(|config| {
        config.keepalive = Duration::MAX;
        config.client_header_timeout = Duration::MAX;
        config.client_body_timeout = Duration::MAX;
        config.send_timeout = Duration::MAX;
    });
    let mut stream = host.connect();
    for target in ["/", "/given", "/"] {
        stream.write_all(b"GET").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        stream.write_all(format!(" {target} HTTP/1.1\r\nHost: t\r\n").as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        stream.write_all(b"\r\n").unwrap();
        assert!(crate::host::read_answer(&mut stream).is_ok(), "{target}");
    }
}
