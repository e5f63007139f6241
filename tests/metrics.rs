//! The server says how it is: metrics from all workers, whoever is asked, and health checks that need no application.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::io::Write;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rgunicorn_harness::{Builder, Client, Response, Server, application, on_classes, on_every_class};

fn build(class: &str) -> Builder {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args([
        "-k",
        class,
        "--metrics-bind",
        "127.0.0.1:0",
        "promises:raw",
    ])
}

/// The port of the arbiter's own listener.
fn desk(server: &Server) -> u16 {
    server.wait_for_log("/metrics\n");
    let log = server.log();
    let address = log.split("Metrics at: http://").nth(1).unwrap();
    address.split('/').next().unwrap().rsplit(':').next().unwrap().parse().unwrap()
}

fn ask(port: u16, path: &str) -> Response {
    Client::connect(port).get(path)
}

/// The value of one line of the metrics.
fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().unwrap()
}

/// Waits until a metric has a value.
fn wait_for(server: &Server, name: &str, wanted: f64) {
    let port = desk(server);
    let mut last = String::new();
    server.wait_until(&format!("{name} {wanted}"), || {
        last = ask(port, "/metrics").text();
        value(&last, name) == wanted
    });
}

on_every_class! {
    fn requests_of_all_workers_are_counted_and_outlive_them(class: &str) {
        let server = build(class).args(["-w", "2"]).start();
        let port = desk(&server);
        server.wait_for_workers(2);
        for _ in 0..10 {
            assert_eq!(server.connect().get("/").status, 200);
        }
        assert_eq!(server.connect().get("/status?line=404%20Nowhere").status, 404);
        wait_for(&server, "rgunicorn_requests_total{status=\"2xx\"}", 10.0);
        wait_for(&server, "rgunicorn_requests_total{status=\"4xx\"}", 1.0);
        wait_for(&server, "rgunicorn_requests_in_flight", 0.0);
        let answer = ask(port, "/metrics");
        assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"), "{}", answer.head);
        let text = answer.text();
        for (name, wanted) in [
            ("rgunicorn_request_duration_seconds_count", 11.0),
            ("rgunicorn_request_queue_seconds_count", 11.0),
            ("rgunicorn_connections_accepted_total", 11.0),
            ("rgunicorn_workers_target", 2.0),
            ("rgunicorn_workers_started_total", 2.0),
            ("rgunicorn_capacity_busy", 0.0),
            ("rgunicorn_generation", 1.0),
        ] {
            assert_eq!(value(&text, name), wanted, "{name}\n{text}");
        }
        assert!(value(&text, "rgunicorn_sent_bytes_total") > 1000.0, "{text}");
        assert!(value(&text, "rgunicorn_received_bytes_total") > 300.0, "{text}");
        assert!(value(&text, "rgunicorn_worker_resident_memory_bytes{worker=\"0\"}") > 1e6, "{text}");
        assert!(value(&text, &format!("rgunicorn_listen_queue_limit{{listener=\"{}\"}}", server.url())) > 0.0, "{text}");
        kill(Pid::from_raw(server.workers()[0]), Signal::SIGKILL).unwrap();
        wait_for(&server, "rgunicorn_worker_exits_total{cause=\"killed\"}", 1.0);
        wait_for(&server, "rgunicorn_workers{state=\"idle\"}", 2.0);
        wait_for(&server, "rgunicorn_request_duration_seconds_count", 11.0);
        assert_eq!(server.connect().get("/").status, 200);
        wait_for(&server, "rgunicorn_request_duration_seconds_count", 12.0);
    }

    fn what_runs_is_seen_while_it_runs(class: &str) {
        let server = build(class).start();
        server.wait_for_workers(1);
        let mut client = server.connect();
        client.send("GET /sleep?s=1 HTTP/1.1\r\nHost: t\r\n\r\n");
        wait_for(&server, "rgunicorn_capacity_busy", 1.0);
        wait_for(&server, "rgunicorn_requests_in_flight", 1.0);
        wait_for(&server, "rgunicorn_workers{state=\"busy\"}", 1.0);
        assert_eq!(client.response().status, 200);
        wait_for(&server, "rgunicorn_capacity_busy", 0.0);
        wait_for(&server, "rgunicorn_requests_in_flight", 0.0);
    }

    fn any_worker_answers_for_all(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("access");
        let server = build(class).args(["--health-path", "/healthz", "--metrics-path", "/numbers"])
            .args(["--max-requests", "3", "--access-logfile"]).args([&log]).start();
        let worker = server.wait_for_workers(1);
        // The first may wait for the worker.
        assert_eq!(server.connect().get("/healthz").status, 200);
        for (path, status) in [("/healthz", "ready"), ("/healthz/ready", "ready"), ("/healthz/live", "live")] {
            let answer = server.connect().get(path);
            assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{path}");
            assert!(answer.text().contains(&format!("\"{status}\"")), "{}", answer.text());
        }
        let text = server.connect().get("/numbers").text();
        assert_eq!(value(&text, "rgunicorn_requests_total{status=\"2xx\"}"), 0.0, "pages are no requests");
        // What is only like them is the application's.
        assert!(server.connect().get("/healthzz").text().contains("PATH_INFO"));
        assert_eq!(server.workers(), worker, "pages don't count towards max_requests");
        // Among others, in their order, on one connection, and with a body.
        let mut client = server.connect();
        client.send("POST /healthz HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nbody\
                     GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        assert!(client.response().text().contains("ready"));
        if class != "sync" {
            assert_eq!(client.response().status, 200);
        }
        server.wait_until("the access log", || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("/healthzz")));
        assert!(!std::fs::read_to_string(&log).unwrap().contains("/healthz "));
    }

    fn what_clients_send_is_counted_however_it_is_read(class: &str) {
        let server = build(class).start();
        server.wait_for_workers(1);
        let mut client = server.connect();
        const LENGTH: usize = 400_000;
        client.send(format!("POST /digest HTTP/1.1\r\nHost: t\r\nContent-Length: {LENGTH}\r\n\r\n"));
        client.send(vec![b'x'; LENGTH]);
        assert!(client.response().text().starts_with("400000 "));
        wait_for(&server, "rgunicorn_request_duration_seconds_count", 1.0);
        let received = value(&ask(desk(&server), "/metrics").text(), "rgunicorn_received_bytes_total");
        assert!((LENGTH as f64..LENGTH as f64 + 1000.0).contains(&received), "{received}");
    }

    fn a_server_that_drains_is_not_ready(class: &str) {
        let mut server = build(class).start();
        let port = desk(&server);
        server.wait_for_workers(1);
        let mut client = server.connect();
        client.send("GET /sleep?s=1 HTTP/1.1\r\nHost: t\r\n\r\n");
        wait_for(&server, "rgunicorn_capacity_busy", 1.0);
        assert_eq!(ask(port, "/ready").status, 200);
        server.signal(Signal::SIGTERM);
        server.wait_for_log("Handling signal: term");
        let answer = ask(port, "/ready");
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.text().contains("draining"), "{}", answer.text());
        assert_eq!(ask(port, "/live").status, 200);
        assert_eq!(client.response().status, 200);
        assert!(server.wait().success());
    }
}

on_classes! { [sync event asgi]
    fn a_server_whose_workers_all_hang_is_not_ready(class: &str) {
        // Of an asyncio worker, one request that blocks hangs all: it is one that can hold one connection.
        let server = build(class).args(["--slow-request", "0.3", "--worker-connections", "1"]).start();
        let port = desk(&server);
        server.wait_for_workers(1);
        server.wait_until("a server that is ready", || ask(port, "/ready").status == 200);
        let mut client = server.connect();
        client.send("GET /sleep?s=2 HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        server.wait_until("a server that is not ready", || ask(port, "/ready").status == 503);
        assert!(ask(port, "/ready").text().contains("stuck"));
        assert_eq!(value(&ask(port, "/metrics").text(), "rgunicorn_workers_stuck"), 1.0);
        assert_eq!(client.response().status, 200);
        server.wait_until("a server that is ready again", || ask(port, "/ready").status == 200);
    }
}

#[test]
fn connections_that_wait_are_counted_at_sockets_of_all_kinds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let unix = format!("unix:{}", path.display());
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .args(["-k", "sync", "-w", "2", "--reuse-port", "--backlog", "20", "-b", &unix])
        .args(["--metrics-bind", "127.0.0.1:0", "--metrics-path", "/metrics", "promises:raw"])
        .start();
    server.wait_for_log_times("is ready", 2);
    let queue = format!("rgunicorn_listen_queue{{listener=\"{}\"}}", server.url());
    let limit = queue.replace("queue", "queue_limit");
    let unix_queue = format!("rgunicorn_listen_queue{{listener=\"{unix}\"}}");
    let unix_limit = unix_queue.replace("queue", "queue_limit");
    // Whoever is asked.
    for text in [ask(desk(&server), "/metrics").text(), server.connect().get("/metrics").text()] {
        let values = [&queue, &limit, &unix_queue, &unix_limit].map(|name| value(&text, name));
        assert_eq!(values, [0.0, 40.0, 0.0, 20.0]);
    }
    // Nobody has time.
    let stop =
        |signal| server.workers().iter().for_each(|worker| kill(Pid::from_raw(*worker), signal).unwrap());
    stop(Signal::SIGSTOP);
    let waiting: Vec<Client> = (0..6).map(|_| server.connect()).collect();
    let also: Vec<_> = (0..3).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
    wait_for(&server, &queue, 6.0);
    wait_for(&server, &unix_queue, 3.0);
    drop((waiting, also));
    stop(Signal::SIGCONT);
    wait_for(&server, &queue, 0.0);
    wait_for(&server, &unix_queue, 0.0);
}

#[test]
fn a_server_that_starts_is_not_ready_yet() {
    let directory = tempfile::tempdir().unwrap();
    let code = format!("import time\ntime.sleep(1)\n\n\n{}", application("b'hello'"));
    std::fs::write(directory.path().join("late.py"), code).unwrap();
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .directory(directory.path())
        .args(["--metrics-bind", "127.0.0.1:0", "late:app"])
        .start();
    let port = desk(&server);
    let answer = ask(port, "/ready");
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("starting"), "{}", answer.text());
    server.wait_until("a server that is ready", || ask(port, "/ready").status == 200);
}

#[test]
fn reloads_are_counted_by_their_result() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.py");
    std::fs::write(&file, application("b'hello'")).unwrap();
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .directory(directory.path())
        .args(["--metrics-bind", "127.0.0.1:0", "app:app"])
        .start();
    let port = desk(&server);
    server.wait_for_workers(1);
    server.signal(Signal::SIGHUP);
    wait_for(&server, "rgunicorn_reloads_total{result=\"ok\"}", 1.0);
    wait_for(&server, "rgunicorn_worker_exits_total{cause=\"reload\"}", 1.0);
    std::fs::write(&file, "nonsense\n").unwrap();
    server.signal(Signal::SIGHUP);
    wait_for(&server, "rgunicorn_reloads_total{result=\"failed\"}", 1.0);
    wait_for(&server, "rgunicorn_generation", 2.0);
    assert_eq!(ask(port, "/ready").status, 200);
}

#[test]
fn nobody_at_the_desk_holds_up_the_arbiter() {
    let server = build("event").start();
    let port = desk(&server);
    server.wait_for_workers(1);
    // More than it lets in, silent or with half a request, and one that says nonsense at length.
    let mut silent: Vec<Client> = (0..40).map(|_| Client::connect(port)).collect();
    for client in &mut silent {
        client.send("GET /metr");
    }
    let mut chatty = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _ = chatty.write_all(&[b'x'; 100_000]);
    server.signal(Signal::SIGHUP);
    server.wait_for_log("Generation 2 serves");
    drop(silent);
    let mut client = Client::connect(port);
    client.set_timeout(Duration::from_secs(20));
    assert_eq!(client.get("/live").status, 200);
    assert_eq!(ask(port, "/nothing").status, 404);
    let mut client = Client::connect(port);
    client.send("HEAD /metrics HTTP/1.1\r\nHost: t\r\n\r\n");
    let head = client.read_response(true).unwrap();
    assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 1000);
    let mut client = Client::connect(port);
    assert_eq!(client.send("nonsense\r\n\r\n").response().status, 400);
}

#[test]
fn idle_visitors_keep_nobody_out() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("ctl");
    let server = build("event").args(["--control-socket"]).args([&socket]).start();
    let port = desk(&server);
    server.wait_for_workers(1);
    let ctl = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rgunicorn"));
        command.args(["ctl", "--socket"]).arg(&socket).arg("status").output().unwrap()
    };
    let mut silent: Vec<Client> = (0..300).map(|_| Client::connect(port)).collect();
    let mut commanders: Vec<_> = Vec::new();
    for round in 0..5 {
        // With half a question they are idle as well.
        for client in &mut silent {
            let _ = client.try_send("GET /live HTTP/1.1\r\n");
        }
        assert_eq!(ask(port, "/live").status, 200);
        let told = ctl();
        assert!(told.status.success(), "{told:?}");
        // Whoever was shown the door comes again.
        silent.extend((0..100).map(|_| Client::connect(port)));
        commanders.extend((0..30).map(|_| std::os::unix::net::UnixStream::connect(&socket).unwrap()));
        assert_eq!(ask(port, "/live").status, 200, "round {round}");
        let told = ctl();
        assert!(told.status.success(), "round {round}: {told:?}");
    }
}

#[test]
fn metrics_are_off_unless_asked_for() {
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["promises:raw"]).start();
    assert!(server.connect().get("/metrics").text().contains("PATH_INFO"));
    assert!(!server.log().contains("Metrics at"));
}

#[test]
fn an_address_that_is_taken_stops_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, _, log) = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .args(["--metrics-bind", &address, "promises:raw"])
        .run();
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains(&format!("Can't listen at {address}")), "{log}");
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let server = build("event").start();
    // Some are of a worker.
    server.wait_for_log("is ready");
    let text = ask(desk(&server), "/metrics").text();
    let file = rgunicorn_harness::examples().join("deploy/grafana-dashboard.json");
    let dashboard = std::fs::read_to_string(file).unwrap();
    let names: Vec<&str> = dashboard
        .split("rgunicorn_")
        .skip(1)
        .map(|rest| rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap())
        .collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(text.contains(&format!("\nrgunicorn_{name}")), "{name} is not in\n{text}");
    }
}
