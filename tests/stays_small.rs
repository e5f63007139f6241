//! A gigabyte in or out costs a worker buffers, not memory, and what it used goes back.

use std::io::{Read, Write};
use std::time::Duration;

use rgunicorn_harness::{Server, on_every_class};

const GIB: u64 = 1 << 30;
const MOST: u64 = 64 << 20;

fn server(class: &str) -> Server {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-w", "1", "-k", class, "promises:raw"]).start()
}

on_every_class! {
    fn while_a_slow_reader_takes_a_gigabyte(class: &str) {
        let server = server(class);
        let worker = server.wait_for_workers(1)[0];
        let mut client = server.connect();
        client.send("GET /stream?n=16384&size=65536 HTTP/1.1\r\nHost: t\r\n\r\n");
        // First it doesn't read at all, so that everything backs up; others are answered meanwhile.
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(server.connect().get("/").status, 200);
        let (mut total, mut piece) = (0, vec![0; 1 << 20]);
        while total < GIB {
            let count = client.stream().read(&mut piece).expect("the stream goes on");
            assert!(count > 0, "the stream ended after {total} bytes");
            total += count as u64;
        }
        assert!(Server::peak_memory(worker) < MOST, "{} bytes", Server::peak_memory(worker));
    }

    fn while_it_takes_a_gigabyte(class: &str) {
        let server = server(class);
        let worker = server.wait_for_workers(1)[0];
        let directory = tempfile_count(worker);
        let mut client = server.connect();
        client.send(format!("POST /digest HTTP/1.1\r\nHost: t\r\nContent-Length: {GIB}\r\n\r\n"));
        let piece = vec![b'u'; 1 << 20];
        for _ in 0..1024 {
            client.stream().write_all(&piece).expect("the server takes the upload");
        }
        client.set_timeout(Duration::from_secs(60));
        assert!(client.response().text().starts_with("1073741824 "));
        assert!(Server::peak_memory(worker) < MOST, "{} bytes", Server::peak_memory(worker));
        drop(client);
        server.wait_until("the temporary file to be gone", || tempfile_count(worker) == directory);
    }
}

/// How many deleted files a process holds open.
fn tempfile_count(pid: i32) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.filter(|target| target.to_string_lossy().ends_with("(deleted)")).count()
}
