//! A connection lives as long as client and server want it to, and no longer.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rgunicorn_harness::{Server, on_every_class};

fn server(class: &str, arguments: &[&str]) -> Server {
    let binary = env!("CARGO_BIN_EXE_rgunicorn");
    Server::build(binary).args(["-k", class, "promises:app"]).args(arguments).start()
}

#[test]
fn event_answers_many_requests_on_one_connection() {
    let server = server("event", &[]);
    let mut client = server.connect();
    for _ in 0..50 {
        let response = client.get("/");
        assert_eq!((response.status, response.text().as_str()), (200, "hello\n"));
        assert_eq!(response.header("Connection"), Some("keep-alive"));
    }
}

#[test]
fn event_answers_pipelined_requests_in_order() {
    let server = server("event", &[]);
    let mut client = server.connect();
    let requests: String =
        (0..40).map(|number| format!("GET /environ?{number} HTTP/1.1\r\nHost: test\r\n\r\n")).collect();
    client.send(&requests);
    for number in 0..40 {
        let body = client.response().text();
        assert!(body.contains(&format!("\"QUERY_STRING\": \"{number}\"")), "{body}");
    }
}

#[test]
fn event_closes_an_idle_connection_after_the_keep_alive_time() {
    let server = server("event", &["--keep-alive", "1"]);
    let mut client = server.connect();
    client.get("/");
    let start = Instant::now();
    assert!(client.is_closed());
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(700) && waited < Duration::from_secs(5), "{waited:?}");
}

#[test]
fn event_without_keep_alive_closes_after_each_response() {
    let server = server("event", &["--keep-alive", "0"]);
    let mut client = server.connect();
    assert_eq!(client.get("/").header("Connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn sync_closes_after_each_response() {
    let server = server("sync", &[]);
    let mut client = server.connect();
    let response = client.get("/");
    assert_eq!((response.status, response.header("Connection")), (200, Some("close")));
    assert!(client.is_closed());
}

on_every_class! {
    fn idle_connections_make_way_for_new_ones(class: &str) {
        for workers in [1, 2] {
            let number = workers.to_string();
            let server = server(class, &["-w", &number, "--worker-connections", "4", "--keep-alive", "600"]);
            server.wait_for_log_times(") is ready", workers);
            let mut idle: Vec<_> = (0..4 * workers).map(|_| server.connect()).collect();
            for client in &mut idle {
                assert_eq!(client.get("/").status, 200);
            }
            for _ in 0..3 {
                assert_eq!(server.connect().get("/").status, 200);
            }
        }
    }

    fn busy_connections_make_way_for_new_ones(class: &str) {
        let server = server(class, &["--worker-connections", "3", "--keep-alive", "600"]);
        let answered = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut client = server.connect();
                    while !answered.load(Relaxed) {
                        if client.get("/").header("Connection") == Some("close") {
                            client = server.connect();
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(500));
            let answer = server.connect().send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").read_response(false);
            answered.store(true, Relaxed);
            assert_eq!(answer.map(|answer| answer.status).ok(), Some(200));
        });
    }

    fn connection_close_is_heeded(class: &str) {
        let server = server(class, &[]);
        let mut client = server.connect();
        let response = client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").response();
        assert_eq!((response.status, response.header("Connection")), (200, Some("close")));
        assert!(client.is_closed());
    }

    fn http_1_0_closes_unless_asked_otherwise(class: &str) {
        let server = server(class, &[]);
        let mut client = server.connect();
        let response = client.send("GET / HTTP/1.0\r\n\r\n").response();
        assert_eq!((response.status, response.text().as_str()), (200, "hello\n"));
        assert!(response.head.starts_with("HTTP/1.0 200"), "{}", response.head);
        assert!(client.is_closed());
    }

    fn a_half_closed_client_gets_its_answer(class: &str) {
        let server = server(class, &[]);
        let mut client = server.connect();
        client.send("GET /sleep?s=0.2 HTTP/1.1\r\nHost: test\r\n\r\n").finish();
        assert_eq!(client.response().text(), "slept\n");
    }
}

#[test]
fn event_keeps_an_http_1_0_connection_that_asks_for_it() {
    let server = server("event", &[]);
    let mut client = server.connect();
    for _ in 0..3 {
        let response = client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").response();
        assert_eq!((response.status, response.header("Connection")), (200, Some("keep-alive")));
    }
}
