//! Many requests leave nothing behind: no memory, no reference, no descriptor.
//!
//! `RGUNICORN_LEAK_REQUESTS=1000000 tests/run -p rgunicorn-cli --test leaks` takes more of them than a run of all tests
//! does; with `PYO3_PYTHON` naming a debug build of CPython, each and every reference is counted.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use rgunicorn_harness::{Client, Server};

/// Requests of every kind, that are sent in one go.
const KINDS: [&str; 9] = [
    "GET /hits HTTP/1.1\r\nHost: t\r\nX-Of-My-Own: value\r\nAccept: */*\r\n\r\n",
    "GET /environ?a=b HTTP/1.1\r\nHost: t\r\nCookie: a=b\r\nCookie: c=d\r\nX-Forwarded-Proto: https\r\n\r\n",
    "HEAD / HTTP/1.1\r\nHost: t\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello",
    "POST /lines HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\none\n\n\r\n0\r\n\r\n",
    "POST /ignore HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\none\n\n\r\n0\r\n\r\n",
    "GET /stream?n=3 HTTP/1.1\r\nHost: t\r\n\r\n",
    "GET /write HTTP/1.1\r\nHost: t\r\n\r\n",
    "GET /replaced HTTP/1.1\r\nHost: t\r\n\r\n",
];
/// Each of these ends its connection.
const LAST: [&str; 4] = [
    "GET /fail-early HTTP/1.1\r\nHost: t\r\n\r\n",
    "GET /too-short HTTP/1.1\r\nHost: t\r\n\r\n",
    "GET /fail-late HTTP/1.1\r\nHost: t\r\n\r\n",
    "GET /stream?n=3 HTTP/1.0\r\n\r\n",
];

/// How many rounds of [`KINDS`] one connection sees.
const ROUNDS: usize = 50;

/// Sends all kinds again and again until there were so many requests.
fn send(port: u16, requests: usize) {
    let round = KINDS.concat();
    for number in 0..requests.div_ceil(KINDS.len() * ROUNDS) {
        let client = Client::connect(port);
        let mut stream = client.stream();
        let last = LAST[number % LAST.len()];
        let writer = stream.try_clone().expect("a descriptor can be copied");
        // One that streams, where the class has that.
        let upload = "POST /digest HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n";
        let all = [upload, &"x".repeat(100_000), &round.repeat(ROUNDS), last].concat();
        let writing = std::thread::spawn(move || (&writer).write_all(all.as_bytes()));
        let (mut answers, mut piece) = (Vec::new(), [0; 64 * 1024]);
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            answers.extend_from_slice(&piece[..count]);
        }
        writing.join().expect("it ends").expect("the server takes what is sent");
        let found =
            answers.windows(9).filter(|window| window == b"HTTP/1.1 " || window == b"HTTP/1.0 ").count();
        assert!(
            found > KINDS.len() * ROUNDS,
            "{found} answers: {}",
            String::from_utf8_lossy(&answers[..200])
        );
    }
}

fn account(server: &Server) -> BTreeMap<String, i64> {
    let mut held = BTreeMap::new();
    // The first look at it makes objects of its own.
    for _ in 0..3 {
        let text = server.connect().get("/account").text();
        for pair in text.trim_matches(['{', '}']).split(", ") {
            let (name, value) = pair.split_once(": ").expect("a name and a value");
            held.insert(name.trim_matches('"').to_string(), value.parse().expect("a number"));
        }
    }
    let worker = server.workers()[0];
    let descriptors = std::fs::read_dir(format!("/proc/{worker}/fd")).expect("it lives").count();
    held.insert("descriptors".into(), i64::try_from(descriptors).expect("a small number"));
    held.insert(
        "KiB of memory".into(),
        i64::try_from(Server::memory(worker) / 1024).expect("a small number"),
    );
    held
}

fn leaves_nothing(class: &str) {
    let requests = std::env::var("RGUNICORN_LEAK_REQUESTS");
    let requests = requests.map_or(20_000, |text| text.parse().expect("RGUNICORN_LEAK_REQUESTS is a number"));
    let arguments = ["-w", "1", "-k", class, "promises:raw"];
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(arguments).start();
    send(server.port(), 5_000);
    let before = account(&server);
    send(server.port(), requests);
    let after = account(&server);
    println!("{class}: before {before:?}, after {requests} requests {after:?}");
    for (name, before) in before {
        // A leak is a matter of every request, or of every ninth.
        let most = match name.as_str() {
            "descriptors" => 2,
            "KiB of memory" => 4096,
            _ => 1_000,
        };
        let growth = after[&name] - before;
        assert!(growth <= most, "{growth} more {name} after {requests} requests");
    }
}

#[test]
fn with_threads() {
    leaves_nothing("threads");
}

#[test]
fn with_event() {
    leaves_nothing("event");
}
