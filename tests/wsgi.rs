//! PEP 3333, as an application sees it.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use rgunicorn_harness::{Response, Server, on_waiting_classes, on_wsgi_classes};

fn server(class: &str, application: &str) -> Server {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", class, application]).start()
}

fn get(server: &Server, target: &str) -> Response {
    server.connect().get(target)
}

on_wsgi_classes! {
    fn the_environ_is_complete(class: &str) {
        let server = server(class, "promises:app");
        let request = "POST /environ/%C3%A9t%C3%A9?a=%20b HTTP/1.1\r\nHost: example.test:81\r\nContent-Type: text/plain\r\n\
                       Content-Length: 2\r\nX-Twice: 1\r\nX-Forwarded-Proto: https\r\nX-Twice: 2\r\n\r\nhi";
        let environ = server.connect().send(request).response().text();
        let port = server.port().to_string();
        let expected = [
            ("REQUEST_METHOD", r#""POST""#.to_string()), ("SCRIPT_NAME", r#""""#.into()),
            ("PATH_INFO", r#""/environ/\u00c3\u00a9t\u00c3\u00a9""#.into()), ("QUERY_STRING", r#""a=%20b""#.into()),
            ("RAW_URI", r#""/environ/%C3%A9t%C3%A9?a=%20b""#.into()), ("CONTENT_TYPE", r#""text/plain""#.into()),
            ("CONTENT_LENGTH", r#""2""#.into()), ("SERVER_NAME", r#""127.0.0.1""#.into()),
            ("SERVER_PORT", format!("\"{port}\"")), ("SERVER_PROTOCOL", r#""HTTP/1.1""#.into()),
            ("REMOTE_ADDR", r#""127.0.0.1""#.into()), ("HTTP_HOST", r#""example.test:81""#.into()),
            ("HTTP_X_TWICE", r#""1,2""#.into()), ("wsgi.url_scheme", r#""https""#.into()),
            ("wsgi.version", "[1, 0]".into()), ("wsgi.multithread", matches!(class, "threads" | "coro" | "gevent" | "eventlet").to_string()),
            ("wsgi.multiprocess", "false".into()), ("wsgi.run_once", "false".into()),
            ("wsgi.input_terminated", "true".into()),
        ];
        for (name, value) in expected {
            let part = format!("\"{name}\": {value}");
            assert!(environ.contains(&part), "{part} is missing in {environ}");
        }
        assert!(environ.contains("\"SERVER_SOFTWARE\": \"rgunicorn/"), "{environ}");
        assert!(environ.contains("\"REMOTE_PORT\": \""), "{environ}");
        assert!(!environ.contains("HTTP_CONTENT_LENGTH"), "{environ}");
    }

    fn script_name_is_taken_off_the_path(class: &str) {
        let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
            .args(["-k", class, "promises:app"]).env("SCRIPT_NAME", "/mounted").start();
        let environ = get(&server, "/mounted/environ").text();
        assert!(environ.contains(r#""SCRIPT_NAME": "/mounted""#), "{environ}");
        assert!(environ.contains(r#""PATH_INFO": "/environ""#), "{environ}");
        assert_eq!(get(&server, "/elsewhere").status, 500);
    }

    fn one_item_has_a_length_and_several_are_chunked(class: &str) {
        let server = server(class, "promises:raw");
        let one = get(&server, "/replaced");
        assert_eq!((one.status, one.text().as_str()), (503, "replaced"));
        assert_eq!(one.header("Content-Length"), Some("8"));
        let many = get(&server, "/stream?n=3&size=2");
        assert_eq!((many.header("Transfer-Encoding"), many.text().as_str()), (Some("chunked"), "001122"));
        let old = server.connect().send("GET /stream?n=3&size=2 HTTP/1.0\r\n\r\n").response();
        assert_eq!((old.header("Transfer-Encoding"), old.text().as_str()), (None, "001122"));
    }

    fn pieces_are_sent_as_they_come(class: &str) {
        let server = server(class, "promises:app");
        let mut client = server.connect();
        client.send("GET /stream?n=2&size=3&pause=2 HTTP/1.1\r\nHost: t\r\n\r\n");
        let start = std::time::Instant::now();
        let mut seen = Vec::new();
        while !seen.windows(3).any(|window| window == b"000") {
            let some = client.read_some().expect("the first piece");
            assert!(!some.is_empty());
            seen.extend(some);
        }
        assert!(start.elapsed().as_millis() < 1500, "the first piece waited for the second");
    }

    fn write_comes_before_the_iterable(class: &str) {
        assert_eq!(get(&server(class, "promises:app"), "/write?n=3").text(), "0,1,2,end");
    }

    fn a_generator_may_start_its_response_late(class: &str) {
        assert_eq!(get(&server(class, "promises:raw"), "/lazy").text(), "lazy");
    }

    fn head_204_205_and_304_have_no_body(class: &str) {
        let server = server(class, "promises:raw");
        let mut client = server.connect();
        let response = client.send("HEAD / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").read_response(true).unwrap();
        assert_eq!((response.status, response.header("Content-Length")), (200, Some("6")));
        assert!(client.is_closed(), "something came after the head");
        let none = [("204%20No%20Content", None), ("205%20Reset%20Content", Some("0")), ("304%20Not%20Modified", None)];
        for (line, length) in none {
            let mut client = server.connect();
            let response = client.send(format!("GET /status?line={line} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"))
                .response();
            assert_eq!(response.header("Transfer-Encoding"), None);
            assert_eq!(response.header("Content-Length"), length);
            assert!(client.is_closed(), "something came after the head");
        }
    }

    fn an_early_failure_is_500_and_logged(class: &str) {
        let server = server(class, "promises:raw");
        let response = get(&server, "/fail-early?x=1");
        assert_eq!(response.status, 500);
        assert!(!response.text().contains("failed before"), "the traceback is not for clients");
        server.wait_for_log("ValueError: failed before the response");
        assert!(server.log().contains("Error handling request GET /fail-early?x=1"));
        assert_eq!(get(&server, "/").status, 200);
    }

    fn a_late_failure_cuts_the_connection(class: &str) {
        let server = server(class, "promises:raw");
        let response = server.connect().get("/fail-late");
        assert_eq!((response.status, response.whole), (200, false));
        server.wait_for_log("ValueError: failed in the middle");
        assert!(get(&server, "/closed").text().contains("fail_late"));
    }

    fn breaking_the_rules_is_an_error(class: &str) {
        let server = server(class, "promises:raw");
        for (target, complaint) in [
            ("/never-started", "start_response"), ("/started-twice", "AssertionError"),
            ("/injected", "X-Evil"), ("/status?line=20%20Short", "20 Short"), ("/status?line=200%20a%0d%0aX:%20y", "200 a"),
            ("/text-item", "TypeError"),
        ] {
            let response = get(&server, target);
            assert_eq!(response.status, 500, "{target}: {}", response.head);
            assert!(!response.head.contains("Set-Cookie"), "{}", response.head);
            server.wait_for_log(complaint);
        }
    }

    fn the_announced_length_is_kept_to(class: &str) {
        let server = server(class, "promises:raw");
        let long = server.connect().get("/too-long");
        assert_eq!((long.text().as_str(), long.whole), ("long", true));
        server.wait_for_log("longer than its Content-Length");
        let mut client = server.connect();
        let short = client.get("/too-short");
        assert_eq!((short.text().as_str(), short.whole), ("short", false));
        server.wait_for_log("shorter than its Content-Length");
    }

    fn hop_by_hop_headers_are_the_servers(class: &str) {
        let response = get(&server(class, "promises:raw"), "/hop-by-hop");
        assert_eq!(response.header("X-Kept"), Some("yes"));
        assert_eq!(response.header("Keep-Alive"), None);
        // One of an ASGI application's own stands, as with all servers of such.
        let server = if class == "asgi" { "other" } else { "rgunicorn" };
        assert_eq!(response.header("Server"), Some(server));
        assert_eq!(response.head.to_lowercase().matches("server:").count(), 1);
        assert!(!response.head.contains("gzip"), "{}", response.head);
        assert!(response.header("Date").is_some_and(|date| date.ends_with(" GMT")), "{}", response.head);
    }

    fn close_is_called_once_even_when_the_client_leaves(class: &str) {
        let server = server(class, "promises:raw");
        get(&server, "/stream?name=whole");
        {
            let mut client = server.connect();
            client.send("GET /stream?n=100000&size=10000&name=left HTTP/1.1\r\nHost: t\r\n\r\n");
            client.read_some().expect("the beginning");
        }
        server.wait_until("both to be closed", || {
            get(&server, "/closed").text() == r#"["whole", "left"]"#
        });
    }

    fn a_file_is_sent_from_its_position(class: &str) {
        let server = server(class, "promises:app");
        let path = server.scratch().join("file");
        let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let response = get(&server, &format!("/file?path={}&from=1000", path.display()));
        assert_eq!(response.status, 200);
        assert!(response.body == content[1000..], "the file differs");
        let old = server.connect().send(format!("GET /file?path={} HTTP/1.0\r\n\r\n", path.display())).response();
        assert!(old.body == content, "the file differs under HTTP/1.0");
    }

    fn wsgi_errors_and_standard_output_are_in_the_log(class: &str) {
        let server = server(class, "promises:raw");
        get(&server, "/complain");
        server.wait_for_log("said on wsgi.errors\n");
        server.wait_for_log("said on standard output\n");
    }

    fn system_exit_ends_the_worker_and_another_comes(class: &str) {
        let server = server(class, "promises:raw");
        let before = get(&server, "/pid").text();
        assert_eq!(get(&server, "/leave?code=0").status, 500);
        server.wait_until("another worker", || get(&server, "/pid").text() != before);
    }

    fn threads_and_processes_work_inside(class: &str) {
        let server = server(class, "promises:raw");
        // multiprocessing's pools don't work with these libraries, nor do they under gunicorn.
        let (query, pool) =
            if matches!(class, "gevent" | "eventlet") { ("?pool=no", "") } else { ("", ", \"pool\"") };
        let expected = format!("[\"thread\", \"subprocess\"{pool}]");
        assert_eq!(get(&server, &format!("/processes{query}")).text(), expected);
    }

    fn the_interpreter_is_the_environments(class: &str) {
        let server = server(class, "promises:raw");
        let facts = get(&server, "/interpreter").text();
        let python = rgunicorn_harness::python();
        let prefix = python.parent().and_then(|bin| bin.parent()).unwrap();
        assert!(facts.contains(&format!("\"prefix\": \"{}\"", prefix.display())), "{facts}");
        assert!(facts.contains(&format!("\"executable\": \"{}", python.parent().unwrap().display())), "{facts}");
        let main_thread = format!("\"main_thread\": {}", !matches!(class, "threads" | "coro" | "gevent" | "eventlet"));
        assert!(facts.contains(&main_thread), "{facts}");
        let apps = rgunicorn_harness::repository().join("tests/apps");
        assert!(facts.contains(&format!("\"cwd\": \"{}\"", apps.display())), "{facts}");
        assert!(facts.contains(&format!("\"path\": [\"{}\"", apps.display())), "{facts}");
    }
}

on_waiting_classes! {
    fn clients_that_ask_for_another_protocol_share_what_it_takes(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let text = "kinds = set()\n\
            def app(environ, start_response):\n\
            \x20   socket = environ['gunicorn.socket']\n\
            \x20   kinds.add(type(socket))\n\
            \x20   start_response('200 OK', [])\n\
            \x20   return [f'{len(kinds)} {socket.fileno() >= 0}'.encode()]\n";
        std::fs::write(directory.path().join("kinds.py"), text).unwrap();
        let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
            .directory(directory.path()).args(["-k", class, "kinds:app"]).start();
        let mut client = server.connect();
        // Each has something behind it, but the last.
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n".repeat(20));
        for _ in 0..20 {
            assert_eq!(client.response().text(), "1 True", "nothing is made anew for each");
        }
    }
}
