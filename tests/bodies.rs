//! Request bodies arrive whole, however they are framed and split.

use std::time::Duration;

use rgunicorn_harness::{Server, on_every_class};

fn server(class: &str) -> Server {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", class, "promises:app"]).start()
}

on_every_class! {
    fn a_chunked_body_is_put_together(class: &str) {
        let server = server(class);
        let mut client = server.connect();
        client.send("POST /digest HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in ["3\r\nabc\r\n", "5;name=value\r\nde", "fgh\r", "\n0\r\nX-Trailer: t\r\n", "\r\n"] {
            client.send(piece);
            std::thread::sleep(Duration::from_millis(20));
        }
        let response = client.response();
        assert_eq!(response.status, 200);
        assert!(response.text().starts_with("8 9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab"));
    }

    fn every_byte_may_come_alone(class: &str) {
        let server = server(class);
        let mut client = server.connect();
        for byte in b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello" {
            client.send([*byte]);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(client.response().text(), "hello");
    }

    fn lines_are_lines(class: &str) {
        let server = server(class);
        let body = "one\ntwo\n\nthree";
        let request = format!("POST /lines HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(server.connect().send(request).response().text(), r#"["one\n", "two\n", "\n", "three"]"#);
    }

    fn continue_is_said_when_it_is_waited_for(class: &str) {
        let server = server(class);
        let mut client = server.connect();
        client.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.response().head, "HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(client.send("hello").response().text(), "hello");
    }

    fn a_body_larger_than_its_buffer_is_whole(class: &str) {
        let server = server(class);
        let mut client = server.connect();
        let body = "0123456789abcdef".repeat(200_000);
        client.send(format!("POST /digest HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.send(&body);
        let answer = client.response().text();
        assert!(answer.starts_with("3200000 "), "{answer}");
        let echoed = server.connect()
            .send(format!("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
            .response();
        assert!(echoed.body == body.as_bytes(), "the echo differs");
    }

    fn a_client_that_leaves_in_the_middle_is_forgotten(class: &str) {
        let server = server(class);
        for _ in 0..5 {
            server.connect().send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhe");
        }
        assert_eq!(server.connect().get("/").status, 200);
        assert!(!server.log().contains("ERROR"), "{}", server.log());
    }
}
