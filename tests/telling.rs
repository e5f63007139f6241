//! Where else the logs and metrics go: JSON, syslog, StatsD; and what `ps` shows.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;
use rgunicorn_harness::{Builder, Server, on_every_class};
use serde_json::Value;

fn build(class: &str) -> Builder {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", class, "promises:raw"])
}

/// A socket that datagrams are sent to, and its address.
fn receiver() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

/// Receives until all of `wanted` have come, in whatever order; a text ends where one of them does.
fn receive_all(socket: &UdpSocket, wanted: &[&str]) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut buffer = vec![0; 65536];
    while !wanted.iter().all(|part| texts.iter().any(|text| text.contains(part))) {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| {
            panic!("{error} while waiting for {wanted:?}; there were {texts:#?}");
        });
        texts.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    texts
}

on_every_class! {
    fn both_logs_are_json_if_wanted(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("access");
        let server = build(class).args(["--access-log-json", "--error-log-json", "--access-log-skip", "/pid"])
            .args(["--access-logfile"]).args([&file]).start();
        server.connect().get("/pid");
        server.connect().send(
            "GET /hello%20you?a=\"b\" HTTP/1.1\r\nHost: t\r\nUser-Agent: a \"quoted\" one\r\nConnection: close\r\n\r\n")
            .response();
        let read = || std::fs::read_to_string(&file).unwrap_or_default();
        server.wait_until("the access line", || read().ends_with('\n'));
        let lines = read();
        assert_eq!(lines.lines().count(), 1, "{lines}");
        let line: Value = serde_json::from_str(&lines).unwrap();
        for (name, value) in [
            ("method", "GET"), ("path", "/hello%20you"), ("query", "a=\"b\""), ("protocol", "HTTP/1.1"),
            ("user_agent", "a \"quoted\" one"), ("remote_addr", "127.0.0.1"),
        ] {
            assert_eq!(line[name], value, "{line}");
        }
        assert_eq!((&line["status"], line["bytes"].as_u64().unwrap() > 0), (&200.into(), true), "{line}");
        assert!(line["seconds"].as_f64().unwrap() < 20.0, "{line}");
        server.connect().get("/fail-early");
        server.wait_for_log("Error handling request");
        let log = server.log();
        // A library may write to standard error by itself.
        let messages: Vec<Value> = log.lines().filter(|line| line.starts_with(['{', '['])).map(|line| serde_json::from_str(line).unwrap_or_else(|error| {
            panic!("{error}: {line}");
        })).collect();
        let failure = messages.iter().find(|it| it["message"].as_str().unwrap().contains("Error handling request"));
        let failure = failure.unwrap();
        assert_eq!(failure["level"], "error");
        assert!(failure["message"].as_str().unwrap().contains("\nTraceback"), "{failure}");
        assert!(messages.iter().any(|it| it["level"] == "info" && it["pid"] == server.pid()), "{log}");
    }

    fn statsd_is_told_as_by_gunicorn(class: &str) {
        let (socket, address) = receiver();
        let server = build(class)
            .args(["--statsd-host", &address, "--statsd-prefix", "shop", "--dogstatsd-tags", "env:test"]).start();
        assert_eq!(server.connect().get("/status?line=404%20Nowhere").status, 404);
        assert_eq!(server.connect().get("/fail-early").status, 500);
        let texts = receive_all(&socket, &[
            "shop.gunicorn.request.status.404:1|c|@1.0|#env:test",
            "shop.gunicorn.request.status.500:1|c|@1.0|#env:test",
            "shop.gunicorn.requests:1|c|@1.0|#env:test",
            "shop.gunicorn.request.duration:",
            "shop.gunicorn.log.exception:1|c|@1.0|#env:test",
            "shop.gunicorn.workers:1|g|#env:test",
        ]);
        assert!(texts.iter().flat_map(|text| text.lines()).all(|line| line.ends_with("|#env:test")), "{texts:#?}");
        assert!(!texts.iter().any(|text| text.contains("backlog")), "{texts:#?}");
        assert!(!texts.iter().any(|text| text.contains("log.error")), "an exception is no error besides: {texts:#?}");
    }

    fn hooks_send_metrics_of_their_own(class: &str) {
        for logger in ["", "logger_class = 'gunicorn.instrument.statsd.Statsd'\n"] {
            let (socket, address) = receiver();
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("conf.py");
            std::fs::write(&file, format!("{logger}{METRICS}")).unwrap();
            let server = build(class).args(["-c"]).args([&file])
                .args(["--statsd-host", &address, "--statsd-prefix", "shop", "--dogstatsd-tags", "env:test"]).start();
            assert_eq!(server.connect().get("/lines?of=text").status, 200);
            let texts = receive_all(&socket, &[
                "shop.site.ready:0|g|#env:test", "shop.site.queue:0|g|#env:test", "shop.site.orders:2|c|@1.0|#env:test",
                "shop.site.stock:-3|c|@1.0|#env:test", "shop.site.size:7|h|#env:test", "shop.site.time:1.5|ms|#env:test",
                "shop.gunicorn.log.warning:1|c|@1.0|#env:test", "shop.gunicorn.request.status.200:1|c|@1.0|#env:test",
            ]);
            let all = texts.concat();
            for once in ["log.warning", "status.200", "site.orders"] {
                assert_eq!(all.matches(once).count(), 1, "{once}: {texts:#?}");
            }
            server.wait_for_log("[INFO] said and measured");
            assert!(!server.log().contains("[INFO] \n"), "{}", server.log());
        }
    }

    fn syslog_loses_nothing_of_a_burst_nor_by_a_restart(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let address = format!("unix://{}#dgram", path.display());
        // Nobody is there at the start.
        let server = build(class).args(["--log-syslog", "--log-syslog-to", &address]).start();
        server.wait_for_log(&format!("[WARNING] syslog_addr: {address:?}: No such file"));
        assert_eq!(server.connect().get("/lines?of=early").status, 200);
        for round in ["first", "second"] {
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let reader = std::thread::spawn(move || {
                let (mut buffer, mut count) = ([0; 4096], 0);
                while count < 400 {
                    let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error} after {count} lines"));
                    count += usize::from(String::from_utf8_lossy(&buffer[..length]).contains(&format!("/{round}")));
                }
            });
            let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
            for client in &mut clients {
                let request = format!("GET /{round} HTTP/1.1\r\nHost: t\r\n\r\n");
                client.send(if class == "sync" { request } else { request.repeat(20) });
            }
            for client in &mut clients {
                (0..if class == "sync" { 1 } else { 20 }).for_each(|_| drop(client.response()));
            }
            if class == "sync" {
                (20..400).for_each(|_| drop(server.connect().get(&format!("/{round}"))));
            }
            reader.join().unwrap();
            std::fs::remove_file(&path).unwrap();
        }
    }
}

/// A worker class in Python has no engine that would count its requests: its logger does.
#[test]
fn statsd_is_told_of_requests_of_worker_classes_in_python() {
    let (socket, address) = receiver();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("counting.py"),
        "import datetime, types\nimport custom_worker\n\nclass Counting(custom_worker.Plain):\n\
         \x20   def run(self):\n\
         \x20       response = types.SimpleNamespace(status='204 No Content', headers=[], sent=0)\n\
         \x20       self.log.access(response, types.SimpleNamespace(headers=[]), {}, datetime.timedelta(milliseconds=5))\n\
         \x20       self.log.error('trouble')\n\
         \x20       super().run()\n",
    )
    .unwrap();
    let _server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .args(["-k", "counting.Counting", "--pythonpath"])
        .args([directory.path()])
        .args(["--statsd-host", &address, "--statsd-prefix", "shop", "custom_worker:app"])
        .start();
    let texts = receive_all(
        &socket,
        &[
            "shop.gunicorn.request.status.204:1|c|@1.0",
            "shop.gunicorn.log.error:1|c|@1.0",
            "shop.gunicorn.workers:1|g",
        ],
    );
    for once in ["gunicorn.requests:1|c", "log.error"] {
        assert_eq!(texts.concat().matches(once).count(), 1, "{once}: {texts:#?}");
    }
}

/// Hooks that measure.
const METRICS: &str = "
def when_ready(server):
    server.log.gauge('site.ready', 0)

def post_request(worker, req, environ, resp):
    worker.log.info('', extra={'metric': 'site.queue', 'value': 0, 'mtype': 'gauge'})
    worker.log.log('info', '', extra={'metric': 'site.size', 'value': 7, 'mtype': 'histogram'})
    worker.log.info('said and %s', 'measured', extra={'metric': 'site.orders', 'value': 2, 'mtype': 'counter'})
    worker.log.decrement('site.stock', 3)
    worker.log.timer('site.time', 1.5)
    worker.log.warning('careful')
";

#[test]
fn the_backlog_is_a_histogram_if_wanted() {
    let (socket, address) = receiver();
    let _server = build("event").args(["--statsd-host", &address, "--enable-backlog-metric"]).start();
    receive_all(&socket, &["gunicorn.backlog:0|h"]);
}

#[test]
fn both_logs_go_to_syslog_if_wanted() {
    let (socket, address) = receiver();
    let server = build("event")
        .args(["--log-syslog", "--log-syslog-to", &format!("udp://{address}")])
        .args(["--log-syslog-prefix", "shop", "--log-syslog-facility", "local3", "--access-log-skip", "/pid"])
        .start();
    server.connect().get("/pid");
    server.connect().get("/lines?of=text");
    let texts = receive_all(&socket, &["Booting worker with pid", "GET /lines?of=text"]);
    // local3 is 19, info 6.
    let error = format!("<158>gunicorn.shop.error: [{}] Starting rgunicorn", server.pid());
    assert!(texts.iter().any(|text| text.starts_with(&error) && text.ends_with('\0')), "{texts:#?}");
    let access = format!("<158>gunicorn.shop.access: [{}] 127.0.0.1", server.workers()[0]);
    assert!(texts.iter().any(|text| text.starts_with(&access)), "{texts:#?}");
    assert!(!texts.iter().any(|text| text.contains("/pid HTTP")), "{texts:#?}");
}

#[test]
fn the_access_log_is_kept_out_of_syslog_if_wanted() {
    let (socket, address) = receiver();
    let mut server = build("event")
        .args(["--log-syslog", "--log-syslog-to", &format!("udp://{address}")])
        .args(["--disable-redirect-access-to-syslog"])
        .start();
    server.connect().get("/lines?of=text");
    server.signal(Signal::SIGTERM);
    server.wait();
    let texts = receive_all(&socket, &["Shutting down: Master"]);
    assert!(!texts.iter().any(|text| text.contains("/lines")), "{texts:#?}");
}

#[test]
fn what_can_not_be_is_said_at_the_start() {
    for (arguments, problem) in [
        (
            vec!["--log-syslog", "--log-syslog-to", "smoke:///nowhere/log"],
            "syslog_addr: \"smoke:///nowhere/log\": an address is",
        ),
        (
            vec!["--log-syslog", "--log-syslog-facility", "nobody"],
            "syslog_facility: \"nobody\" is no facility",
        ),
        (vec!["--statsd-host", "localhost"], "statsd_host: \"localhost\": an address is HOST:PORT"),
    ] {
        let (status, _, log) = build("event").args(arguments).run();
        assert_eq!(status, Some(1), "{log}");
        assert!(log.contains(problem), "{log}");
    }
}

#[test]
fn who_takes_metrics_and_logs_need_not_be_there_at_the_start() {
    for arguments in [
        ["--statsd-host", "agent.invalid:8125"],
        ["--statsd-host", "unix:///nowhere/statsd"],
        ["--log-syslog-to", "tcp://127.0.0.1:1"],
        ["--log-syslog-to", "udp://syslog.invalid"],
    ] {
        let [flag, address] = arguments;
        let setting = if flag == "--statsd-host" { "statsd_host" } else { "syslog_addr" };
        let server = build("event")
            .args(arguments)
            .args(["--log-syslog"][..usize::from(setting == "syslog_addr")].iter().copied())
            .start();
        server.wait_for_log(&format!("[WARNING] {setting}: {address:?}: "));
        for _ in 0..3 {
            assert_eq!(server.connect().get("/lines?of=text").status, 200);
        }
        // Nor for a reload, which says it again.
        server.signal(Signal::SIGHUP);
        server.wait_for_log_times(&format!("[WARNING] {setting}: {address:?}: "), 2);
        server.wait_for_log_times("Booting worker", 2);
        assert_eq!(server.connect().get("/lines?of=text").status, 200);
    }
}

#[test]
fn titles_say_the_state() {
    let server = build("event").args(["-n", "shop"]).start();
    let worker = server.wait_for_workers(1)[0];
    let title = |pid: i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).trim_end_matches('\0').to_owned()
    };
    server.wait_until("a worker's title", || title(worker) == "rgunicorn: worker [shop]");
    assert_eq!(title(server.pid()), "rgunicorn: arbiter [shop]");
    let mut client = server.connect();
    client.send("GET /stream?n=50&pause=0.1 HTTP/1.1\r\nHost: t\r\n\r\n");
    client.read_some().unwrap();
    server.signal(Signal::SIGTERM);
    server.wait_until("titles of those that stop", || {
        title(server.pid()) == "rgunicorn: arbiter [shop] (stopping)"
            && title(worker) == "rgunicorn: worker [shop] (stopping)"
    });
}
