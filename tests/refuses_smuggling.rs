//! A request that two parsers could read differently never reaches the application, and ends its connection.

use rgunicorn_harness::{Client, Server, assert_has, on_every_class};

/// What is sent, and the status that refuses it.
const REFUSED: &[(&str, &str, u16)] = &[
    (
        "both lengths",
        "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "unequal lengths",
        "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        400,
    ),
    ("a signed length", "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: +4\r\n\r\nabcd", 400),
    ("a length with an underscore", "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 1_0\r\n\r\nabcd", 400),
    ("a length in hexadecimal", "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 0x4\r\n\r\nabcd", 400),
    ("a length list", "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4, 4\r\n\r\nabcd", 400),
    ("an empty length", "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: \r\n\r\nabcd", 400),
    (
        "a length beyond 64 bits",
        "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 18446744073709551617\r\n\r\nabcd",
        400,
    ),
    (
        "an unknown coding",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        501,
    ),
    (
        "chunked twice",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "chunked in two headers",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "chunked not last",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "chunked in HTTP/1.0",
        "POST /echo HTTP/1.0\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "a coding with a control character",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "a malformed chunk size",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0x4\r\nabcd\r\n0\r\n\r\n",
        400,
    ),
    (
        "a negative chunk size",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n-4\r\nabcd\r\n0\r\n\r\n",
        400,
    ),
    (
        "an empty chunk size",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabcd\r\n0\r\n\r\n",
        400,
    ),
    (
        "a huge chunk size",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\nabcd\r\n0\r\n\r\n",
        400,
    ),
    (
        "a chunk without its line end",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcdX\r\n0\r\n\r\n",
        400,
    ),
    (
        "a chunk size ended by LF",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n4\nabcd\r\n0\r\n\r\n",
        400,
    ),
    (
        "a bare CR in a chunk extension",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n4;a\rb\r\nabcd\r\n0\r\n\r\n",
        400,
    ),
    (
        "a malformed chunk extension",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n4;a=\"b\r\nabcd\r\n0\r\n\r\n",
        400,
    ),
    (
        "a forbidden trailer",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
        400,
    ),
    ("a header name that isn't a token", "GET / HTTP/1.1\r\nHost: t\r\nBad[Name]: x\r\n\r\n", 400),
    ("an empty header name", "GET / HTTP/1.1\r\nHost: t\r\n: x\r\n\r\n", 400),
    ("a header without a colon", "GET / HTTP/1.1\r\nHost: t\r\nnonsense\r\n\r\n", 400),
    ("white space before the colon", "GET / HTTP/1.1\r\nHost: t\r\nX-A : b\r\n\r\n", 400),
    ("a folded line", "GET / HTTP/1.1\r\nHost: t\r\nX-A: b\r\n c\r\n\r\n", 400),
    ("a folded first line", "GET / HTTP/1.1\r\n Host: t\r\n\r\n", 400),
    ("bare LF line ends", "GET / HTTP/1.1\nHost: t\n\n", 400),
    ("a bare LF among the headers", "GET / HTTP/1.1\r\nHost: t\nX-A: b\r\n\r\n", 400),
    ("a bare CR in a value", "GET / HTTP/1.1\r\nHost: t\r\nX-A: b\rc\r\n\r\n", 400),
    ("a NUL in a value", "GET / HTTP/1.1\r\nHost: t\r\nX-A: b\0c\r\n\r\n", 400),
    ("a NUL in the target", "GET /\0 HTTP/1.1\r\nHost: t\r\n\r\n", 400),
    ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("a method in lower case", "get / HTTP/1.1\r\nHost: t\r\n\r\n", 400),
    ("a method that isn't a token", "G@T / HTTP/1.1\r\nHost: t\r\n\r\n", 400),
    ("HTTP/2.0", "GET / HTTP/2.0\r\nHost: t\r\n\r\n", 400),
    ("HTTP/1.10", "GET / HTTP/1.10\r\nHost: t\r\n\r\n", 400),
    ("a version in lower case", "GET / http/1.1\r\nHost: t\r\n\r\n", 400),
    ("no version", "GET /\r\nHost: t\r\n\r\n", 400),
    ("an empty target", "GET  HTTP/1.1\r\nHost: t\r\n\r\n", 400),
    ("an asterisk for GET", "GET * HTTP/1.1\r\nHost: t\r\n\r\n", 400),
    ("a target of another form", "GET example.com:80 HTTP/1.1\r\nHost: t\r\n\r\n", 400),
    (
        "contradictory schemes",
        "GET / HTTP/1.1\r\nHost: t\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n\r\n",
        400,
    ),
    (
        "an unknown expectation",
        "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: miracles\r\n\r\nabcd",
        417,
    ),
];

fn hits(client: &mut Client) -> u64 {
    client.get("/hits").text().parse().expect("a number")
}

on_every_class! {
    fn and_the_application_is_never_called(class: &str) {
        let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", class, "promises:raw"]).start();
        let before = hits(&mut server.connect());
        for (name, request, status) in REFUSED {
            let mut client = server.connect();
            let response = client.send(request).read_response(false);
            let response = response.unwrap_or_else(|error| panic!("{name}: no response: {error}"));
            assert_eq!(response.status, *status, "{name}: {}", response.head);
            assert_eq!(response.header("Connection"), Some("close"), "{name}");
            assert!(response.whole, "{name}");
            assert!(client.is_closed(), "{name}: the connection is still open");
        }
        // Nothing but the two looks at the counter has reached the application.
        assert_eq!(hits(&mut server.connect()), before + 1);
        assert_eq!(server.log().matches("Invalid request from ip=127.0.0.1").count(), REFUSED.len());
    }

    fn whatever_follows_a_refused_request_is_not_read_as_one(class: &str) {
        let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", class, "promises:raw"]).start();
        let mut client = server.connect();
        client.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
                     GET /hits HTTP/1.1\r\nHost: t\r\n\r\n");
        assert_eq!(client.response().status, 400);
        assert!(client.is_closed());
    }

    fn what_the_relaxing_settings_allow_is_allowed(class: &str) {
        let settings = ["--permit-obsolete-folding", "--strip-header-spaces", "--permit-unconventional-http-method",
                        "--casefold-http-method", "--header-map", "dangerous"];
        let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
            .args(["-k", class, "promises:raw"]).args(settings).start();
        let request = "get /environ HTTP/1.1\r\nHost: t\r\nX-Folded: a\r\n  b\r\nX-Space : c\r\nX_Under: d\r\n\r\n";
        let response = server.connect().send(request).response();
        assert_eq!(response.status, 200, "{}", response.text());
        let environ = response.text();
        assert_has(&environ, ["\"REQUEST_METHOD\": \"GET\"", "\"HTTP_X_FOLDED\": \"a b\"", "\"HTTP_X_SPACE\": \"c\"",
                     "\"HTTP_X_UNDER\": \"d\""]);
    }

    fn a_header_that_could_pass_for_another_is_dropped(class: &str) {
        let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", class, "promises:raw"]).start();
        let request = "GET /environ HTTP/1.1\r\nHost: t\r\nX_Forwarded_For: evil\r\nX-Kept: yes\r\n\r\n";
        let environ = server.connect().send(request).response().text();
        assert!(environ.contains("\"HTTP_X_KEPT\": \"yes\""), "{environ}");
        assert!(!environ.contains("evil"), "{environ}");
    }
}
