//! Processes that an application forks have all that their worker has, and are nobody to its connections.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::io;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rgunicorn_harness::{Client, Server, application, assert_has, on_every_class};

fn server(class: &str, arguments: &[&str]) -> Server {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", class, "children:app"]).args(arguments).start()
}

/// A connection that the worker has.
fn had(server: &Server) -> Client {
    let mut client = server.connect();
    client.send("GET ");
    // Connections are taken one after the other.
    assert_eq!(server.connect().get("/").status, 200);
    client
}

on_every_class! {
    fn a_connection_ends_though_a_child_has_its_socket(class: &str) {
        let server = server(class, &["--keep-alive", "1"]);
        let (mut before, mut broken) = (had(&server), had(&server));
        let mut kept = server.connect();
        kept.get("/");
        let mut client = server.connect();
        // Nothing but the end of the connection ends the response.
        client.send("GET /fork HTTP/1.0\r\n\r\n");
        assert_eq!(client.response().text(), "some, and more");
        before.send("/ HTTP/1.0\r\n\r\n");
        assert_eq!(before.response().text(), "some, and more");
        // What is cut off doesn't look like an end.
        broken.send("/broken HTTP/1.0\r\n\r\n");
        assert_eq!(broken.read_response(false).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(kept.read_some().unwrap(), b"", "its time is over");
        // What the worker gets from now on no child has.
        assert_eq!(server.connect().send("GET / HTTP/1.0\r\n\r\n").response().text(), "some, and more");
    }

    fn one_that_comes_back_ends(class: &str) {
        let server = server(class, &["-w", "2"]);
        server.wait_for_log_times("is ready", 2);
        let workers = server.workers();
        let mut had: Vec<Client> = (0..8).map(|_| had(&server)).collect();
        for (path, status) in [("/exit", "7"), ("/raise", "1"), ("/return", "1"), ("/yield", "some, 1")] {
            assert_eq!(server.connect().get(path).text(), status, "{path}");
        }
        let log = server.log();
        assert_has(&log, ["came back to its worker; it ends here", "ValueError: failed in the middle", "printed by the child"]);
        assert_eq!(log.matches("came back to its worker").count(), 3, "{log}");
        // Whose requests come piece by piece: each piece is an event.
        let mut rest = b"/ HTTP/1.1\r\nHost: test\r\n\r\n".as_slice();
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.len().min(9));
            had.iter_mut().for_each(|client| { client.send(piece); });
            std::thread::sleep(Duration::from_millis(10));
            rest = later;
        }
        had.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
        for _ in 0..20 {
            assert_eq!(server.connect().get("/").status, 200);
        }
        assert_eq!(server.workers(), workers);
        assert!(workers.iter().all(|worker| children(*worker) == 0), "nobody is left behind");
    }

    fn a_program_has_the_limit_of_open_files_that_the_server_was_started_with(class: &str) {
        let few = ["-c", "ulimit -Sn 300; exec \"$@\"", "bash", env!("CARGO_BIN_EXE_rgunicorn")];
        let server = Server::build("bash").no_bind().args(few).args(["-k", class, "-b", "127.0.0.1:0", "children:app"]).start();
        assert_eq!(server.connect().get("/limits").text(), "[true, true, \"300\", \"300\", \"300\"]");
    }

    fn one_that_lives_on_does_not_listen(class: &str) {
        let mut server = server(class, &["--graceful-timeout", "1"]);
        let mut unfinished = had(&server);
        let child: i32 = server.connect().get("/outlive").text().parse().unwrap();
        server.signal(Signal::SIGTERM);
        server.wait();
        assert!(Client::try_connect(server.port()).is_err(), "the port is free");
        let end = unfinished.read_some();
        assert!(matches!(&end, Ok(nothing) if nothing.is_empty()), "{end:?}");
        kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
    }
}

fn children(process: i32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let children =
        tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    children.map(|children| children.split_whitespace().count()).sum()
}

#[test]
fn one_that_comes_back_from_a_hook_ends() {
    let directory = tempfile::tempdir().unwrap();
    let hooks = "
import os, sys

def fork(name, status):
    child = os.fork()
    if child == 0:
        sys.exit(status) if status else None
        return
    print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

def when_ready(server): fork('when_ready', 0)
def pre_fork(server, worker): fork('pre_fork', 5)
def post_fork(server, worker): fork('post_fork', 0)
def post_worker_init(worker): fork('post_worker_init', 6)
def pre_request(worker, req): fork('pre_request', 7)
def post_request(worker, req, environ, resp): fork('post_request', 0)
def worker_exit(server, worker): fork('worker_exit', 0)
def on_exit(server): fork('on_exit', 0)
";
    let file = directory.path().join("hooks.py");
    std::fs::write(&file, hooks).unwrap();
    for class in ["sync", "threads", "asgi"] {
        let mut server = server(class, &["-c", file.to_str().unwrap()]);
        for _ in 0..3 {
            assert_eq!(server.connect().get("/").status, 200);
        }
        server.signal(Signal::SIGTERM);
        server.wait();
        let log = server.log();
        assert_has(
            &log,
            ["when_ready 1", "pre_fork 5", "post_fork 1", "post_worker_init 6", "worker_exit 1", "on_exit 1"],
        );
        for (line, times) in
            [("pre_request 7", 3), ("post_request 1", 3), ("Worker exiting", 1), ("Shutting down", 1)]
        {
            assert_eq!(log.matches(line).count(), times, "{line} in:\n{log}");
        }
    }
}

#[test]
fn one_that_comes_back_from_an_import_or_the_configuration_file_ends() {
    let directory = tempfile::tempdir().unwrap();
    let forking = "
import os
child = os.fork()
if child:
    print(__name__, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
";
    let file = |name: &str, text: String| std::fs::write(directory.path().join(name), text).unwrap();
    file("forking.py", format!("{forking}\n{}", application("b'hello'")));
    file("gunicorn.conf.py", forking.to_string());
    file("hooked.conf.py", format!("{forking}\ndef when_ready(server): pass\n"));
    for class in ["sync", "asgi"] {
        for (arguments, executed) in
            [(["-c", "gunicorn.conf.py"], 1), (["--preload", "-c=hooked.conf.py"], 2)]
        {
            let mut server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
                .directory(directory.path())
                .args(["-k", class, "--pid", "pid", "forking:app"])
                .args(arguments)
                .start();
            assert_eq!(server.connect().get("/").text(), "hello");
            server.wait_for_log("is ready");
            server.signal(Signal::SIGTERM);
            server.wait();
            let log = server.log();
            for (line, times) in [
                ("forking 1", 1),
                ("__config__ 1", executed),
                ("Listening at", 1),
                ("Booting", 1),
                ("Shutting down", 1),
            ] {
                assert_eq!(log.matches(line).count(), times, "{line} in:\n{log}");
            }
        }
    }
}

#[test]
fn what_becomes_of_a_closed_connection_is_not_told_to_others() {
    let server = server("asgi", &["--keep-alive", "1"]);
    let mut closed: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    closed.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    assert_eq!(server.connect().get("/fork").status, 200);
    for client in &mut closed {
        assert_eq!(client.read_some().unwrap(), b"");
    }
    // The worker has a moment's patience with who was told so, and then forgets them.
    std::thread::sleep(Duration::from_millis(600));
    let mut polls: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut polls {
        client.send("GET /poll HTTP/1.1\r\nHost: t\r\n\r\n");
    }
    assert_eq!(server.connect().get("/").status, 200);
    drop(closed);
    for client in &mut polls {
        assert_eq!(client.response().text(), "it stayed");
    }
}
