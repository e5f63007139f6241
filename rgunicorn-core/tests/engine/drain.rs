//! Leaving: what is held is finished, and nobody can keep the engine from it.

use std::io::Write;
use std::time::Duration;

use crate::host::{Host, ask_on, read_answer};

#[test]
fn a_last_request_is_answered_and_told_that_it_was_the_last() {
    let host = Host::start(|_| {});
    let mut stream = host.connect();
    assert!(ask_on(&mut stream, "/").contains("Connection: keep-alive"));
    host.stop();
    std::thread::sleep(Duration::from_millis(100));
    assert!(ask_on(&mut stream, "/").contains("Connection: close"));
}

#[test]
fn silent_connections_in_the_listen_queue_hold_up_nothing_for_long() {
    let host = Host::start(|config| {
        config.worker_connections = 1;
        config.client_header_timeout = Duration::from_secs(20);
    });
    let silent: Vec<_> = (0..4).map(|_| host.connect()).collect();
    let mut last = host.connect();
    last.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let took = host.stopped();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(read_answer(&mut last).unwrap().ends_with("hello"));
    drop(silent);
}
