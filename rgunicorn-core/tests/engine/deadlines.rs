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
