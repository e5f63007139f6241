//! What hangs tells its own story: where its Python code is, and for which request.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rgunicorn_harness::{Builder, Server, on_classes, on_every_class};

fn build(class: &str) -> Builder {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", class, "promises:raw"])
}

on_every_class! {
    fn a_slow_request_is_told_once_and_goes_on(class: &str) {
        let server = build(class).args(["--slow-request", "0.4"]).start();
        let worker = server.wait_for_workers(1)[0];
        assert_eq!(server.connect().get("/").status, 200);
        let mut client = server.connect();
        client.send("GET /sleep?s=2.5 HTTP/1.1\r\nHost: t\r\n\r\n");
        assert_eq!(client.response().status, 200);
        let told = format!("[WARNING] Slow request: worker (pid:{worker}) is in GET /sleep for ");
        server.wait_for_log(&told);
        server.wait_for_log(&format!("Worker (pid:{worker}) was here:\n"));
        let log = server.log();
        assert_eq!(log.matches("Slow request").count(), 1, "{log}");
        assert!(log.contains(", client 127.0.0.1\n") && log.contains("in sleep"), "{log}");
        assert_eq!(server.workers(), [worker], "nobody was killed");
    }
}

on_classes! { [sync event asgi gevent tornado coro]
    fn a_worker_that_hangs_says_where_and_for_whom_before_it_is_killed(class: &str) {
        // As long as it may take to boot.
        let server = build(class).args(["--timeout", "4"]).start();
        let worker = server.wait_for_workers(1)[0];
        server.wait_for_log("is ready, after");
        server.connect().send("GET /spin HTTP/1.1\r\nHost: t\r\n\r\n");
        server.wait_for_log(&format!("[CRITICAL] WORKER TIMEOUT (pid:{worker})"));
        server.wait_until("another worker", || server.workers().first().is_some_and(|pid| *pid != worker));
        let log = server.log();
        assert!(log.contains(&format!("Worker (pid:{worker}) was in GET /spin for ")), "{log}");
        assert!(log.contains("in spin") && log.contains("promises.py"), "{log}");
        assert_eq!(log.matches("was here:").count(), 1, "once\n{log}");
        assert_eq!(server.connect().get("/").status, 200);
    }
}

/// The code that hangs is C, and holds Python's lock: nothing of Python can run any more.
#[test]
fn code_in_c_can_not_hide() {
    let server = build("event").args(["--timeout", "4"]).start();
    let worker = server.wait_for_workers(1)[0];
    server.wait_for_log("is ready, after");
    server.connect().send("GET /spin-in-c HTTP/1.1\r\nHost: t\r\n\r\n");
    server.wait_for_log(&format!("Worker (pid:{worker}) was here:\n"));
    assert!(server.log().contains("in spin_in_c"), "{}", server.log());
}

/// A worker that somebody else aborts leaves its tracebacks, too.
#[test]
fn an_abort_by_hand_leaves_tracebacks() {
    let server = build("event").start();
    let worker = server.wait_for_workers(1)[0];
    assert_eq!(server.connect().get("/").status, 200);
    server.connect().send("GET /sleep?s=20 HTTP/1.1\r\nHost: t\r\n\r\n");
    std::thread::sleep(std::time::Duration::from_millis(200));
    kill(Pid::from_raw(worker), Signal::SIGABRT).unwrap();
    server.wait_for_log("was here:");
    assert!(server.log().contains("promises.py"), "{}", server.log());
}

/// Tasks of asyncio that wait are told as well, with what they wait for.
#[test]
fn tasks_are_told() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("tasks.py"),
        "\
import asyncio


async def query():
    await asyncio.sleep(3)


async def handle():
    await query()


async def app(scope, receive, send):
    if scope['type'] == 'http':
        await handle()
        await send({'type': 'http.response.start', 'status': 200})
        await send({'type': 'http.response.body', 'body': b'done'})
",
    )
    .unwrap();
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .directory(directory.path())
        .args(["-k", "asgi", "--slow-request", "0.3", "tasks:app"])
        .start();
    let mut client = server.connect();
    client.send("GET /slow HTTP/1.1\r\nHost: t\r\n\r\n");
    server.wait_for_log("Slow request: ");
    server.wait_for_log("in query\n");
    let log = server.log();
    assert!(log.contains("waiting, most recent call last") && log.contains("in handle\n"), "{log}");
    assert_eq!(client.response().text(), "done");
}
