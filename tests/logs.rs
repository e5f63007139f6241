//! The logs are gunicorn's, in format and in manners.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use nix::sys::signal::Signal;
use rgunicorn_harness::{Server, assert_has, on_every_class};

fn build(class: &str) -> rgunicorn_harness::Builder {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", class, "promises:raw"])
}

on_every_class! {
    fn the_error_log_has_gunicorns_lines(class: &str) {
        let mut server = build(class).args(["-w", "1"]).start();
        let worker = server.wait_for_workers(1)[0];
        server.wait_for_log(&format!("[{worker}] [INFO] Booting worker with pid: {worker}"));
        let log = server.log();
        let arbiter = server.pid();
        assert_has(&log, [
            format!("[{arbiter}] [INFO] Starting rgunicorn {}", env!("CARGO_PKG_VERSION")),
            format!("[{arbiter}] [INFO] Listening at: http://127.0.0.1:{} ({arbiter})", server.port()),
            format!("[{arbiter}] [INFO] Using worker: {class}"),
        ]);
        // [2026-11-23 12:00:00 +0000]
        let stamp = &log[..27];
        assert!(stamp.starts_with("[20") && stamp.ends_with(']') && stamp.as_bytes()[11] == b' ', "{stamp}");
        server.signal(Signal::SIGTERM);
        server.wait();
        assert!(server.log().contains(&format!("[{worker}] [INFO] Worker exiting (pid: {worker})")), "{}", server.log());
    }

    fn the_access_log_has_every_atom(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("access");
        let format = "%(h)s|%(l)s|%(u)s|%(t)s|%(r)s|%(m)s|%(U)s|%(q)s|%(H)s|%(s)s|%(B)s|%(b)s|%(f)s|%(a)s|%(T)s|%(D)s|\
                      %(M)s|%(L)s|%(p)s|%({x-in}i)s|%({content-type}o)s|%({request_method}e)s|%({missing}i)s|%%";
        let server = build(class).args(["--access-logfile"]).args([&file])
            .args(["--access-logformat", format]).start();
        let worker = server.wait_for_workers(1)[0];
        server.connect().send(
            "GET /?q=1 HTTP/1.1\r\nHost: t\r\nReferer: there\r\nUser-Agent: a \"quoted\" one\r\nX-In: in\r\n\
             Authorization: Basic dXNlcjpwYXNz\r\nConnection: close\r\n\r\n").response();
        let read = || std::fs::read_to_string(&file).unwrap_or_default();
        server.wait_until("the access line", || read().ends_with('\n'));
        let line = read();
        let parts: Vec<_> = line.trim_end().split('|').collect();
        assert_eq!(&parts[..3], ["127.0.0.1", "-", "user"], "{line}");
        assert!(parts[3].starts_with('[') && parts[3].ends_with(']') && parts[3].contains("/20"), "{line}");
        assert_eq!(&parts[4..14], ["GET /?q=1 HTTP/1.1", "GET", "/", "q=1", "HTTP/1.1", "200", "6", "6", "there",
                                   "a \\\"quoted\\\" one"], "{line}");
        for number in &parts[14..17] {
            assert!(number.parse::<u64>().is_ok(), "{line}");
        }
        assert!(parts[17].starts_with("0.") && parts[17].len() == 8, "{line}");
        assert_eq!(parts[18], format!("<{worker}>"), "{line}");
        assert_eq!(&parts[19..], ["in", "text/plain", "GET", "-", "%"], "{line}");
    }

    fn the_default_access_format_is_the_combined_one(class: &str) {
        let server = build(class).args(["--access-logfile", "-"]).start();
        server.connect().send("GET /a HTTP/1.1\r\nHost: t\r\nUser-Agent: test\r\nConnection: close\r\n\r\n").response();
        server.wait_for_log("] \"GET /a HTTP/1.1\" 200 ");
        let log = server.log();
        let line = log.lines().find(|line| line.contains("GET /a")).unwrap();
        assert!(line.starts_with("127.0.0.1 - - [") && line.ends_with(" \"-\" \"test\""), "{line}");
    }

    fn the_debug_level_shows_the_settings_and_each_request(class: &str) {
        let server = build(class).args(["--log-level", "debug"]).start();
        server.connect().get("/lines?of=text");
        server.wait_for_log("[DEBUG] GET /lines\n");
        let log = server.log();
        assert_has(&log, ["[DEBUG] Current configuration:\n  access_log_format ", "\n  workers ", "\n  timeout "]);
    }

    fn no_line_is_lost_at_exit(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("access");
        let mut server = build(class).args(["--access-logfile"]).args([&file]).start();
        let mut client = server.connect();
        client.send("GET /sleep?s=0.3 HTTP/1.1\r\nHost: t\r\n\r\n");
        std::thread::sleep(std::time::Duration::from_millis(100));
        server.signal(Signal::SIGTERM);
        assert_eq!(client.response().status, 200);
        server.wait();
        assert!(std::fs::read_to_string(&file).unwrap().contains("GET /sleep?s=0.3"));
    }

    fn usr1_reopens_the_files(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let (access, error) = (directory.path().join("access"), directory.path().join("error"));
        let server = build(class).args(["--access-logfile"]).args([&access]).start();
        let get = |target: &str| server.connect()
            .send(format!("GET {target} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")).response();
        get("/before");
        server.wait_until("the line", || std::fs::read_to_string(&access).is_ok_and(|text| text.contains("/before")));
        std::fs::rename(&access, &error).unwrap();
        server.signal(Signal::SIGUSR1);
        server.wait_until("the new file", || access.exists());
        server.wait_until("a line in the new file", || {
            get("/after");
            std::fs::read_to_string(&access).is_ok_and(|text| text.contains("/after"))
        });
        assert!(!std::fs::read_to_string(&error).unwrap().is_empty());
    }

    fn a_refused_request_has_its_line(class: &str) {
        let server = build(class).args(["--access-logfile", "-"]).start();
        for (target, fields, body) in [
            ("/framing", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            ("/hosts", "Host: u\r\n", ""),
            ("/name", "Bad[Name]: x\r\n", ""),
            ("/body", "Transfer-Encoding: chunked\r\n", "x\r\n"),
        ] {
            let mut client = server.connect();
            client.send(format!("POST {target} HTTP/1.1\r\nHost: t\r\n{fields}\r\n{body}"));
            assert_eq!(client.response().status, 400, "{target}");
            server.wait_for_log(&format!("] \"POST {target} HTTP/1.1\" 400 "));
        }
        // What is no request line has nothing to say.
        assert_eq!(server.connect().send("nonsense\r\n\r\n").response().status, 400);
        server.connect().send("GET /last HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").response();
        server.wait_for_log("GET /last");
        assert_eq!(server.log().matches("HTTP/1.1\" 400 ").count(), 4, "{}", server.log());
    }

    fn a_client_can_not_forge_a_line(class: &str) {
        let server = build(class).args(["--access-logfile", "-"]).start();
        server.connect().send("GET / HTTP/1.1\r\nHost: t\r\nUser-Agent: a\" b\\x\tc\r\nConnection: close\r\n\r\n").response();
        server.wait_for_log("a\\\" b");
    }

    fn captured_output_goes_to_the_error_log_file(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("error");
        let server = build(class).args(["--access-logfile", "-", "--capture-output"]).start();
        drop(server);
        let child = build(class).args(["--capture-output", "--error-logfile"]).args([&file]);
        let mut child = child.command().spawn().unwrap();
        let read = || std::fs::read_to_string(&file).unwrap_or_default();
        let start = std::time::Instant::now();
        let port: u16 = loop {
            let log = read();
            if let Some(port) = log.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()) {
                break port;
            }
            assert!(start.elapsed().as_secs() < 20, "{log}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        rgunicorn_harness::Client::connect(port).get("/complain");
        while !(read().contains("said on standard output") && read().contains("said on wsgi.errors")) {
            assert!(start.elapsed().as_secs() < 20, "{}", read());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        child.wait().unwrap();
    }
}
