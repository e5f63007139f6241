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

#[test]
fn a_file_goes_back_once_it_is_sent_though_the_next_request_is_not_whole() {
    let host = Host::start(|_| {});
    let mut stream = host.connect();
    stream.write_all(b"GET /file HTTP/1.1\r\nHost: t\r\n\r\nGET / HT").unwrap();
    assert!(read_answer(&mut stream).unwrap().ends_with('f'));
    host.wait_for_drops(1);
    assert_eq!(host.held(), 0);
}

#[test]
fn files_don_t_pile_up_for_a_client_that_does_not_read() {
    let host = Host::start(|_| {});
    let mut stream = host.connect();
    stream.write_all("GET /file HTTP/1.1\r\nHost: t\r\n\r\n".repeat(200).as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(host.held() <= 2, "{} files are open for it", host.held());
}

#[test]
fn an_application_that_fails_behind_its_response_does_not_leave_the_client_waiting() {
    let host = Host::start(|_| {});
    let answers = host.exchange("GET /fail-behind-the-end HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(body(&answers), b"all of it");
}

#[test]
fn a_body_that_panics_breaks_its_own_response_alone() {
    let host = Host::start(|_| {});
    let mut stream = host.connect();
    assert!(ask_on(&mut stream, "/").ends_with("hello"));
    let answer = host.exchange("GET /until-it-panics HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(body(&answer), b"");
    assert!(ask_on(&mut stream, "/").ends_with("hello"));
    host.wait_for_drops(1);
}
