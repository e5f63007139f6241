//! Where a thread can wait for it, a large request body streams: it is read while it arrives.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::time::{Duration, Instant};

use rgunicorn_harness::{Client, Server, on_waiting_classes};

fn server(class: &str, arguments: &[&str]) -> Server {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .args(["-w", "1", "-k", class, "--threads", "4", "promises:raw"])
        .args(arguments)
        .start()
}

fn post(client: &mut Client, path: &str, length: usize) {
    client.send(format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n"));
}

fn post_chunked(client: &mut Client, path: &str) {
    client.send(format!("POST {path} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"));
}

on_waiting_classes! {
    fn a_gigabyte_takes_neither_memory_nor_a_file(class: &str) {
        let server = server(class, &[]);
        let answers = |text: &str| -> (u64, u64, String) {
            let mut words = text.splitn(3, ' ');
            let mut next = || words.next().unwrap();
            (next().parse().unwrap(), next().parse().unwrap(), next().to_string())
        };
        let mut client = server.connect();
        post(&mut client, "/count", 1_000_000);
        let (_, before, _) = answers(&client.send(vec![b'x'; 1_000_000]).response().text());
        let piece = vec![b'x'; 1 << 20];
        post(&mut client, "/count", 1 << 30);
        for _ in 0..1024 {
            client.send(&piece);
        }
        let (total, peak, files) = answers(&client.response().text());
        assert_eq!((total, files.as_str()), (1 << 30, "[]"));
        assert!(peak < before + 4096, "memory has grown from {before} to {peak} KiB");

        // Framed in chunks, and on the same connection.
        post_chunked(&mut client, "/count");
        for _ in 0..64 {
            client.send(format!("{:x}\r\n", piece.len())).send(&piece).send("\r\n");
        }
        let (total, peak, files) = answers(&client.send("0\r\n\r\n").response().text());
        assert_eq!((total, files.as_str()), (64 << 20, "[]"));
        assert!(peak < before + 4096, "memory has grown from {before} to {peak} KiB");
    }

    fn what_the_application_does_not_read_the_client_does_not_send(class: &str) {
        let server = server(class, &[]);
        let mut client = server.connect();
        post_chunked(&mut client, "/sleep?s=5");
        let piece = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
        client.stream().set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let sent = (0..64).take_while(|_| client.try_send(&piece).is_ok()).count();
        assert!(sent < 32, "{sent} MiB were taken though nobody reads them");
    }

    fn it_is_read_while_it_arrives(class: &str) {
        let server = server(class, &[]);
        let mut client = server.connect();
        post_chunked(&mut client, "/echo-stream");
        let head = client.send("3\r\nabc\r\n").read_some().unwrap();
        let mut answer = String::from_utf8(head).unwrap();
        while !answer.ends_with("\r\n3\r\nabc\r\n") {
            answer += &String::from_utf8(client.read_some().unwrap()).unwrap();
        }
        assert_eq!(client.send("2\r\nde\r\n").read_some().unwrap(), b"2\r\nde\r\n");
        assert_eq!(client.send("0\r\n\r\n").read_some().unwrap(), b"0\r\n\r\n");
        assert_eq!(client.get("/").status, 200);
    }

    fn a_pause_is_408_and_frees_the_thread(class: &str) {
        let server = server(class, &["--threads", "1", "--client-body-timeout", "0.5"]);
        let mut client = server.connect();
        post(&mut client, "/digest", 1_000_000);
        let start = Instant::now();
        assert_eq!(client.send("some").response().status, 408);
        assert!(client.is_closed());
        assert!(start.elapsed() >= Duration::from_millis(450), "{:?}", start.elapsed());
        assert_eq!(server.connect().get("/").status, 200);
        assert!(!server.log().contains("ERROR"), "{}", server.log());

        // The application may have an answer of its own. With one thread it isn't called: others would have none.
        let server = self::server(class, &["--threads", "2", "--client-body-timeout", "0.5"]);
        let mut client = server.connect();
        post(&mut client, "/caught", 1_000_000);
        let answer = client.send("some").response();
        assert_eq!(answer.status, 499);
        assert!(answer.text().starts_with("TimeoutError: "), "{}", answer.text());
        assert_eq!(answer.header("Connection"), Some("close"));
    }

    fn limits_and_framing_are_kept_while_it_is_read(class: &str) {
        let server = server(class, &["--limit-request-body", "100000", "--request-body-buffer", "1"]);
        for (body, status) in [
            (format!("{:x}\r\n{}\r\n0\r\n\r\n", 200_000, "x".repeat(200_000)), 413),
            ("5\r\nhello!\r\n0\r\n\r\n".into(), 400),
            ("5\r\nhello\r\n0\r\n\r\n".into(), 200),
        ] {
            let mut client = server.connect();
            post_chunked(&mut client, "/digest");
            std::thread::sleep(Duration::from_millis(100));
            let _ = client.try_send(body);
            assert_eq!(client.response().status, status);
            match status {
                200 => assert_eq!(client.get("/").status, 200),
                _ => assert!(client.is_closed()),
            }
        }
        assert_eq!(server.log().matches("Invalid request from ip=").count(), 2, "{}", server.log());
        assert!(!server.log().contains("ERROR"), "{}", server.log());
        let mut client = server.connect();
        post(&mut client, "/digest", 100_001);
        assert_eq!(client.response().status, 413);
    }

    fn a_client_that_leaves_is_an_error_of_the_clients(class: &str) {
        let server = server(class, &[]);
        let mut client = server.connect();
        post(&mut client, "/digest", 1_000_000);
        client.send("some").finish();
        assert!(client.is_closed());
        let mut client = server.connect();
        post(&mut client, "/caught", 1_000_000);
        let answer = client.send("some").finish().response();
        assert!(answer.text().starts_with("ConnectionResetError: "), "{}", answer.text());
        assert!(!server.log().contains("ERROR"), "{}", server.log());
    }

    fn continue_is_said_only_if_the_body_is_wanted(class: &str) {
        let server = server(class, &[]);
        let expect = |path: &str, length: usize| {
            let mut client = server.connect();
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
            );
            client.send(head);
            client
        };
        for length in [5, 500_000] {
            let mut client = expect("/echo", length);
            assert_eq!(client.response().head, "HTTP/1.1 100 Continue\r\n\r\n");
            assert_eq!(client.send("x".repeat(length)).response().body.len(), length);
            assert_eq!(client.get("/").status, 200);

            let mut client = expect("/ignore", length);
            let answer = client.response();
            assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")));
            assert!(client.is_closed());
        }
    }

    fn an_unread_body_does_not_end_the_connection_unless_it_is_huge(class: &str) {
        let server = server(class, &[]);
        let mut client = server.connect();
        for _ in 0..3 {
            post(&mut client, "/ignore", 500_000);
            assert_eq!(client.response().text(), "ignored\n");
            assert_eq!(client.send(vec![b'x'; 500_000]).get("/").text(), "hello\n");
            post_chunked(&mut client, "/ignore");
            assert_eq!(client.response().text(), "ignored\n");
            assert_eq!(client.send("5\r\nhello\r\n0\r\n\r\n").get("/").text(), "hello\n");
        }
        post(&mut client, "/ignore", 500_000_000);
        let answer = client.response();
        assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")));
        assert!(client.is_closed());

        // One without an end is given up.
        let mut client = server.connect();
        post_chunked(&mut client, "/ignore");
        assert_eq!(client.response().status, 200);
        let piece = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
        server.wait_until("the connection to be given up", || client.try_send(&piece).is_err());
    }

    fn a_request_behind_it_is_answered_next(class: &str) {
        let server = server(class, &[]);
        let body = "x".repeat(300_000);
        let mut client = server.connect();
        // One before it as well: its answer must not wait for the body to come.
        client.send(format!(
            "GET /pid HTTP/1.1\r\nHost: t\r\n\r\nPOST /digest HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        assert_eq!(client.response().status, 200);
        client.send(format!("{body}GET /hits HTTP/1.1\r\nHost: t\r\n\r\nGET / HTTP/1.1\r\nHost: t\r\n\r\n"));
        assert!(client.response().text().starts_with("300000 "));
        assert_eq!(client.response().text(), "3");
        assert_eq!(client.response().text(), "hello\n");
        let request = "POST /digest HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        client.send(request);
        std::thread::sleep(Duration::from_millis(100));
        client.send("0\r\n\r\nGET / HTTP/1.1\r\nHost: t\r\n\r\n");
        assert!(client.response().text().starts_with("3 "));
        assert_eq!(client.response().text(), "hello\n");
    }

    fn another_thread_may_read_on_until_the_response_is_over(class: &str) {
        let server = server(class, &["--client-body-timeout", "2"]);
        let result = |expected: &str| {
            server.wait_until("the other thread to have ended", || {
                let text = server.connect().get("/late").text();
                // It may just have been in time.
                assert!(["[]", "[99990]"].contains(&text.as_str()) || text.contains(expected), "{text}");
                text != "[]"
            });
        };
        // It begins when the response is over.
        let mut client = server.connect();
        post(&mut client, "/read-late?s=0.3", 100_000);
        assert_eq!(client.send("x".repeat(10)).response().text(), "10");
        result("OSError: the response is over");
        assert_eq!(client.send("x".repeat(99_990)).get("/").text(), "hello\n");
        // It may be waiting as the response ends.
        let mut client = server.connect();
        post(&mut client, "/read-late?s=0", 100_000);
        assert_eq!(client.send("x".repeat(10)).response().text(), "10");
        result("OSError: the response is over");
        // Its connection is closed meanwhile.
        let mut client = server.connect();
        post(&mut client, "/read-late?s=0", 100_000_000);
        assert_eq!(client.send("x".repeat(10)).response().text(), "10");
        drop(client);
        result("OSError: the response is over");
        assert!(!server.log().contains("ERROR"), "{}", server.log());
    }

    fn a_slow_client_with_a_small_body_holds_no_thread(class: &str) {
        let server = server(class, &["--threads", "1"]);
        let mut slow = server.connect();
        post(&mut slow, "/echo", 6);
        slow.send("abc");
        assert_eq!(server.connect().get("/").status, 200);
        assert_eq!(slow.send("def").response().text(), "abcdef");
    }
}
