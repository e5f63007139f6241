//! A running server is controlled over a socket that is its owner's alone.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rgunicorn_harness::{Builder, Server, application, on_every_class, python, repository};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_rgunicorn");

/// A server, and the directory of its control socket.
fn build(class: &str) -> (Builder, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("deep/ctl.sock");
    let builder =
        Server::build(BINARY).args(["-k", class, "--control-socket"]).args([&socket]).args(["promises:raw"]);
    (builder, directory)
}

fn socket(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("deep/ctl.sock")
}

/// Runs `rgunicorn ctl`: its exit status, output and errors.
fn ctl(socket: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(BINARY).args(["ctl", "--socket"]).arg(socket).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn json(socket: &Path, arguments: &[&str]) -> Value {
    let (status, output, errors) = ctl(socket, &[&["--json"], arguments].concat());
    assert_eq!((status, errors.as_str()), (0, ""), "{output}");
    serde_json::from_str(&output).unwrap()
}

on_every_class! {
    fn what_the_server_does_is_told(class: &str) {
        let (builder, directory) = build(class);
        // A machine that is busy with other tests is no reason for a time-out.
        let server = builder.args(["-w", "2", "--timeout", "120"]).start();
        let socket = socket(&directory);
        server.wait_until("two idle workers", || json(&socket, &["status"])["workers"]["idle"] == 2);
        let mut client = server.connect();
        client.send("GET /sleep?s=2&x=secret HTTP/1.1\r\nHost: t\r\n\r\n");
        let mut workers = Value::Null;
        server.wait_until("a busy worker", || {
            workers = json(&socket, &["workers"]);
            workers["workers"].as_array().unwrap().iter().any(|worker| worker["state"] == "busy")
        });
        let list = workers["workers"].as_array().unwrap();
        let busy = list.iter().find(|worker| worker["state"] == "busy").unwrap();
        let request = &busy["running"][0];
        assert_eq!((&request["method"], &request["path"]), (&"GET".into(), &"/sleep".into()), "{busy}");
        assert_eq!((&request["client"], &request["in_application"]), (&"127.0.0.1".into(), &true.into()), "{busy}");
        let pids: Vec<i64> = list.iter().map(|worker| worker["pid"].as_i64().unwrap()).collect();
        assert!(server.workers().iter().all(|pid| pids.contains(&i64::from(*pid))), "{workers}");
        assert!(busy["memory"].as_u64().unwrap() > 1_000_000, "{busy}");

        // Where it is in Python: that worker, and all of them.
        let pid = busy["pid"].to_string();
        let (status, text, errors) = ctl(&socket, &["stack", &pid]);
        assert_eq!((status, errors.as_str()), (0, ""));
        assert!(text.contains(&format!("--- worker {pid}")) && text.contains("in sleep"), "{text}");
        let both = json(&socket, &["stack"]);
        assert_eq!(both["workers"].as_array().unwrap().len(), 2);
        assert!(both["workers"].as_array().unwrap().iter().all(|worker| worker["traceback"] != ""), "{both}");
        assert_eq!(client.response().status, 200, "nothing has happened to the request");

        let (status, text, _) = ctl(&socket, &["status"]);
        assert_eq!(status, 0);
        assert!(text.contains("running") && text.contains(&format!("2 of class {class}")), "{text}");
        let (_, text, _) = ctl(&socket, &["workers"]);
        assert_eq!(text.lines().count(), 3, "{text}");
        // Without a terminal it is one table, with what has happened within a second.
        let (status, text, errors) = ctl(&socket, &["top"]);
        assert_eq!((status, errors.as_str()), (0, ""));
        assert!(text.contains("REQ/S") && text.contains(&pid), "{text}");
    }
}

#[test]
fn every_command_has_a_test() {
    let output = Command::new(BINARY).args(["ctl", "--help"]).output().unwrap();
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names: Vec<&str> = commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    // Each with the test above or below that runs it.
    let tested = [
        ("status", "what_the_server_does_is_told"),
        ("workers", "what_the_server_does_is_told"),
        ("top", "top_is_drawn_again_until_q_is_pressed"),
        ("stack", "what_the_server_does_is_told"),
        ("reload", "reloads_say_how_they_ended"),
        ("scale", "workers_are_scaled"),
        ("shutdown", "the_server_is_shut_down"),
        ("loglevel", "the_level_of_the_log_changes_in_all_processes"),
        ("config", "settings_are_shown_as_they_are"),
    ];
    assert_eq!(names, tested.map(|(command, _)| command), "{help}");
}

#[test]
fn top_is_drawn_again_until_q_is_pressed() {
    let (builder, directory) = build("event");
    let server = builder.start();
    let worker = server.wait_for_workers(1)[0];
    let socket = socket(&directory);
    server.wait_for_log("Control socket: ");
    let script = repository().join("tests/clients/terminal.py");
    let mut command = Command::new(python());
    command.arg(script).args([BINARY, "ctl", "--socket"]).arg(&socket).arg("top");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let drawn = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(drawn.contains(&worker.to_string()) && drawn.contains("class event"), "{drawn}");
    assert!(drawn.matches("\u{1b}[H").count() >= 2, "drawn in place: {drawn}");
}

#[test]
fn workers_are_scaled() {
    let (builder, directory) = build("event");
    let server = builder.start();
    let socket = socket(&directory);
    server.wait_for_workers(1);
    assert_eq!(ctl(&socket, &["scale", "3"]), (0, "3 workers, 1 before\n".into(), String::new()));
    server.wait_for_workers(3);
    assert_eq!(json(&socket, &["scale", "1"])["from"], 3);
    server.wait_for_workers(1);
    for wrong in ["0", "-1", "many", "100000"] {
        let (status, _, errors) = ctl(&socket, &["scale", wrong]);
        assert!(status != 0 && !errors.is_empty(), "{wrong}");
    }
    assert_eq!(json(&socket, &["status"])["workers"]["target"], 1);
}

#[test]
fn reloads_say_how_they_ended() {
    let directory = tempfile::tempdir().unwrap();
    let (file, socket) = (directory.path().join("app.py"), directory.path().join("ctl.sock"));
    std::fs::write(&file, application("b'hello'")).unwrap();
    let server = Server::build(BINARY)
        .directory(directory.path())
        .args(["--control-socket"])
        .args([&socket])
        .args(["app:app"])
        .start();
    server.wait_for_workers(1);
    server.wait_until("a worker", || json(&socket, &["status"])["workers"]["idle"] == 1);
    assert_eq!(ctl(&socket, &["reload"]), (0, "generation 2 serves\n".into(), String::new()));
    std::fs::write(&file, "nonsense\n").unwrap();
    let (status, _, errors) = ctl(&socket, &["reload"]);
    assert_eq!(status, 1);
    assert!(errors.contains("the reload failed, the old workers go on"), "{errors}");
    assert_eq!(server.connect().get("/").text(), "hello");
    let status = json(&socket, &["status"]);
    assert_eq!((&status["generation"], &status["reloads"]["failed"]), (&2.into(), &1.into()));
    assert!(status["reloads"]["last_failure"].is_string());
    std::fs::write(&file, application("b'again'")).unwrap();
    assert_eq!(ctl(&socket, &["reload"]).0, 0);
    assert_eq!(server.connect().get("/").text(), "again");
    assert!(json(&socket, &["status"])["reloads"]["last_failure"].is_null());
}

#[test]
fn the_level_of_the_log_changes_in_all_processes() {
    let (builder, directory) = build("event");
    let server = builder.start();
    let socket = socket(&directory);
    server.wait_for_workers(1);
    server.connect().get("/lines?of=before");
    assert_eq!(ctl(&socket, &["loglevel", "debug"]).0, 0);
    server.wait_until("debug lines of a worker", || {
        server.connect().get("/lines?of=after");
        server.log().contains("[DEBUG] GET /lines")
    });
    assert_eq!(ctl(&socket, &["loglevel", "error"]).0, 0);
    assert_eq!(ctl(&socket, &["loglevel", "loud"]).0, 1);
}

#[test]
fn settings_are_shown_as_they_are() {
    let (builder, directory) = build("event");
    let server = builder.args(["--timeout", "77"]).start();
    let settings = json(&socket(&directory), &["config"]);
    assert_eq!((&settings["timeout"], &settings["worker_class"]), (&77.into(), &"event".into()));
    drop(server);
}

#[test]
fn the_server_is_shut_down() {
    for (arguments, status) in [(vec!["shutdown"], 200), (vec!["shutdown", "quick"], 200)] {
        let (builder, directory) = build("event");
        let mut server = builder.start();
        let socket = socket(&directory);
        server.wait_for_workers(1);
        assert_eq!(server.connect().get("/").status, status);
        assert_eq!(ctl(&socket, &arguments).0, 0);
        assert!(server.wait().success());
        assert!(!socket.exists(), "the file is gone");
        let (status, _, errors) = ctl(&socket, &["status"]);
        assert_eq!(status, 1);
        assert!(errors.contains("no server answers at"), "{errors}");
    }
}

#[test]
fn the_socket_is_its_owners_alone() {
    let (builder, directory) = build("event");
    let server = builder.args(["--control-socket-mode", "0o600"]).start();
    let socket = socket(&directory);
    server.wait_for_log("Control socket: ");
    let metadata = std::fs::symlink_metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    if nix::unistd::geteuid().is_root() {
        // Whatever becomes of the file and its directory, another user is turned away.
        for (path, mode) in [(directory.path(), 0o755), (socket.parent().unwrap(), 0o755), (&socket, 0o666)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let program = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.settimeout(10)\ns.connect(sys.argv[1])\n\
                       try:\n    s.sendall(b'{\"command\": \"status\"}\\n')\n    print(s.recv(10))\n\
                       except OSError:\n    print(b'')\n";
        use std::os::unix::process::CommandExt;
        let output = Command::new("python3")
            .args(["-c", program])
            .arg(&socket)
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "b''\n", "{output:?}");
        server.wait_for_log("was turned away");
    }
    assert_eq!(ctl(&socket, &["status"]).0, 0);
}

#[test]
fn nonsense_is_answered_and_harms_nobody() {
    let (builder, directory) = build("event");
    let server = builder.start();
    let socket = socket(&directory);
    server.wait_for_log("Control socket: ");
    let stream = UnixStream::connect(&socket).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    for (question, problem) in [
        ("nonsense", "This is no JSON"),
        ("[]", "There is no \\\"command\\\""),
        ("{\"command\": \"explode\"}", "\\\"explode\\\" is no command"),
        ("{\"command\": \"scale\", \"args\": [{}]}", "scale takes a number"),
        ("{\"command\": \"stack\", \"args\": [1]}", "1 is no worker"),
        ("{\"command\": \"shutdown\", \"args\": [\"please\"]}", "is no way to shut down"),
    ] {
        (&stream).write_all(format!("{question}\n").as_bytes()).unwrap();
        let answer = lines.next().unwrap().unwrap();
        assert!(answer.contains("\"ok\":false") && answer.contains(problem), "{question}: {answer}");
    }
    // Two at once are answered one after the other.
    (&stream).write_all(b"{\"command\": \"status\"}\n{\"command\": \"config\"}\n").unwrap();
    for _ in 0..2 {
        assert!(lines.next().unwrap().unwrap().contains("\"ok\":true"));
    }
    // Nobody says so much.
    let mut chatty = UnixStream::connect(&socket).unwrap();
    let _ = chatty.write_all(&[b'x'; 100_000]);
    let mut rest = Vec::new();
    let _ = chatty.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    assert_eq!(server.connect().get("/").status, 200);
}

#[test]
fn what_is_said_forges_no_line_of_the_log() {
    let (builder, directory) = build("event");
    let server = builder.start();
    server.wait_for_log("Control socket: ");
    let mut stream = UnixStream::connect(socket(&directory)).unwrap();
    let question = r#"{"command": "x\n[INFO] forged \u001b[2J\u009b\u202e", "args": ["\u009b1m"]}"#;
    writeln!(stream, "{question}").unwrap();
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).unwrap();
    assert!(answer.contains("is no command"), "{answer}");
    server.wait_for_log(r#"Control: x\n[INFO] forged \x1b[2J\x9b\u202e "\x9b1m""#);
    assert!(!answer.contains(|character: char| character.is_control() && character != '\n'), "{answer:?}");
}

#[test]
fn a_file_that_is_left_behind_is_replaced_and_a_live_one_is_not() {
    let (builder, directory) = build("event");
    let socket = socket(&directory);
    let first = builder.start();
    first.wait_for_log("Control socket: ");
    let (status, _, log) = build_at(&socket).run();
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("another server listens there"), "{log}");
    // Killed, it leaves its file.
    drop(first);
    assert!(socket.exists());
    let second = build_at(&socket).start();
    second.wait_for_log("Control socket: ");
    assert_eq!(ctl(&socket, &["status"]).0, 0);
    drop(second);
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "precious").unwrap();
    let (status, _, log) = build_at(&socket).run();
    assert_eq!(status, Some(1));
    assert!(log.contains("it is not a socket"), "{log}");
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
}

fn build_at(socket: &Path) -> Builder {
    Server::build(BINARY).args(["--control-socket"]).args([socket]).args(["promises:raw"])
}

#[test]
fn the_default_is_the_users_own() {
    let directory = tempfile::tempdir().unwrap();
    let server =
        Server::build(BINARY).env("XDG_RUNTIME_DIR", directory.path()).args(["promises:raw"]).start();
    server.wait_for_log("Control socket: ");
    let output = Command::new(BINARY)
        .args(["ctl", "status"])
        .env("XDG_RUNTIME_DIR", directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    // A second server of this user's has none, and works all the same.
    let second =
        Server::build(BINARY).env("XDG_RUNTIME_DIR", directory.path()).args(["promises:raw"]).start();
    second.wait_for_log("No control socket: ");
    assert_eq!(second.connect().get("/").status, 200);
    let none = Server::build(BINARY)
        .env("XDG_RUNTIME_DIR", directory.path().join("other"))
        .args(["--no-control-socket", "promises:raw"])
        .start();
    none.wait_for_workers(1);
    assert!(
        !directory.path().join("other").exists() && !none.log().to_lowercase().contains("control socket")
    );
}
