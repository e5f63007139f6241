//! A slow client costs a buffer, never a worker.

use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use rgunicorn_harness::{Server, on_every_class};

fn server(class: &str, arguments: &[&str]) -> Server {
    let binary = env!("CARGO_BIN_EXE_rgunicorn");
    let server = Server::build(binary).args(["-w", "1", "-k", class, "promises:app"]).args(arguments).start();
    // How long a worker takes to boot is no matter here.
    server.wait_for_log(") is ready");
    server
}

fn answers_at_once(server: &Server) {
    let start = Instant::now();
    assert_eq!(server.connect().get("/").status, 200);
    assert!(start.elapsed() < Duration::from_secs(2), "another client waited {:?}", start.elapsed());
}

on_every_class! {
    fn one_that_dribbles_its_head_holds_up_nobody(class: &str) {
        let server = server(class, &[]);
        let mut slow: Vec<_> = (0..10).map(|_| server.connect()).collect();
        for client in &mut slow {
            client.send("GET / HT");
        }
        answers_at_once(&server);
        for client in &mut slow {
            assert_eq!(client.send("TP/1.1\r\nHost: t\r\n\r\n").response().status, 200);
        }
    }

    fn one_that_dribbles_its_body_holds_up_nobody(class: &str) {
        let server = server(class, &[]);
        let mut slow = server.connect();
        slow.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 6\r\n\r\nabc");
        answers_at_once(&server);
        assert_eq!(slow.send("def").response().text(), "abcdef");
    }

    fn many_that_dribble_large_bodies_hold_up_nobody(class: &str) {
        let server = server(class, &[]);
        let head = |more: &str| format!("POST /digest HTTP/1.1\r\nHost: t\r\n{more}\r\n\r\n");
        let mut slow: Vec<_> = (0..12).map(|number| (number % 3, server.connect())).collect();
        for (kind, client) in &mut slow {
            match kind {
                0 => client.send(head("Content-Length: 300000")).send("x"),
                1 => client.send(head("Transfer-Encoding: chunked")).send("1\r\nx\r\n"),
                _ => client.send(head("Content-Length: 300000\r\nExpect: 100-continue")),
            };
        }
        std::thread::sleep(Duration::from_millis(300));
        for _ in 0..3 {
            answers_at_once(&server);
        }
        let body = "x".repeat(300_000);
        for (kind, client) in &mut slow {
            let answer = match kind {
                0 => client.send(&body[1..]).response(),
                1 => client.send(format!("{:x}\r\n{}\r\n0\r\n\r\n", 299_999, &body[1..])).response(),
                _ => {
                    assert_eq!(client.response().head, "HTTP/1.1 100 Continue\r\n\r\n");
                    client.send(&body).response()
                }
            };
            assert!(answer.text().starts_with("300000 "), "{kind}: {} {}", answer.head, answer.text());
        }
    }

    fn one_that_does_not_read_holds_up_nobody(class: &str) {
        let server = server(class, &[]);
        let mut slow = server.connect();
        slow.send("GET /stream?n=4000&size=10000 HTTP/1.1\r\nHost: t\r\n\r\n");
        answers_at_once(&server);
        let mut writer = server.connect();
        writer.send("GET /write-much?mib=16 HTTP/1.1\r\nHost: t\r\n\r\n");
        answers_at_once(&server);
        let response = slow.response();
        assert!(response.whole);
        assert_eq!(response.body.len(), 40_000_000);
        let response = writer.response();
        assert!(response.whole);
        assert_eq!(response.body.len(), 16 << 20);
    }

    fn a_head_that_takes_too_long_is_408(class: &str) {
        let server = server(class, &["--client-header-timeout", "0.5"]);
        let mut client = server.connect();
        let start = Instant::now();
        client.send("GET / HTTP/1.1\r\n");
        // More bytes don't buy more time.
        std::thread::sleep(Duration::from_millis(300));
        client.send("Host: t\r\n");
        assert_eq!(client.response().status, 408);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert!(client.is_closed());
    }

    fn a_pause_in_a_body_is_408(class: &str) {
        let server = server(class, &["--client-body-timeout", "0.5"]);
        let mut client = server.connect();
        client.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 6\r\n\r\nabc");
        assert_eq!(client.response().status, 408);
        assert!(client.is_closed());
    }

    fn a_client_that_stops_reading_is_let_go(class: &str) {
        let server = server(class, &["--send-timeout", "0.5"]);
        let mut client = server.connect();
        client.send("GET /stream?n=4000&size=10000&name=stuck HTTP/1.1\r\nHost: t\r\n\r\n");
        // The application's iterable is closed, which is how we know that the server gave up on it.
        server.wait_until("the stream to be closed", || server.connect().get("/closed").text().contains("stuck"));
        let response = client.response();
        assert!(!response.whole, "a response that was given up must not look whole");
    }
}

#[test]
fn a_request_does_not_wait_for_one_worker_while_another_is_idle() {
    // On one processor the worker that is woken up for a connection finds a request as well, more often than not.
    let mut one = CpuSet::new();
    let all = sched_getaffinity(Pid::from_raw(0)).expect("the processors are known");
    let first = (0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap_or(false)).expect("there is one");
    one.set(first).expect("it can be picked");
    sched_setaffinity(Pid::from_raw(0), &one).expect("it can be used");
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-w", "2", "promises:app"]).start();
    server.wait_for_log_times("Booting worker", 2);
    std::thread::sleep(Duration::from_secs(1));
    let mut held_up = 0;
    for _ in 0..20 {
        let mut slow = server.connect();
        std::thread::sleep(Duration::from_millis(20));
        let mut quick = server.connect();
        slow.send("GET /sleep?s=0.4 HTTP/1.1\r\nHost: t\r\n\r\n");
        let start = Instant::now();
        assert_eq!(quick.get("/").status, 200);
        held_up += u32::from(start.elapsed() > Duration::from_millis(300));
        assert_eq!(slow.response().status, 200);
    }
    // A worker may have taken both connections before it knew of a request.
    assert!(held_up <= 10, "{held_up} of 20 were held up");
}
