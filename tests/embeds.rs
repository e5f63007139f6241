//! Rust programs serve with the parts: their own application, their own worker class.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rgunicorn_harness::{Server, examples, repository};

/// Builds an example, apart from the workspace so that it has only the features it asks for.
fn build(package: &str, binary: &str) -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("examples");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--package", package, "--target-dir"])
        .arg(&target)
        .current_dir(repository())
        .status();
    assert!(built.expect("cargo runs").success(), "{package} doesn't build");
    target.join("debug").join(binary)
}

#[test]
fn an_application_in_rust_with_no_python_in_the_process() {
    let binary = build("rgunicorn-example-embed", "embed");
    let libraries = Command::new("ldd").arg(&binary).output().expect("ldd runs");
    let libraries = String::from_utf8_lossy(&libraries.stdout).into_owned();
    assert!(libraries.contains("libc.so") && !libraries.contains("python"), "{libraries}");
    let mut server = Server::build(&binary.to_string_lossy()).no_bind().args(["127.0.0.1:0"]).start();
    let old = server.wait_for_workers(2);
    let mut client = server.connect();
    assert!(client.get("/").text().starts_with("Hello, 127.0.0.1, from process "));
    assert_eq!(client.get("/count").text(), "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n");
    let post = "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(client.send(post).response().text(), "hello");
    assert_eq!(client.get("/nowhere").status, 404);
    // A panic is that request's alone.
    assert_eq!(client.get("/panic").status, 500);
    server.wait_for_log("a handler has a bug");
    assert_eq!(server.connect().get("/").status, 200);
    server.signal(Signal::SIGHUP);
    server.wait_until("new workers alone", || {
        let now = server.workers();
        now.len() == 2 && now.iter().all(|pid| !old.contains(pid))
    });
    assert_eq!(server.connect().get("/").status, 200);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn an_application_in_rust_that_blocks_as_it_likes() {
    let binary = build("rgunicorn-example-coroutines", "coroutines");
    let mut server = Server::build(&binary.to_string_lossy()).no_bind().args(["127.0.0.1:0"]).start();
    let worker = server.wait_for_workers(1)[0];
    let maps = std::fs::read_to_string(format!("/proc/{worker}/maps")).expect("the worker lives");
    assert!(!maps.contains("python"), "{maps}");
    let ask_all = |target: &str| {
        let start = Instant::now();
        let mut clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", server.port()));
        }
        let texts: Vec<_> = clients.iter_mut().map(|client| client.response().text()).collect();
        (texts, start.elapsed())
    };
    let (slept, took) = ask_all("/sleep");
    assert!(slept.iter().all(|text| text == "slept\n") && took < Duration::from_secs(30), "{took:?}");
    let (mut counts, _) = ask_all("/lock");
    counts.sort_by_key(|text| text.trim().parse().unwrap_or(0));
    assert_eq!(counts, (1..=100).map(|n| format!("{n}\n")).collect::<Vec<_>>());
    let (again, _) = ask_all("/again");
    assert!(again.iter().all(|text| *text == format!("Hello from process {worker}\n")), "{again:?}");
    // All of it on one thread; the other looks on.
    let threads = std::fs::read_dir(format!("/proc/{worker}/task")).map_or(0, Iterator::count);
    assert_eq!(threads, 2);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_worker_class_of_ones_own() {
    let binary = build("rgunicorn-example-custom-class", "custom_class");
    let build = || Server::build(&binary.to_string_lossy()).directory(examples());
    let mut server = build().args(["-k", "patient", "run:app"]).start();
    for _ in 0..3 {
        let response = server.connect().get("/");
        assert_eq!((response.status, response.header("Connection")), (200, Some("close")));
    }
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.log().contains("a patient worker has answered 3 requests"), "{}", server.log());
    let (status, _, error) = build().args(["-k", "impatient", "run:app"]).run();
    assert_eq!(status, Some(1));
    assert!(error.contains("event, patient, sync, threads"), "{error}");
}
