//! `-k asgi`: what ASGI promises to applications, and what the server promises to clients of such.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rgunicorn_harness::{Builder, Server, assert_has};

fn build() -> Builder {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", "asgi"])
}

fn serve(arguments: &[&str]) -> Server {
    let server = build().args(arguments.iter().copied()).args(["asgi:app"]).start();
    server.wait_for_log("lifespan: started");
    server
}

fn seen(server: &Server, what: &str) {
    server
        .wait_until(&format!("{what:?} to be seen"), || server.connect().get("/seen").text().contains(what));
}

#[test]
fn a_response_in_one_piece_and_the_next_on_the_same_connection() {
    let server = serve(&[]);
    let mut client = server.connect();
    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!((response.status, response.text().as_str()), (200, "hello\n"));
        assert_eq!(response.header("content-length"), Some("6"));
        assert_eq!(response.header("connection"), Some("keep-alive"));
    }
}

#[test]
fn the_scope_says_what_was_asked_for() {
    let server = serve(&["--root-path", "/api"]);
    let mut client = server.connect();
    let scope = client
        .send("GET /a%20b/%C3%A4?x=%31 HTTP/1.1\r\nHost: test\r\nX-Two: 1\r\nX-TWO: 2\r\n\r\n")
        .response()
        .text();
    assert_has(
        &scope,
        [
            "\"asgi\": {\"spec_version\": \"2.3\", \"version\": \"3.0\"}",
            "\"client\": [\"127.0.0.1\", ",
            "\"headers\": [[\"host\", \"test\"], [\"x-two\", \"1\"], [\"x-two\", \"2\"]]",
            "\"http_version\": \"1.1\"",
            "\"method\": \"GET\"",
            "\"path\": \"/api/a b/\\u00e4\"",
            "\"raw_path\": \"/api/a%20b/%C3%A4\"",
            "\"query_string\": \"x=%31\"",
            "\"root_path\": \"/api\"",
            "\"scheme\": \"http\"",
            &format!("\"server\": [\"127.0.0.1\", {}]", server.port()),
            "\"state\": {\"started\": \"yes\"}",
            "\"type\": \"http\"",
        ],
    );
    // A proxy that leaves the root path in place is as good.
    let scope = client.get("/api/more").text();
    assert!(scope.contains("\"path\": \"/api/more\""), "{scope}");
}

#[test]
fn a_trusted_proxy_says_who_the_client_is() {
    let ask = |server: &Server| {
        let request = "GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9, 127.0.0.1\r\n\
                       X-Forwarded-Proto: https\r\n\r\n";
        server.connect().send(request).response().text()
    };
    let scope = ask(&serve(&[]));
    assert!(
        scope.contains("\"client\": [\"9.9.9.9\", 0]") && scope.contains("\"scheme\": \"https\""),
        "{scope}"
    );
    let scope = ask(&serve(&["--forwarded-allow-ips", "10.0.0.1"]));
    assert!(
        scope.contains("\"client\": [\"127.0.0.1\", ") && scope.contains("\"scheme\": \"http\""),
        "{scope}"
    );
}

#[test]
fn bodies_go_both_ways() {
    let server = serve(&[]);
    let mut client = server.connect();
    for size in [0, 1, 70_000, 3_000_000] {
        let body = "b".repeat(size);
        client.send(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{body}"));
        assert_eq!(client.response().body, body.as_bytes(), "{size}");
    }
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    assert_eq!(client.response().text(), "abcde");
}

#[test]
fn a_body_is_read_while_it_arrives() {
    let server = serve(&[]);
    let mut client = server.connect();
    client.send("POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().status, 100);
    client.send("12345");
    seen(&server, "had 5");
    client.send("67890GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "True 10");
    assert_eq!(client.response().text(), "hello\n");
    let head = format!("POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 64 << 20);
    client.send(head);
    for _ in 0..64 {
        client.send(vec![b'u'; 1 << 20]);
    }
    assert_eq!(client.response().text(), format!("True {}", 64 << 20));
    let worker = server.workers()[0];
    assert!(Server::peak_memory(worker) < 100 << 20, "{}", Server::peak_memory(worker));
}

#[test]
fn a_body_that_breaks_off_is_a_client_that_has_left() {
    let server = serve(&["--client-body-timeout", "1"]);
    let mut client = server.connect();
    client.send("POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123");
    drop(client);
    seen(&server, "broken off");
    // One that pauses for too long is told so.
    let mut client = server.connect();
    client.send("POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123");
    assert_eq!(client.response().status, 408);
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn a_response_of_unknown_length_comes_in_chunks() {
    let response = serve(&[]).connect().get("/stream");
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    assert_eq!((response.text().as_str(), response.whole), ("0,1,2,", true));
}

#[test]
fn a_head_does_not_wait_for_its_body() {
    let server = serve(&[]);
    let signal = server.scratch().join("go");
    let mut client = server.connect();
    client.send(format!("GET /head-first?{} HTTP/1.1\r\nHost: a\r\n\r\n", signal.display()));
    let head = String::from_utf8_lossy(&client.read_some().unwrap()).into_owned();
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("x-early: yes"), "{head}");
    std::fs::write(signal, "").unwrap();
    let rest = String::from_utf8_lossy(&client.read_some().unwrap()).into_owned();
    assert!(rest.contains("at last"), "{rest}");
}

#[test]
fn an_application_waits_for_a_client_that_reads_slowly() {
    let server = serve(&[]);
    let mut client = server.connect();
    client.send("GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(500));
    let pieces = server.connect().get("/seen").text();
    let last: u64 = pieces.trim_end_matches(']').rsplit(", ").next().unwrap().parse().unwrap_or(0);
    assert!(last < 900, "the application was not held up: {pieces}");
    let response = client.response();
    assert_eq!((response.body.len(), response.whole), (64 << 20, true));
    let worker = server.workers()[0];
    assert!(Server::peak_memory(worker) < 120 << 20, "{}", Server::peak_memory(worker));
}

#[test]
fn requests_are_answered_side_by_side() {
    let server = serve(&[]);
    let start = Instant::now();
    let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET /sleep?0.5 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().text(), "slept\n");
    }
    assert!(start.elapsed() < Duration::from_secs(8), "one after the other would take 10 seconds");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = serve(&[]);
    let mut client = server.connect();
    client.send("GET /sleep?0.1 HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    let texts: Vec<_> = (0..3).map(|_| client.response().text()).collect();
    assert_eq!(texts, ["slept\n", "hello\n", "0,1,2,"]);
}

#[test]
fn an_application_learns_that_its_client_has_left() {
    let server = serve(&[]);
    let mut client = server.connect();
    client.send("GET /linger HTTP/1.1\r\nHost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(200));
    drop(client);
    seen(&server, "http.disconnect");
    seen(&server, "sent");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn a_client_that_has_only_ended_its_side_is_still_answered() {
    let server = serve(&[]);
    let mut client = server.connect();
    client.send("GET /sleep?0.3 HTTP/1.1\r\nHost: a\r\n\r\n").finish();
    assert_eq!(client.response().text(), "slept\n");
}

#[test]
fn an_application_without_a_client_is_cancelled_after_its_grace_period() {
    let server = serve(&["--asgi-disconnect-grace-period", "1"]);
    let mut client = server.connect();
    client.send("GET /forget HTTP/1.1\r\nHost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(200));
    drop(client);
    seen(&server, "cancelled");
    server.wait_until("the connection to be gone", || server.connect().get("/").status == 200);
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn failures_are_answered_and_logged() {
    let server = serve(&[]);
    for (path, report) in [
        ("/fail-early", "ValueError: failed before the response"),
        ("/fail-started", "ValueError: failed before the body"),
        ("/silent", "without having started a response"),
        ("/injected", "x-evil"),
    ] {
        let response = server.connect().get(path);
        assert_eq!(response.status, 500, "{path}");
        assert_eq!(response.header("connection"), Some("close"), "{path}");
        server.wait_for_log(report);
    }
    assert!(server.log().contains("Error handling request GET /fail-early"), "{}", server.log());
    assert!(server.log().contains("in fail_early"), "{}", server.log());
    assert!(!server.log().contains("never retrieved"), "{}", server.log());
    for (path, report) in [
        ("/fail-late", "ValueError: failed in the middle"),
        ("/unfinished", "without having completed its response"),
    ] {
        let response = server.connect().get(path);
        assert_eq!((response.status, response.whole), (200, false), "{path}");
        server.wait_for_log(report);
    }
    assert_eq!(server.connect().get("/").text(), "hello\n");
}

#[test]
fn an_exit_ends_the_worker_and_another_takes_its_place() {
    let server = serve(&[]);
    let before = server.workers();
    assert_eq!(server.connect().get("/leave").status, 500);
    server.wait_for_log("exit with status 7");
    server.wait_until("another worker", || server.workers().len() == 1 && server.workers() != before);
    assert_eq!(server.connect().get("/").text(), "hello\n");
}

#[test]
fn an_application_finds_what_it_expects_around_it() {
    for (choice, module) in [("asyncio", "asyncio"), ("uvloop", "uvloop"), ("auto", "uvloop")] {
        let server = serve(&["--asgi-loop", choice]);
        let facts = server.connect().get("/facts").text();
        let expected = "\"same_task\": true";
        assert!(facts.contains("\"task\": true") && facts.contains(expected), "{facts}");
        assert!(facts.contains("\"executor\": \"thread\""), "{facts}");
        assert!(facts.contains("\"receive\": \"http.request\""), "{facts}");
        assert!(facts.contains("\"variable\": \"mine\""), "{facts}");
        // A unix event loop's class is of asyncio's.
        assert!(facts.contains(&format!("\"loop\": \"{module}\"")), "{facts}");
        // A context variable stays with its request, whoever has asked the loop for what.
        for _ in 0..20 {
            let mut client = server.connect();
            client
                .send("GET /facts HTTP/1.1\r\nHost: a\r\n\r\nGET /variable HTTP/1.1\r\nHost: a\r\n\r\n")
                .response();
            assert_eq!(client.response().text(), "unset");
        }
        assert_eq!(server.connect().get("/half-duplex").text(), "from a task of its own\n");
    }
}

#[test]
fn early_hints_trailers_and_files() {
    let server = serve(&[]);
    let mut client = server.connect();
    client.send("GET /hints HTTP/1.1\r\nHost: a\r\n\r\n");
    let hint = client.response();
    assert_eq!((hint.status, hint.header("link")), (103, Some("</style.css>; rel=preload")));
    assert_eq!(client.response().header("link"), Some("</a.js>; rel=preload"));
    assert_eq!(client.response().text(), "hinted\n");
    let old = server.connect().send("GET /hints HTTP/1.0\r\n\r\n").response();
    assert_eq!((old.status, old.text().as_str()), (200, "hinted\n"));

    let mut client = server.connect();
    client.send("GET /trailers HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut bytes = Vec::new();
    while let Ok(some) = client.read_some()
        && !some.is_empty()
    {
        bytes.extend(some);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.ends_with("\r\n4\r\nbody\r\n0\r\nx-sum: 4\r\n\r\n"), "{text}");

    let file = server.scratch().join("file");
    std::fs::write(&file, vec![b'p'; 200_000]).unwrap();
    let response = server.connect().get(&format!("/path-send?{}", file.display()));
    assert_eq!((response.body.len(), response.header("content-length")), (200_000, Some("200000")));
}

#[test]
fn work_behind_a_response_goes_on_and_is_waited_for() {
    let mut server = serve(&[]);
    let mut client = server.connect();
    assert_eq!(client.get("/background").text(), "answered\n");
    assert_eq!(client.get("/").text(), "hello\n");
    seen(&server, "background");
    client.get("/background");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_lifespan_ends_after_the_last_request() {
    let mut server = serve(&[]);
    let mut client = server.connect();
    client.send("GET /sleep?0.5 HTTP/1.1\r\nHost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(200));
    server.signal(Signal::SIGTERM);
    let response = client.response();
    assert_eq!((response.text().as_str(), response.header("connection")), ("slept\n", Some("close")));
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(server.log().matches("lifespan: stopped").count(), 1, "{}", server.log());
}

#[test]
fn a_quick_stop_runs_the_lifespans_shutdown_too() {
    let mut server = serve(&[]);
    let mut client = server.connect();
    client.send("GET /sleep?20 HTTP/1.1\r\nHost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(200));
    server.signal(Signal::SIGINT);
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.log().contains("lifespan: stopped"), "{}", server.log());
}

#[test]
fn an_application_that_cannot_start_says_why() {
    for (mode, lifespan, reason) in [
        ("fail", "auto", "no database today"),
        ("fail", "on", "no database today"),
        ("raise", "on", "ValueError: raised in the lifespan"),
    ] {
        let build = build().env("LIFESPAN", mode).args(["--asgi-lifespan", lifespan, "asgi:app"]);
        let (status, _, said) = build.run();
        assert_eq!(status, Some(3), "{said}");
        assert!(said.contains(reason), "{said}");
    }
    // One that doesn't know the protocol is served without.
    let server = build().env("LIFESPAN", "raise").args(["asgi:app"]).start();
    assert_eq!(server.connect().get("/").text(), "hello\n");
    let server = build().env("LIFESPAN", "fail").args(["--asgi-lifespan", "off", "asgi:app"]).start();
    assert_eq!(server.connect().get("/").text(), "hello\n");
}

#[test]
fn a_worker_makes_room_after_its_requests() {
    let server = serve(&["--max-requests", "5"]);
    let before = server.workers();
    for _ in 0..5 {
        assert_eq!(server.connect().get("/").text(), "hello\n");
    }
    server.wait_until("another worker", || server.workers().len() == 1 && server.workers() != before);
    server.wait_for_log_times("lifespan: started", 2);
    assert_eq!(server.connect().get("/").text(), "hello\n");
    assert!(server.log().contains("lifespan: stopped"), "{}", server.log());
}

#[test]
fn asgi_2_is_adapted_and_wsgi_is_told_where_it_belongs() {
    let server = build().args(["asgi:Old"]).start();
    assert_eq!(server.connect().get("/").text(), "old\n");
    let (status, _, said) = build().args(["asgi:wsgi"]).run();
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("takes two arguments, as a WSGI application does"), "{said}");
}

#[test]
fn uvicorns_names_are_known() {
    for name in
        ["uvicorn.workers.UvicornWorker", "uvicorn_worker.UvicornWorker", "uvicorn_worker.UvicornH11Worker"]
    {
        let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", name, "asgi:app"]).start();
        assert_eq!(server.connect().get("/").text(), "hello\n", "{name}");
        assert!(server.log().contains("Using worker: asgi"), "{}", server.log());
    }
}

#[test]
fn the_access_log_has_a_line_for_each_request() {
    let server = serve(&["--access-logfile", "-", "--access-logformat", "%(m)s %(U)s %(s)s %(b)s"]);
    let mut client = server.connect();
    client.get("/");
    client.get("/stream");
    server.wait_for_log("GET / 200 6");
    server.wait_for_log("GET /stream 200 6");
}
