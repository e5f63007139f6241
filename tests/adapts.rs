//! The number of workers follows the load where that is asked for, and memory has an end.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rgunicorn_harness::{Client, Server};

fn server(class: &str, arguments: &[&str]) -> Server {
    let binary = env!("CARGO_BIN_EXE_rgunicorn");
    Server::build(binary).args(["-k", class, "promises:app"]).args(arguments).start()
}

#[test]
fn workers_come_with_the_load_and_go_when_it_has_gone() {
    for class in ["sync", "event", "threads"] {
        let server = server(class, &["-w", "1", "--workers-max", "3", "--workers-idle", "1"]);
        let (port, stop) = (server.port(), Arc::new(AtomicBool::new(false)));
        let clients: Vec<_> = (0..16)
            .map(|_| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let response = Client::connect(port).get("/sleep?s=0.1");
                        assert_eq!(response.status, 200);
                    }
                })
            })
            .collect();
        server.wait_for_log("2 workers, instead of 1");
        server.wait_for_log("3 workers, instead of 2");
        server.wait_for_workers(3);
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().expect("every request is answered"));
        server.wait_for_log("1 workers, instead of 2");
        server.wait_for_workers(1);
        assert!(!server.log().contains("4 workers"), "{class}: {}", server.log());
    }
}

#[test]
fn a_worker_over_its_memory_limit_is_killed_and_replaced() {
    let server = server("sync", &["-w", "1", "--worker-memory-limit", "150M"]);
    let workers = server.wait_for_workers(1);
    // It hangs with the memory in its hands, so that nothing graceful would help.
    let mut client = server.connect();
    client.send("GET /hoard?mb=200 HTTP/1.1\r\nHost: t\r\n\r\n");
    server.wait_for_log("worker_memory_limit allows 150 MiB: killed");
    assert!(client.read_response(false).is_err(), "it answers nothing");
    server.wait_until("another worker", || {
        server.workers().first().is_some_and(|worker| *worker != workers[0])
    });
    assert_eq!(server.connect().get("/").status, 200);
    assert!(!server.log().contains("Perhaps out of memory"), "{}", server.log());
}
