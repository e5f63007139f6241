//! What an ASGI application asks for it gets once, whoever gives up waiting for it; and one that asks or sends without end
//! doesn't keep others from theirs.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use rgunicorn_harness::{Client, Server};

const LOOPS: [&str; 2] = ["asyncio", "uvloop"];
const OPENING: &str = "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn serve(arguments: &[&str]) -> Server {
    let build = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", "asgi"]);
    let server = build.args(arguments.iter().copied()).args(["receives:app"]).start();
    server.wait_for_workers(1);
    server
}

fn seen(server: &Server, what: &str) {
    server
        .wait_until(&format!("{what:?} to be seen"), || server.connect().get("/seen").text().contains(what));
}

/// How often something was seen.
fn count(server: &Server, what: &str) -> usize {
    server.connect().get("/seen").text().matches(what).count()
}

fn open(server: &Server, target: &str) -> Client {
    let mut client = server.connect();
    client.send(format!("GET {target} HTTP/1.1\r\n{OPENING}"));
    let response = client.read_response(true).unwrap();
    assert_eq!(response.status, 101, "{}", response.head);
    client
}

/// A client's frame of text with a mask of zeros.
fn text(payload: &str) -> Vec<u8> {
    [&[0x81, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload.as_bytes()].concat()
}

/// Sends something while the worker's loop is kept, and lets it go on only when a time-out has passed, too.
fn send_meanwhile(server: &Server, gate: &Path, client: &mut Client, bytes: &[u8]) {
    let blocked = PathBuf::from(format!("{}.blocked", gate.display()));
    server.wait_until("the loop to be kept", || blocked.exists());
    client.send(bytes);
    std::thread::sleep(Duration::from_millis(300));
    std::fs::write(gate, "").unwrap();
}

#[test]
fn a_message_that_comes_as_its_receiver_gives_up_is_the_next_ones() {
    for event_loop in LOOPS {
        let server = serve(&["--asgi-loop", event_loop]);
        for path in ["/impatient", "/one-of-two"] {
            let gate = server.scratch().join(path.trim_start_matches('/'));
            let mut client = open(&server, &format!("{path}?{}", gate.display()));
            send_meanwhile(&server, &gate, &mut client, &text("here"));
            assert!(client.read_some().unwrap().starts_with(b"\x81\x04here"), "{event_loop} {path}");
        }
        assert_eq!(count(&server, "given up"), 1, "{event_loop}");
    }
}

#[test]
fn a_piece_of_a_body_that_comes_as_its_receiver_gives_up_is_the_next_ones() {
    for event_loop in LOOPS {
        let server = serve(&["--asgi-loop", event_loop]);
        let gate = server.scratch().join("gate");
        let mut client = server.connect();
        client.send(format!(
            "POST /upload?{} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            gate.display()
        ));
        send_meanwhile(&server, &gate, &mut client, b"5\r\nfirst\r\n");
        seen(&server, "given up");
        client.send("6\r\nsecond\r\n0\r\n\r\n");
        assert_eq!(client.response().text(), "firstsecond", "{event_loop}");
    }
}

#[test]
fn a_task_that_is_cancelled_before_it_has_begun_takes_no_message() {
    for event_loop in LOOPS {
        let server = serve(&["--asgi-loop", event_loop]);
        let mut client = server.connect();
        client.send(
            [format!("GET /not-begun HTTP/1.1\r\n{OPENING}").as_bytes(), &text("one"), &text("two")].concat(),
        );
        assert_eq!(client.read_response(true).unwrap().status, 101);
        let mut bytes = Vec::new();
        while bytes.len() < 5 {
            bytes.extend(client.read_some().unwrap());
        }
        assert_eq!(bytes.get(..5), Some(&b"\x81\x03one"[..]), "{event_loop}");
    }
}

#[test]
fn a_task_of_anyios_that_is_cancelled_takes_no_message() {
    let server = serve(&[]);
    let mut client = open(&server, "/under-anyio");
    assert_eq!(client.read_some().unwrap(), b"\x81\x08given up");
    client.send(text("one"));
    assert!(client.read_some().unwrap().starts_with(b"\x81\x03one"));
}

#[test]
fn an_application_that_asks_on_after_the_end_is_told_twice_and_waits() {
    for event_loop in LOOPS {
        let server = serve(&["--asgi-loop", event_loop, "--asgi-disconnect-grace-period", "1"]);
        drop(open(&server, "/ask-on"));
        // It waits for nothing: its task ends as that of a request without a client does.
        seen(&server, "cancelled");
        assert_eq!(count(&server, "disconnect"), 2, "{event_loop}");
        assert!(!server.log().contains("ERROR"), "{}", server.log());
    }
}

#[test]
fn a_request_that_asks_on_after_its_client_has_left_keeps_nobody() {
    let server = serve(&["--asgi-disconnect-grace-period", "2"]);
    let mut client = server.connect();
    client.send("GET /ask-on HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(String::from_utf8_lossy(&client.read_some().unwrap()).contains("200 OK"));
    drop(client);
    seen(&server, "http.disconnect");
    seen(&server, "cancelled");
    // Twice at once, and then once a second.
    let told = count(&server, "http.disconnect");
    assert!((2..200).contains(&told), "{told}");
}

#[test]
fn whoever_sends_on_after_his_client_has_left_is_told_by_an_oserror() {
    for event_loop in LOOPS {
        let server = serve(&["--asgi-loop", event_loop]);
        let mut client = server.connect();
        client.send("GET /send-on HTTP/1.1\r\nHost: a\r\n\r\n");
        seen(&server, "begun");
        drop(client);
        seen(&server, "told by an OSError");
        // A WebSocket's sender that takes no notice of that lets others have their turn.
        drop(open(&server, "/send-on"));
        seen(&server, "told 1000 times");
        assert!(!server.log().contains("ERROR"), "{}", server.log());
    }
}

#[test]
fn a_request_that_sends_on_regardless_is_cancelled_in_time() {
    let server = serve(&["--asgi-disconnect-grace-period", "1"]);
    let mut client = server.connect();
    client.send("GET /send-on-regardless HTTP/1.1\r\nHost: a\r\n\r\n");
    seen(&server, "begun");
    drop(client);
    seen(&server, "cancelled");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn what_follows_a_response_that_nobody_hears_is_done() {
    let server = serve(&[]);
    let mut client = server.connect();
    client.send("GET /answer-late HTTP/1.1\r\nHost: a\r\n\r\n");
    seen(&server, "begun");
    drop(client);
    seen(&server, "done");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn a_response_that_never_has_to_wait_leaves_others_their_turn() {
    let server = serve(&[]);
    let mut client = server.connect();
    client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut reader = client.stream().try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut bytes = vec![0; 1 << 20];
        while matches!(std::io::Read::read(&mut reader, &mut bytes), Ok(count) if count > 0) {}
    });
    assert_eq!(server.connect().get("/seen").status, 200);
    client.stream().shutdown(std::net::Shutdown::Both).unwrap();
    reading.join().unwrap();
}

#[test]
fn a_response_that_never_has_to_wait_ends_with_its_server() {
    for event_loop in LOOPS {
        let mut server = serve(&["--asgi-loop", event_loop, "--graceful-timeout", "1"]);
        let mut client = server.connect();
        client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut reader = client.stream().try_clone().unwrap();
        let reading = std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 20];
            while matches!(std::io::Read::read(&mut reader, &mut bytes), Ok(count) if count > 0) {}
        });
        assert_eq!(server.connect().get("/seen").status, 200);
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0), "{event_loop}");
        assert!(!server.log().contains("SIGKILL"), "{}", server.log());
        reading.join().unwrap();
    }
}

#[test]
fn messages_that_are_there_already_leave_others_their_turn() {
    for event_loop in LOOPS {
        let server = serve(&["--asgi-loop", event_loop]);
        let messages = 5000;
        let mut client = open(&server, &format!("/turns?{messages}"));
        client.set_timeout(Duration::from_secs(60));
        client.send(text("x").repeat(messages + 1));
        let bytes = client.read_some().unwrap();
        let length = usize::from(bytes[1]);
        let turns: usize = String::from_utf8_lossy(&bytes[2..2 + length]).parse().unwrap();
        assert!(turns >= 40, "{event_loop}: {turns}");
    }
}
