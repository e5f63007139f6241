//! What goes to temporary files has its limits, and finds a place.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rgunicorn_harness::{Client, Server, on_classes, on_waiting_classes, on_wsgi_classes};

const LIMIT: u64 = 1 << 20;
/// What may not have been written yet.
const SLACK: u64 = 64 * 1024;

fn server(class: &str, arguments: &[&str]) -> Server {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .args([
            "-w",
            "1",
            "-k",
            class,
            "--tmp-upload-limit",
            "1M",
            "--request-body-buffer",
            "65536",
            "promises:raw",
        ])
        .args(arguments)
        .start()
}

/// How many bytes a worker has in files without a name.
fn spooled(worker: i32) -> u64 {
    let files = std::fs::read_dir(format!("/proc/{worker}/fd")).unwrap();
    let size = |path: std::path::PathBuf| {
        let name = std::fs::read_link(&path).ok()?;
        let name = name.to_str()?;
        let is_spool = name.ends_with(" (deleted)") && !name.starts_with("/memfd:");
        is_spool.then(|| std::fs::metadata(&path).map_or(0, |metadata| metadata.size()))
    };
    files.filter_map(|file| size(file.ok()?.path())).sum()
}

fn begin(server: &Server, length: usize, body: usize) -> Client {
    let mut client = server.connect();
    client.send(format!("POST /digest HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n"));
    client.send(vec![b'x'; body]);
    client
}

fn chunk(length: usize) -> String {
    format!("{length:x}\r\n{}\r\n", "x".repeat(length))
}

const CHUNKED: &str = "POST /digest HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";

on_classes! {
    [sync event gevent eventlet tornado]

    fn a_body_that_is_larger_than_may_be_kept_is_413(class: &str) {
        let server = server(class, &[]);
        // Before a byte of it has come.
        assert_eq!(begin(&server, 100_000_000_000, 0).response().status, 413);
        server.wait_for_log("larger than tmp_upload_limit, 1048576 bytes");
        let mut client = server.connect();
        client.send(CHUNKED).send(chunk(900_000));
        // It may be answered and closed in the middle.
        let _ = client.try_send(chunk(900_000));
        assert_eq!(client.response().status, 413);
        assert!(begin(&server, 1_000_000, 1_000_000).response().text().starts_with("1000000 "));
        let worker = server.workers()[0];
        server.wait_until("all to be given back", || spooled(worker) == 0);
    }

    fn others_wait_while_the_oldest_upload_goes_on(class: &str) {
        let server = server(class, &[]);
        let worker = server.wait_for_workers(1)[0];
        let mut oldest = begin(&server, 900_000, 800_000);
        server.wait_until("its body to be kept", || spooled(worker) + SLACK > 800_000);
        std::thread::scope(|scope| {
            let others: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| begin(&server, 900_000, 900_000).response().text()))
                .collect();
            server.wait_until("the limit to be reached", || spooled(worker) + SLACK > LIMIT);
            assert_eq!(server.connect().get("/").status, 200);
            std::thread::sleep(Duration::from_millis(300));
            let kept = spooled(worker);
            assert!(kept < LIMIT + 3 * 100_000, "{kept} bytes are kept");
            assert!(oldest.send(vec![b'x'; 100_000]).response().text().starts_with("900000 "));
            for other in others {
                assert!(other.join().unwrap().starts_with("900000 "));
            }
        });
    }

    fn who_waits_for_room_for_too_long_is_503(class: &str) {
        let server = server(class, &["--client-body-timeout", "5"]);
        let worker = server.wait_for_workers(1)[0];
        let mut oldest = begin(&server, 1_048_000, 1_040_000);
        server.wait_until("its body to be kept", || spooled(worker) + SLACK > 1_040_000);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| begin(&server, 900_000, 900_000).response().status);
            let mut sent = 1_040_000;
            while !other.is_finished() && sent < 1_047_000 {
                oldest.send("x");
                sent += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            assert_eq!(other.join().unwrap(), 503);
            assert!(oldest.send(vec![b'x'; 1_048_000 - sent]).response().text().starts_with("1048000 "));
        });
        server.wait_for_log("there is no room for the request body");
    }
}

on_waiting_classes! {
    fn what_is_read_as_it_arrives_has_no_such_limit(class: &str) {
        let server = server(class, &["--threads", "2"]);
        assert!(begin(&server, 3_000_000, 3_000_000).response().text().starts_with("3000000 "));
        // Its turn comes once that of another is over.
        let mut slow = begin(&server, 3_000_000, 10);
        server.wait_until("it to be read", || server.connect().get("/").status == 200);
        std::thread::sleep(Duration::from_millis(100));
        std::thread::scope(|scope| {
            let others: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| begin(&server, 3_000_000, 3_000_000).response().text()))
                .collect();
            let worker = server.workers()[0];
            server.wait_until("the limit to be reached", || spooled(worker) + SLACK > LIMIT);
            assert_eq!(server.connect().get("/").status, 200);
            assert!(slow.send(vec![b'x'; 2_999_990]).response().text().starts_with("3000000 "));
            for other in others {
                assert!(other.join().unwrap().starts_with("3000000 "));
            }
        });
    }

    fn one_that_waits_for_its_turn_to_be_read_is_told_of(class: &str) {
        let server = server(class, &["--threads", "2"]);
        let mut slow = begin(&server, 3_000_000, 10);
        std::thread::sleep(Duration::from_millis(200));
        // It sends nothing more before it has an answer.
        let mut other = server.connect();
        other.send("POST /echo-stream HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n").send("3\r\nabc\r\n");
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(server.connect().get("/").status, 200);
        assert!(slow.send(vec![b'x'; 2_999_990]).response().text().starts_with("3000000 "));
        let mut answer = String::new();
        while !answer.ends_with("\r\n3\r\nabc\r\n") {
            let some = other.read_some().unwrap();
            assert!(!some.is_empty(), "cut off: {answer}");
            answer += &String::from_utf8(some).unwrap();
        }
        assert_eq!(other.send("0\r\n\r\n").read_some().unwrap(), b"0\r\n\r\n");
    }
}

on_wsgi_classes! {
    fn a_place_is_found_where_the_usual_one_cannot_be_written(class: &str) {
        let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
            .args(["-w", "1", "-k", class, "promises:app", "--worker-tmp-dir", "/proc"])
            .env("TMPDIR", "/proc/nowhere")
            .start();
        server.wait_for_log("No temporary file can be made in /proc/nowhere: No such file or directory");
        assert!(begin(&server, 1_000_000, 1_000_000).response().text().starts_with("1000000 "));
        let mut slow = server.connect();
        slow.send("GET /write-much?mib=16 HTTP/1.1\r\nHost: t\r\n\r\n");
        assert_eq!(server.connect().get("/").status, 200);
        let response = slow.response();
        assert!(response.whole && response.body.len() == 16 << 20);
    }
}
