//! The parts of a request may be as large as the settings say, and no larger.

use rgunicorn_harness::{Server, on_every_class};

fn server(class: &str, arguments: &[&str]) -> Server {
    let binary = env!("CARGO_BIN_EXE_rgunicorn");
    Server::build(binary).args(["-k", class, "promises:app"]).args(arguments).start()
}

on_every_class! {
    fn a_long_request_line_is_414(class: &str) {
        let server = server(class, &["--limit-request-line", "100"]);
        let line = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "a".repeat(length - 14));
        assert_eq!(server.connect().send(line(100)).response().status, 200);
        assert_eq!(server.connect().send(line(101)).response().status, 414);
        // And without a line end in sight.
        assert_eq!(server.connect().send("GET /".to_string() + &"a".repeat(200)).response().status, 414);
    }

    fn many_or_large_fields_are_431(class: &str) {
        let server = server(class, &["--limit-request-fields", "5", "--limit-request-field_size", "50"]);
        let fields = |count: usize| (1..count).map(|n| format!("X-{n}: v\r\n")).collect::<String>();
        let request = |fields: String| format!("GET / HTTP/1.1\r\nHost: t\r\n{fields}\r\n");
        assert_eq!(server.connect().send(request(fields(5))).response().status, 200);
        assert_eq!(server.connect().send(request(fields(6))).response().status, 431);
        let field = |length: usize| format!("X-L: {}\r\n", "v".repeat(length - 7));
        assert_eq!(server.connect().send(request(field(50))).response().status, 200);
        assert_eq!(server.connect().send(request(field(51))).response().status, 431);
        // And without an end in sight.
        assert_eq!(server.connect().send(format!("GET / HTTP/1.1\r\nX: {}", "v".repeat(5000))).response().status, 431);
    }

    fn a_large_head_is_431(class: &str) {
        let server = server(class, &["--limit-request-head", "20K"]);
        let fields = |count: usize| (0..count).map(|n| format!("X-{n}: {}\r\n", "v".repeat(990))).collect::<String>();
        let request = |count: usize| format!("GET / HTTP/1.1\r\nHost: t\r\n{}\r\n", fields(count));
        assert_eq!(server.connect().send(request(20)).response().status, 200);
        assert_eq!(server.connect().send(request(21)).response().status, 431);
        server.wait_for_log("the request head is larger than limit_request_head, 20480 bytes");
    }

    fn a_target_whose_brackets_hold_no_address_is_400(class: &str) {
        let server = server(class, &[]);
        let get = |target: &str| {
            server.connect().send(format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n")).response().status
        };
        for target in ["http://[::1/x", "s://]ufd/:"] {
            assert_eq!(get(target), 400, "{target}");
        }
        assert_eq!(get("http://[::1]:8000/"), 200);
    }

    fn a_large_body_is_413(class: &str) {
        let server = server(class, &["--limit-request-body", "1000"]);
        let post = |length: usize| {
            format!("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n{}", "b".repeat(length))
        };
        assert_eq!(server.connect().send(post(1000)).response().body.len(), 1000);
        assert_eq!(server.connect().send(post(1001)).response().status, 413);
        let chunked = format!(
            "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3E9\r\n{}\r\n0\r\n\r\n", "b".repeat(1001)
        );
        assert_eq!(server.connect().send(chunked).response().status, 413);
    }
}
