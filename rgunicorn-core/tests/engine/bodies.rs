//! What an application gives arrives, and goes back to it.

use std::io::{Read, Write};
use std::time::Duration;

use crate::host::{Host, ask_on, body, read_answer};

#[test]
fn every_kind_of_body_arrives_whole() {
    let host = Host::start(|_| {});
    assert_eq!(body(&host.ask("/")), b"hello");
    assert!(body(&host.ask("/pull")) == vec![b'x'; 10_000_000]);
    assert!(body(&host.ask("/given")) == vec![b'g'; 5_000_000]);
    assert!(body(&host.ask("/push")) == vec![b'p'; 6_400_000]);
    assert!(body(&host.ask("/file")) == vec![b'f'; 2_000_000]);
    host.wait_for_drops(2);
}

#[test]
fn a_slow_reader_gets_all_of_it_too() {
    let host = Host::start(|_| {});
    for (target, length) in
        [("/pull", 10_000_000), ("/given", 5_000_000), ("/push", 6_400_000), ("/file", 2_000_000)]
    {
        let mut stream = host.connect();
        stream.write_all(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(body(&host.ask("/")), b"hello", "while {target} waits");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(body(&answer).len(), length, "{target}");
    }
}

#[test]
fn a_client_that_leaves_frees_what_it_held() {
    let host = Host::start(|_| {});
    for target in ["/endless", "/endless"] {
        let mut stream = host.connect();
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes()).unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
    }
    host.wait_for_drops(2);
}
