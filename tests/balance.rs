//! Work goes where a worker is free: connections are shared out evenly, and outlive their worker.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rgunicorn_harness::{Client, Server, on_classes, on_every_class};

fn start(class: &str, workers: usize) -> Server {
    start_with(class, workers, &[])
}

fn start_with(class: &str, workers: usize, arguments: &[&str]) -> Server {
    let binary = env!("CARGO_BIN_EXE_rgunicorn");
    let count = workers.to_string();
    let server = Server::build(binary)
        .args(["-k", class, "-w", &count, "--keep-alive", "60", "promises:app"])
        .args(arguments)
        .start();
    server.wait_for_log_times(") is ready", workers);
    server
}

/// How many of the answers each worker gave.
fn by_worker(answers: impl IntoIterator<Item = String>) -> Vec<usize> {
    let mut counts = HashMap::new();
    for pid in answers {
        *counts.entry(pid).or_insert(0) += 1;
    }
    counts.into_values().collect()
}

fn pid(client: &mut Client) -> String {
    let response = client.get("/pid");
    assert_eq!(response.status, 200, "{}", response.head);
    response.text()
}

on_classes! {
    [event threads coro asgi gevent eventlet tornado]

    fn connections_that_come_together_are_shared_out_evenly(class: &str) {
        let server = start(class, 4);
        // 20 each, but for what a machine makes of it that has no time for one of them: that nobody has half of them, once in
        // five, is enough. Left to the kernel, one has nearly all.
        let even = (0..5).any(|_| {
            let mut clients: Vec<Client> = (0..80).map(|_| server.connect()).collect();
            let counts = by_worker(clients.iter_mut().map(pid));
            eprintln!("{class}: {counts:?}");
            counts.iter().all(|count| *count <= 40)
        });
        assert!(even);
    }

    fn a_reload_closes_no_connection(class: &str) {
        let server = start(class, 2);
        let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
        let before: Vec<String> = clients.iter_mut().map(pid).collect();
        // One is in the middle of a request's head.
        let mut late = server.connect();
        pid(&mut late);
        late.send("GET /pid HTT");
        server.signal(Signal::SIGHUP);
        server.wait_for_log_times("Worker exiting", 2);
        late.send("P/1.1\r\nHost: test\r\n\r\n");
        let mut after: Vec<String> = clients.iter_mut().map(pid).collect();
        after.push(late.response().text());
        assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?} {after:?}");
        // They are as good as before.
        let again: Vec<String> = clients.iter_mut().map(pid).collect();
        assert_eq!(again.as_slice(), &after[..8]);
    }
}

on_every_class! {
    fn workers_that_wait_take_turns(class: &str) {
        let server = start(class, 3);
        let mut counts = by_worker((0..120).map(|_| {
            let mut client = server.connect();
            client.send("GET /pid HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").response().text()
        }));
        counts.sort_unstable();
        assert_eq!(counts.iter().sum::<usize>(), 120);
        // With the others, who is woken up first may take them all, as long as it has done with one before the next comes.
        if class == "sync" {
            assert!(counts.len() == 3 && counts[0] >= 15, "{counts:?}");
        }
    }

    fn the_last_worker_answers_what_others_have_left(class: &str) {
        // All are told to stop at once: whoever hands over finds nobody, or somebody who answers.
        let mut server = start(class, 3);
        let mut clients: Vec<Client> = (0..12).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(|client| {
            client.send("GET /pid HTTP/1.1\r\nHost: test\r\n\r\n");
        });
        server.signal(Signal::SIGTERM);
        for client in &mut clients {
            assert_eq!(client.response().status, 200);
        }
        assert_eq!(server.wait().code(), Some(0));
    }
}

on_classes! {
    [event threads coro asgi gevent eventlet tornado]

    fn no_request_waits_for_one_that_keeps_the_interpreter_while_a_worker_is_free(class: &str) {
        helps_out(&start(class, 3), "/hold?s=2.5", 2);
    }
}

#[test]
fn no_request_waits_for_a_thread_while_a_worker_is_free() {
    helps_out(&start_with("threads", 3, &["--threads", "1"]), "/sleep?s=2.5", 2);
}

#[test]
fn no_request_waits_for_a_coroutine_while_a_worker_is_free() {
    // There is room for one more, in one of them.
    helps_out(&start_with("coro", 3, &["--threads", "2"]), "/sleep?s=2.5", 5);
}

/// So many slow requests here and there, and quick ones on connections that all of them hold.
fn helps_out(server: &Server, slow_request: &str, count: usize) {
    let mut clients: Vec<Client> = (0..12 + count).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| {
        pid(client);
    });
    let (slow, rest) = clients.split_at_mut(count);
    let begin = Instant::now();
    for client in &mut *slow {
        client.send(format!("GET {slow_request} HTTP/1.1\r\nHost: test\r\n\r\n"));
    }
    // Time enough for them to begin, and for whoever looks after the rest to become sleepy.
    std::thread::sleep(Duration::from_millis(400));
    let busy: Vec<String> = rest.iter_mut().map(pid).collect();
    let answered = begin.elapsed();
    for client in &mut *slow {
        assert_eq!(client.response().status, 200);
    }
    // Without help, a third of them would be answered after it.
    assert!(answered < Duration::from_millis(2000), "{answered:?} {busy:?}");
    assert!(begin.elapsed() >= Duration::from_millis(2500));
}
