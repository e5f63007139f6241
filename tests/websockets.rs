//! WebSockets of class `asgi`, and what those of `tornado` have in common with them.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rgunicorn_harness::{Client, Server, python, repository};

fn serve(arguments: &[&str]) -> Server {
    let server = serve_with(&["-k", "asgi", "asgi:app"], arguments);
    server.wait_for_log("lifespan: started");
    server
}

fn serve_with(application: &[&str], arguments: &[&str]) -> Server {
    let build = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(arguments.iter().copied());
    let server = build.args(application.iter().copied()).start();
    server.wait_for_workers(1);
    server
}

/// One of tests/apps/receives.py.
const RECEIVES: &[&str] = &["-k", "asgi", "receives:app"];

fn seen(server: &Server, what: &str) {
    server
        .wait_until(&format!("{what:?} to be seen"), || server.connect().get("/seen").text().contains(what));
}

const OPENING: &str = "Host: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A WebSocket whose bytes the test writes itself.
fn open(server: &Server, path: &str) -> Client {
    let mut client = server.connect();
    client.send(format!("GET {path} HTTP/1.1\r\n{OPENING}"));
    let response = client.read_response(true).unwrap();
    assert_eq!(response.status, 101, "{}", response.head);
    assert_eq!(response.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client
}

/// A client's frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

#[test]
fn a_strict_client_finds_nothing_wrong() {
    let server = serve(&[]);
    let script = repository().join("tests/clients/asgi_websocket.py");
    let output = Command::new(python()).arg(script).arg(server.url()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for what in ["own close 3001", "disconnect 4000 bye", "late the WebSocket is closed"] {
        seen(&server, what);
    }
    server.wait_for_log("ValueError: failed after the handshake");
    server.wait_for_log("ValueError: failed before the handshake");
    let worker = server.workers()[0];
    assert!(Server::peak_memory(worker) < 150 << 20, "{}", Server::peak_memory(worker));
}

#[test]
fn frames_come_as_they_like_also_with_the_handshake() {
    let server = serve(&[]);
    let mut client = server.connect();
    let early = frame(0x81, b"early");
    client.send([format!("GET /echo HTTP/1.1\r\n{OPENING}").as_bytes(), &early].concat());
    assert_eq!(client.read_response(true).unwrap().status, 101);
    assert_eq!(client.read_some().unwrap(), b"\x81\x05early");
    for byte in [frame(0x01, b"a"), frame(0x89, b"p"), frame(0x80, b"b")].concat() {
        client.send([byte]);
    }
    let mut bytes = Vec::new();
    while bytes.len() < 7 {
        bytes.extend(client.read_some().unwrap());
    }
    assert_eq!(bytes, b"\x8a\x01p\x81\x02ab");
    client.send(frame(0x88, b"\x03\xe9"));
    assert_eq!(client.read_some().unwrap(), b"\x88\x02\x03\xe9");
    assert!(client.is_closed());
    seen(&server, "disconnect 1001 ");
}

#[test]
fn what_breaks_the_protocol_is_told_with_a_code() {
    let server = serve(&["--websocket-max-message-size", "100"]);
    for (bytes, code) in [
        (frame(0x81, b"\xff"), 1007_u16),
        (frame(0x82, &[0; 101]), 1009),
        (frame(0x83, b""), 1002),
        (vec![0x81, 0x01, b'x'], 1002),
    ] {
        let mut client = open(&server, "/echo");
        client.send(bytes);
        let close = client.read_some().unwrap();
        assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, code));
        assert!(client.is_closed());
        seen(&server, &format!("disconnect {code} "));
    }
    for (opening, status) in [
        (OPENING.replace("13", "8"), 426),
        (OPENING.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
        // Not an opening: an ordinary request.
        (OPENING.replace("Upgrade: websocket", "Upgrade: other"), 200),
    ] {
        let response = server.connect().send(format!("GET / HTTP/1.1\r\n{opening}")).response();
        assert_eq!(response.status, status, "{opening}");
    }
}

#[test]
fn a_client_that_vanishes_is_noticed() {
    let server = serve(&[]);
    drop(open(&server, "/echo"));
    seen(&server, "disconnect 1006 ");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn a_client_that_sends_faster_than_it_is_heard_waits() {
    let server = serve(&[]);
    let mut client = open(&server, "/slow");
    client.set_timeout(Duration::from_secs(20));
    let writer = client.stream().try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let frame = [&[0x82, 0xfe, 0xff, 0xff, 0, 0, 0, 0][..], &vec![b's'; 65535]].concat();
        for _ in 0..200 {
            (&writer).write_all(&frame).unwrap();
        }
    });
    let mut total = 0;
    while total < 200 * (65535 + 4) {
        total += client.read_some().unwrap().len();
    }
    sender.join().unwrap();
    let worker = server.workers()[0];
    assert!(Server::peak_memory(worker) < 80 << 20, "{}", Server::peak_memory(worker));
}

#[test]
fn a_stop_closes_them_with_1012() {
    let mut server = serve(&[]);
    let mut client = open(&server, "/echo");
    server.signal(Signal::SIGTERM);
    assert_eq!(client.read_some().unwrap(), b"\x88\x02\x03\xf4");
    client.send(frame(0x88, b"\x03\xf4"));
    assert!(client.is_closed());
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.log().contains("lifespan: stopped"), "{}", server.log());
}

#[test]
fn they_count_as_requests_and_are_logged_at_their_end() {
    let server = serve(&["--max-requests", "2", "--access-logfile", "-"]);
    let before = server.workers();
    let mut one = open(&server, "/echo");
    one.send(frame(0x88, b"\x03\xe8"));
    server.wait_for_log("\"GET /echo HTTP/1.1\" 101");
    let mut two = open(&server, "/echo");
    assert_eq!(server.connect().get("/").text(), "hello\n");
    // One that is open doesn't hold up the change of workers.
    assert_eq!(two.read_some().unwrap(), b"\x88\x02\x03\xf4");
    two.send(frame(0x88, b"\x03\xf4"));
    server.wait_until("another worker", || server.workers().len() == 1 && server.workers() != before);
}

/// Reads what comes until the client has heard `times` pings; answers none of them.
fn hear_pings(client: &mut Client, times: usize) {
    let mut heard = Vec::new();
    while heard.windows(2).filter(|two| two == &[0x89, 0]).count() < times {
        let some = client.read_some().unwrap();
        assert!(!some.is_empty(), "closed after {heard:?}");
        heard.extend_from_slice(&some);
    }
}

#[test]
fn a_client_is_asked_as_often_as_the_settings_say() {
    let server = serve(&["--websocket-ping-interval", "0.2", "--websocket-ping-timeout", "0.5"]);
    let mut silent = open(&server, "/echo");
    hear_pings(&mut silent, 1);
    // 1011, "keepalive ping timeout".
    let mut rest = Vec::new();
    while let Ok(some) = silent.read_some()
        && !some.is_empty()
    {
        rest.extend_from_slice(&some);
    }
    assert!(rest.windows(4).any(|part| part == [0x88, 24, 3, 0xf3]), "{rest:?}");
    assert!(rest.ends_with(b"keepalive ping timeout"), "{rest:?}");
    // One that answers, or says anything else, stays.
    let mut lively = open(&server, "/echo");
    for answer in [frame(0x8a, b""), frame(0x81, b"here"), frame(0x8a, b"")] {
        hear_pings(&mut lively, 1);
        lively.send(answer);
    }
    hear_pings(&mut lively, 1);
}

#[test]
fn nobody_is_asked_or_hurried_where_a_setting_is_0() {
    let server = serve(&["--websocket-ping-interval", "0"]);
    let mut client = open(&server, "/echo");
    client.set_timeout(Duration::from_millis(700));
    assert!(client.read_some().is_err(), "nothing comes");
    client.send(frame(0x81, b"hello"));
    client.set_timeout(Duration::from_secs(20));
    assert!(client.read_some().unwrap().ends_with(b"hello"));

    let server = serve(&["--websocket-ping-interval", "0.1", "--websocket-ping-timeout", "0"]);
    let mut client = open(&server, "/echo");
    hear_pings(&mut client, 5);
    client.send(frame(0x81, b"hello"));
}

/// Sends as much of this as is taken, for some seconds; without reading anything.
fn flood(client: &Client, frame: &[u8]) {
    let frames = frame.repeat(10_000);
    let mut stream = client.stream();
    stream.set_nonblocking(true).unwrap();
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(4) && sent < 20 << 20 {
        let from = sent % frames.len();
        match stream.write(frames.get(from..).unwrap()) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
    stream.set_nonblocking(false).unwrap();
}

#[test]
fn messages_without_payload_cost_as_others_do() {
    let tornado: &[&str] = &["-k", "tornado", "tornado_site:app"];
    for (application, path, page) in
        [(RECEIVES, "/deaf", "/seen"), (tornado, "/deaf", "/closed"), (tornado, "/loud", "/closed")]
    {
        let server = serve_with(application, &["--websocket-ping-interval", "0"]);
        assert_eq!(server.connect().get(page).status, 200);
        let worker = server.workers()[0];
        let before = Server::memory(worker);
        let client = open(&server, path);
        for frame in [frame(0x82, b""), frame(0x81, b"a")] {
            flood(&client, &frame);
            assert_eq!(server.connect().get(page).status, 200, "{path}");
        }
        let grown = Server::peak_memory(worker).saturating_sub(before);
        assert!(grown < 30 << 20, "{application:?} {path}: {grown}");
    }
}

#[test]
fn compression_costs_one_that_is_idle_little() {
    let server = serve_with(RECEIVES, &["--websocket-ping-interval", "0"]);
    let worker = server.workers()[0];
    let message = frame(0x01, b"begun").into_iter().chain([0x80, 0xfe, 0x0b, 0xb8, 0, 0, 0, 0]);
    let message: Vec<u8> = message.chain((0..3000_u32).map(|byte| b'a' + (byte * byte % 23) as u8)).collect();
    let mut clients = Vec::new();
    let mut open_more = |count: usize| {
        for _ in 0..count {
            let mut client = server.connect();
            let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
            client.send(format!("GET /echo HTTP/1.1\r\n{offer}\r\n{OPENING}"));
            let response = client.read_response(true).unwrap();
            let agreed = response.header("sec-websocket-extensions");
            assert_eq!(agreed, Some("permessage-deflate; client_max_window_bits=12"));
            for _ in 0..2 {
                client.send(&message);
                // Compressed.
                assert_eq!(client.read_some().unwrap().first(), Some(&0xc1));
            }
            clients.push(client);
        }
        Server::memory(worker)
    };
    let before = open_more(100);
    let grown = open_more(300).saturating_sub(before);
    assert!(grown < 300 * 60 * 1024, "{} bytes each", grown / 300);
}

#[test]
fn one_that_is_accepted_when_the_stop_has_begun_is_told() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let mut server = serve_with(RECEIVES, &["--graceful-timeout", "600"]);
        let before = server.workers();
        let gate = server.scratch().join("gate");
        let mut client = server.connect();
        client.send(format!("GET /late?{} HTTP/1.1\r\n{OPENING}", gate.display()));
        // It is with the application.
        server.wait_until("an answer", || server.connect().get("/seen").status == 200);
        server.signal(signal);
        let title = |pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        server.wait_until("the worker to stop", || {
            before.iter().all(|pid| String::from_utf8_lossy(&title(pid)).contains("stopping"))
        });
        std::fs::write(&gate, "").unwrap();
        assert_eq!(client.read_response(true).unwrap().status, 101);
        assert_eq!(client.read_some().unwrap(), b"\x88\x02\x03\xf4");
        client.send(frame(0x88, b"\x03\xf4"));
        assert!(client.is_closed());
        if signal == Signal::SIGTERM {
            assert_eq!(server.wait().code(), Some(0));
        } else {
            server.wait_until("the old worker to leave", || {
                server.workers().iter().all(|pid| !before.contains(pid))
            });
        }
    }
}

#[test]
fn a_stop_does_not_wait_for_clients_that_say_nothing() {
    for path in ["/echo", "/flood"] {
        let mut server = serve_with(RECEIVES, &["--graceful-timeout", "600"]);
        let client = open(&server, path);
        server.wait_until("an answer", || server.connect().get("/seen").status == 200);
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0), "{path}");
        drop(client);
    }
}

#[test]
fn one_that_fails_is_listened_to_until_it_can_know() {
    let server = serve(&["--websocket-max-message-size", "100"]);
    for _ in 0..5 {
        let mut client = open(&server, "/echo");
        // The head of a message is enough.
        client.send([0x82, 0xfe, 0xff, 0xff, 0, 0, 0, 0]);
        seen(&server, "disconnect 1009 ");
        for _ in 0..5 {
            client.send([b'x'; 2000]);
            std::thread::sleep(Duration::from_millis(20));
        }
        let close = client.read_some().unwrap();
        assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1009));
        assert!(client.is_closed());
    }
}

#[test]
fn one_that_is_closed_is_forgotten() {
    let server = serve_with(RECEIVES, &["--websocket-ping-interval", "600"]);
    let mut client = open(&server, "/kept");
    client.send(frame(0x88, b"\x03\xe8"));
    assert_eq!(client.read_some().unwrap(), b"\x88\x02\x03\xe8");
    assert!(client.is_closed());
    // By the application's own method, and by who counts.
    server.wait_until("nobody else to hold it", || {
        server.connect().get("/references").text().parse::<u32>().is_ok_and(|count| count <= 2)
    });
}

#[test]
fn what_the_handshake_is_made_of_is_there_once() {
    let server = serve_with(RECEIVES, &[]);
    for twice in ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="] {
        let response =
            server.connect().send(format!("GET /echo HTTP/1.1\r\n{twice}\r\n{OPENING}")).response();
        assert_eq!(response.status, 400, "{twice}");
    }
    let mut client = server.connect();
    client.send(format!("GET /own-headers HTTP/1.1\r\n{OPENING}"));
    let head = client.read_response(true).unwrap().head.to_lowercase();
    assert_eq!(head.matches("sec-websocket-accept").count(), 1, "{head}");
    assert!(head.contains("s3pplmbitxaq9kygzzhzrbk+xoo=") && head.contains("x-mine: z"), "{head}");
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
}

#[test]
fn what_came_before_a_client_left_is_heard_to_the_end() {
    let server = serve_with(RECEIVES, &[]);
    let messages = 5000;
    let client = open(&server, &format!("/turns?{messages}"));
    let mut stream = client.stream();
    stream.write_all(&frame(0x81, b"x").repeat(messages + 1)).unwrap();
    // A closed connection, and no close frame.
    client.stream().shutdown(std::net::Shutdown::Write).unwrap();
    drop(client);
    seen(&server, "heard 5000");
}
