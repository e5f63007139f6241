//! An application may speak another protocol on the client's socket: WebSockets under WSGI.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rgunicorn_harness::{Server, on_waiting_classes, python, repository};

fn server(class: &str, threads: usize, arguments: &[&str]) -> Server {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .args(["-w", "1", "-k", class, "--threads", &threads.to_string()])
        .args(arguments)
        .start()
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: lines\r\nConnection: Upgrade\r\n\r\n";

on_waiting_classes! {
    fn flask_sock_talks_to_a_websocket_client(class: &str) {
        let server = server(class, 30, &["sockets:app", "--access-logfile", "-"]);
        let worker = server.wait_for_workers(1)[0];
        server.wait_for_log("is ready");
        let sockets = |worker: i32| {
            let descriptors = std::fs::read_dir(format!("/proc/{worker}/fd")).expect("it lives");
            let links = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
            links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
        };
        let idle = sockets(worker);
        let script = repository().join("tests/clients/websocket_client.py");
        let output = Command::new(python()).arg(script).arg(server.url()).arg("20").output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        server.wait_for_log_times("\"GET /echo HTTP/1.1\" 101 ", 20);
        assert_eq!(server.connect().get("/").text(), "plain\n");
        assert!(!server.log().contains("ERROR"), "{}", server.log());
        // The sockets are gone with their requests: none is left open.
        server.wait_until("all sockets to be closed", || sockets(worker) <= idle);
    }

    fn what_came_behind_the_request_is_not_lost(class: &str) {
        let server = server(class, 2, &["sockets:raw"]);
        for early in ["", "one\n", "one\ntw"] {
            let mut client = server.connect();
            client.send(format!("{UPGRADE}{early}"));
            let mut answer = String::new();
            let rest = "one\ntwo\nend\n".strip_prefix(early).expect("it is a prefix");
            while answer.len() < SWITCHED.len() {
                answer += &String::from_utf8_lossy(&client.read_some().expect("an answer"));
            }
            client.send(rest);
            while !client.is_closed() {
                answer += &String::from_utf8_lossy(&client.read_some().unwrap_or_default());
            }
            assert_eq!(answer, format!("{SWITCHED}ONE\nTWO\n"), "after {early:?}");
        }
        assert!(!server.log().contains("ERROR"), "{}", server.log());
    }

    fn an_application_may_as_well_answer_by_http(class: &str) {
        let server = server(class, 2, &["sockets:raw"]);
        let mut client = server.connect();
        for _ in 0..3 {
            client.send(UPGRADE.replace("GET /", "GET /ignore"));
            assert_eq!(client.response().text(), "ignored\n");
        }
        // Only those who ask for another protocol get the socket.
        assert_eq!(client.get("/").status, 426);
    }

    fn an_upgraded_connection_counts_as_long_as_it_is_open(class: &str) {
        let server = server(class, 4, &["sockets:raw", "--worker-connections", "2"]);
        let mut upgraded: Vec<_> = (0..2).map(|_| server.connect()).collect();
        for client in &mut upgraded {
            client.send(UPGRADE);
            assert_eq!(String::from_utf8_lossy(&client.read_some().expect("an answer")), SWITCHED);
        }
        let mut third = server.connect();
        third.send("GET /ignore HTTP/1.1\r\nHost: t\r\n\r\n").set_timeout(Duration::from_millis(500));
        assert!(third.read_some().is_err(), "a third connection was served");
        upgraded[0].send("end\n");
        assert!(upgraded[0].is_closed());
        assert_eq!(third.set_timeout(Duration::from_secs(20)).response().status, 200);
    }

    fn a_graceful_stop_waits_for_it_for_so_long(class: &str) {
        let mut server = server(class, 4, &["sockets:raw", "--graceful-timeout", "1"]);
        let mut client = server.connect();
        client.send(UPGRADE);
        assert_eq!(String::from_utf8_lossy(&client.read_some().expect("an answer")), SWITCHED);
        server.signal(Signal::SIGTERM);
        assert_eq!(client.send("still here\n").read_some().expect("an answer"), b"STILL HERE\n");
        let start = Instant::now();
        assert_eq!(server.wait().code(), Some(0));
        assert!(client.is_closed());
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}
