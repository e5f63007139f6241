//! Each signal does what an operator of gunicorn expects, under load as well.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rgunicorn_harness::{Client, Load, Server, application, on_classes, on_every_class};

fn server(class: &str, arguments: &[&str]) -> Server {
    let binary = env!("CARGO_BIN_EXE_rgunicorn");
    Server::build(binary).args(["-k", class, "promises:raw"]).args(arguments).start()
}

on_every_class! {
    fn term_finishes_what_is_held(class: &str) {
        let mut server = server(class, &["-w", "2"]);
        let mut client = server.connect();
        client.send("GET /sleep?s=1 HTTP/1.1\r\nHost: t\r\n\r\n");
        std::thread::sleep(Duration::from_millis(300));
        server.signal(Signal::SIGTERM);
        let response = client.response();
        assert_eq!((response.text().as_str(), response.header("Connection")), ("slept\n", Some("close")));
        assert_eq!(server.wait().code(), Some(0));
        assert!(server.log().contains("Shutting down: Master"), "{}", server.log());
    }

    fn term_answers_those_in_the_listen_queue(class: &str) {
        let mut server = server(class, &["-w", "1"]);
        let mut busy = server.connect();
        busy.send("GET /sleep?s=0.5 HTTP/1.1\r\nHost: t\r\n\r\n");
        std::thread::sleep(Duration::from_millis(200));
        let mut queued: Vec<_> = (0..40).map(|_| {
            let mut client = server.connect();
            client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
            client
        }).collect();
        server.signal(Signal::SIGTERM);
        assert_eq!(busy.response().text(), "slept\n");
        for client in &mut queued {
            assert_eq!(client.response().status, 200);
        }
        let answered = Instant::now();
        assert_eq!(server.wait().code(), Some(0));
        assert!(answered.elapsed() < Duration::from_secs(5), "{:?}", answered.elapsed());
    }

    fn term_does_not_wait_longer_than_the_graceful_timeout(class: &str) {
        let mut server = server(class, &["--graceful-timeout", "1"]);
        let mut client = server.connect();
        client.send("GET /sleep?s=60 HTTP/1.1\r\nHost: t\r\n\r\n");
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        server.signal(Signal::SIGTERM);
        server.wait();
        assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    }

    fn int_and_quit_leave_at_once(class: &str) {
        for signal in [Signal::SIGINT, Signal::SIGQUIT] {
            let mut server = server(class, &["-w", "2"]);
            server.wait_for_workers(2);
            let start = Instant::now();
            server.signal(signal);
            assert_eq!(server.wait().code(), Some(0), "{signal}");
            assert!(start.elapsed() < Duration::from_secs(5), "{signal}: {:?}", start.elapsed());
        }
    }

    fn hup_brings_new_code_and_new_settings(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        file("site.conf.py", "workers = 1\n");
        file("changing.py", &application("b'old'"));
        let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).directory(directory.path())
            .args(["-k", class, "-c", "site.conf.py", "changing:app"]).start();
        assert_eq!(server.connect().get("/").text(), "old");
        file("changing.py", &application("b'new one'"));
        file("site.conf.py", "workers = 3\n");
        server.signal(Signal::SIGHUP);
        server.wait_for_workers(3);
        server.wait_until("the new code", || server.connect().get("/").text() == "new one");
    }

    fn hup_with_something_broken_keeps_the_old_workers(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let good = &application("b'good'");
        file("conf.py", "workers = 2\n");
        file("changing.py", good);
        let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).directory(directory.path())
            .args(["-k", class, "-c", "conf.py", "--log-level", "debug", "changing:app"]).start();
        server.wait_for_log_times("is ready", 2);
        let old = server.wait_for_workers(2);
        assert_eq!(server.connect().get("/").text(), "good");
        // First the configuration.
        file("conf.py", "workers = 'many'\n");
        server.signal(Signal::SIGHUP);
        server.wait_for_log("reload failed");
        assert_eq!(server.connect().get("/").text(), "good");
        // Then the application.
        file("conf.py", "workers = 2\n");
        file("changing.py", "this is no Python\n");
        server.signal(Signal::SIGHUP);
        server.wait_for_log_times("reload failed", 2);
        server.wait_until("the old workers alone", || server.workers() == old);
        assert_eq!(server.connect().get("/").text(), "good");
        assert!(server.log().contains("SyntaxError"), "{}", server.log());
        // And the next good one goes through.
        file("changing.py", &good.replace("good", "good again"));
        server.signal(Signal::SIGHUP);
        server.wait_until("the new code", || server.connect().get("/").text() == "good again");
    }

    fn ttin_and_ttou_change_the_number_of_workers(class: &str) {
        let server = server(class, &["-w", "1"]);
        server.wait_for_workers(1);
        server.signal(Signal::SIGTTIN);
        server.wait_for_workers(2);
        server.signal(Signal::SIGTTIN);
        server.wait_for_workers(3);
        server.signal(Signal::SIGTTOU);
        server.wait_for_workers(2);
        assert_eq!(server.connect().get("/").status, 200);
    }

    fn ttin_and_ttou_under_load_lose_nothing(class: &str) {
        let server = server(class, &["-w", "2"]);
        let load = Load::start(server.port(), 4);
        for (signal, workers) in [(Signal::SIGTTIN, 3), (Signal::SIGTTOU, 2), (Signal::SIGTTOU, 1), (Signal::SIGTTIN, 2)] {
            let seen = load.answered();
            server.wait_until("some answers", || load.answered() > seen + 50);
            server.signal(signal);
            server.wait_for_workers(workers);
        }
        let counts = load.stop();
        assert_eq!(counts.lost(), 0, "{counts}");
    }

    fn a_killed_worker_is_replaced(class: &str) {
        let server = server(class, &["-w", "2"]);
        let workers = server.wait_for_workers(2);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(workers[0]), Signal::SIGKILL).unwrap();
        server.wait_for_log(&format!("Worker (pid:{}) was sent SIGKILL!", workers[0]));
        server.wait_until("another worker", || {
            let now = server.workers();
            now.len() == 2 && !now.contains(&workers[0])
        });
        assert_eq!(server.connect().get("/").status, 200);
    }

    fn an_idle_worker_is_not_taken_for_a_stuck_one(class: &str) {
        // Loaded beforehand, as some libraries take longer to import than the time-out on a busy machine.
        let server = server(class, &["-w", "1", "--timeout", "2", "--preload"]);
        server.wait_for_log("is ready");
        let workers = server.wait_for_workers(1);
        std::thread::sleep(Duration::from_millis(4500));
        assert_eq!(server.workers(), workers);
        assert!(!server.log().contains("TIMEOUT"), "{}", server.log());
    }

    fn max_requests_brings_fresh_workers_without_a_loss(class: &str) {
        let server = server(class, &["-w", "2", "--max-requests", "30", "--max-requests-jitter", "10"]);
        let load = Load::start(server.port(), 4);
        server.wait_until("some hundred answers", || load.answered() > 500);
        // A worker that leaves answers whoever waits in the queue, which can be many.
        server.wait_for_log_times("Booting worker with pid", 5);
        let counts = load.stop();
        assert_eq!(counts.lost(), 0, "{counts}");
    }

    fn workers_follow_their_arbiter(class: &str) {
        let server = server(class, &["-w", "2"]);
        let workers = server.wait_for_workers(2);
        server.signal(Signal::SIGKILL);
        server.wait_until("the workers to leave", || {
            workers.iter().all(|pid| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.is_empty() || stat.contains(") Z ")
            })
        });
    }
}

/// With class `threads`, as with gunicorn's `gthread`, a request may take as long as it likes: others go on.
#[test]
fn a_stuck_worker_of_one_thread_is_killed_and_says_where_it_was() {
    for class in ["sync", "event"] {
        let server = server(class, &["-w", "1", "--timeout", "1"]);
        let worker = server.wait_for_workers(1)[0];
        server.connect().send("GET /hang HTTP/1.1\r\nHost: t\r\n\r\n");
        server.wait_for_log(&format!("[CRITICAL] WORKER TIMEOUT (pid:{worker})"));
        server.wait_until("another worker", || server.workers().first().is_some_and(|pid| *pid != worker));
        assert!(server.log().contains("in hang"), "{}", server.log());
        assert_eq!(server.connect().get("/").status, 200);
    }
}

#[test]
fn a_quick_stop_does_not_wait_for_requests_that_are_queued() {
    let mut server = server("event", &["-w", "1"]);
    server.wait_for_workers(1);
    let mut clients: Vec<Client> = (0..12).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET /sleep?s=0.6 HTTP/1.1\r\nHost: t\r\n\r\n");
    }
    // The first was answered; of the others that were queued meanwhile, one is being answered.
    clients[0].response();
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    server.signal(Signal::SIGINT);
    server.wait();
    assert!(start.elapsed() < Duration::from_millis(1200), "{:?}", start.elapsed());
}

#[test]
fn a_graceful_stop_tells_requests_that_are_queued_and_answers_them() {
    let mut server = server("event", &["-w", "1"]);
    server.wait_for_workers(1);
    let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET /sleep?s=0.3 HTTP/1.1\r\nHost: t\r\n\r\n");
    }
    clients[0].response();
    server.signal(Signal::SIGTERM);
    for client in &mut clients[2..] {
        let response = client.response();
        assert_eq!((response.text().as_str(), response.header("Connection")), ("slept\n", Some("close")));
    }
    assert!(server.wait().success());
}

on_every_class! {
    fn requests_whose_clients_leave_count_for_max_requests(class: &str) {
        let server = server(class, &["-w", "1", "--max-requests", "3"]);
        let worker = server.wait_for_workers(1)[0];
        for _ in 0..3 {
            let mut client = server.connect();
            client.send("GET /stream?n=10000&size=10000 HTTP/1.1\r\nHost: t\r\n\r\n");
            client.read_some().unwrap();
        }
        server.wait_until("a fresh worker", || !server.workers().contains(&worker));
    }
}

#[test]
fn reloads_that_are_asked_for_during_one_become_one_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let slow = |answer: &str| {
        format!(
            "import os, time\nif os.path.exists('slow'):\n    time.sleep(1.5)\n{}",
            application(&format!("b'{answer}'"))
        )
    };
    file("changing.py", &slow("first"));
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .directory(directory.path())
        .args(["-k", "event", "-w", "2", "changing:app"])
        .start();
    server.wait_for_log_times("is ready", 2);
    file("slow", "");
    file("changing.py", &slow("second"));
    server.signal(Signal::SIGHUP);
    server.wait_for_log_times("Booting worker", 4);
    // The second generation has read its code when the third is asked for, again and again.
    std::thread::sleep(Duration::from_millis(500));
    file("changing.py", &slow("third"));
    for _ in 0..4 {
        server.signal(Signal::SIGHUP);
        std::thread::sleep(Duration::from_millis(50));
    }
    server.wait_for_log("Generation 2 serves, generation 1 finishes what it holds");
    server.wait_for_log("Generation 3 serves, generation 2 finishes what it holds");
    server.wait_until("the old workers to leave", || server.workers().len() == 2);
    assert_eq!(server.connect().get("/").text(), "third");
    assert_eq!(server.log().matches(" serves, generation ").count(), 2, "{}", server.log());
    assert_eq!(server.log().matches("another reload follows").count(), 1);

    // One that fails is followed as well.
    file("changing.py", "import time\ntime.sleep(1)\nraise SystemError('broken')\n");
    server.signal(Signal::SIGHUP);
    server.wait_for_log_times("Booting worker", 8);
    std::thread::sleep(Duration::from_millis(300));
    file("changing.py", &slow("fourth"));
    server.signal(Signal::SIGHUP);
    server.wait_for_log("reload failed, generation 3 goes on");
    server.wait_until("the new code", || server.connect().get("/").text() == "fourth");
}

/// What became of requests that were sent just when the server was closing their connections.
#[derive(Debug, Default)]
struct Races {
    answered: usize,
    /// The connection was found closed before anything was sent.
    closed: usize,
    /// It was closed while the request was under way.
    crossed: usize,
    reset: usize,
}

impl Races {
    /// A client that looks whether its connection is still there before it asks, as connection pools do.
    fn ask(&mut self, client: &mut Client) {
        let stream = client.stream();
        stream.set_nonblocking(true).unwrap();
        let closed = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        let is_reset = |kind| matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        match closed {
            Ok(_) => return self.closed += 1,
            Err(error) if is_reset(error.kind()) => return self.reset += 1,
            Err(_) => {}
        }
        let request = "GET / HTTP/1.1\r\nHost: t\r\n\r\n";
        match client.try_send(request).and_then(|()| client.read_response(false)) {
            Ok(_) => self.answered += 1,
            Err(error) if is_reset(error.kind()) => self.reset += 1,
            Err(_) => self.crossed += 1,
        }
    }
}

on_classes! {
    [event threads coro asgi gevent eventlet tornado]

    fn a_request_that_races_the_close_is_answered(class: &str) {
        let mut server = server(class, &["--keep-alive", "30"]);
        let mut clients: Vec<Client> = (0..60).map(|_| server.connect()).collect();
        for client in &mut clients {
            assert_eq!(client.get("/").status, 200);
        }
        server.signal(Signal::SIGTERM);
        let (begin, mut races) = (Instant::now(), Races::default());
        // A second after their last request they are closed, one after the other.
        for (number, client) in clients.iter_mut().enumerate() {
            let at = Duration::from_millis(900) + Duration::from_millis(3) * u32::try_from(number).unwrap();
            std::thread::sleep(at.saturating_sub(begin.elapsed()));
            races.ask(client);
        }
        eprintln!("{class}: {races:?}");
        assert!(races.answered > 0 && races.closed > 0 && races.reset == 0 && races.crossed <= 2, "{races:?}");
        drop(clients);
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn connections_that_were_idle_for_long_do_not_delay_the_end() {
    // On a machine with no time, once in three.
    let quick = (0..3).any(|_| {
        let mut server = server("event", &["-w", "2", "--keep-alive", "30"]);
        let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
        for client in &mut clients {
            assert_eq!(client.get("/").status, 200);
        }
        std::thread::sleep(Duration::from_millis(1200));
        let begin = Instant::now();
        server.signal(Signal::SIGTERM);
        for client in &mut clients {
            assert!(client.is_closed());
        }
        drop(clients);
        assert_eq!(server.wait().code(), Some(0));
        begin.elapsed() < Duration::from_millis(700)
    });
    assert!(quick);
}
