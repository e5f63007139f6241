//! What a worker that runs as another user can't do to its arbiter, nor by it.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::User;
use rgunicorn_harness::{Builder, Client, Server, on_every_class};

const BINARY: &str = env!("CARGO_BIN_EXE_rgunicorn");

/// Whether there is another user to become.
fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("only root can change the user: not tested");
    }
    root
}

/// A server of root's whose workers are nobody's.
fn build(class: &str, application: &str) -> Builder {
    // Loaded before the change of user, who may not be allowed to read what Python is made of.
    Server::build(BINARY)
        .args(["-k", class, "--user", "nobody", "--group", "nogroup", "--preload"])
        .args([application])
}

fn nobody() -> u32 {
    User::from_name("nobody").unwrap().unwrap().uid.as_raw()
}

/// Runs `rgunicorn ctl`, which must succeed: its output.
#[track_caller]
fn ctl(socket: &Path, arguments: &[&str]) -> String {
    let output = Command::new(BINARY).args(["ctl", "--socket"]).arg(socket).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

on_every_class! {
    fn a_worker_commands_nobody(class: &str) {
        if !is_root() {
            return;
        }
        let server = build(class, "meddler:app").start();
        assert_eq!(server.connect().get("/uid/-").text(), nobody().to_string());
        for signal in [Signal::SIGHUP, Signal::SIGUSR2, Signal::SIGTTIN, Signal::SIGTERM] {
            // What the worker reads itself it may obey, or die of.
            let pull = format!("GET /pull/{} HTTP/1.1\r\nHost: t\r\n\r\n", signal as i32);
            let _ = server.connect().send(pull).read_response(false);
            let answers = |mut client: Client| {
                client.try_send("GET /uid/- HTTP/1.1\r\nHost: t\r\n\r\n").is_ok() && client.read_response(false).is_ok()
            };
            server.wait_until("answers", || Client::try_connect(server.port()).is_ok_and(answers));
        }
        server.signal(Signal::SIGHUP);
        server.wait_for_log("Generation 2 serves");
        let log = server.log();
        let handled: Vec<_> = log.lines().filter(|line| line.contains("Handling signal: ") && !line.ends_with("chld")).collect();
        assert!(handled.len() == 1 && handled[0].ends_with("hup"), "{handled:?}");
    }

    fn a_worker_writes_what_it_likes_and_the_arbiter_goes_on(class: &str) {
        if !is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("ctl");
        let mut server = build(class, "meddler:app")
            .args(["--metrics-bind", "127.0.0.1:0", "--slow-request", "1", "--timeout", "120", "--control-socket"])
            .args([&socket])
            .start();
        for size in ["0", "4096", "1000000000"] {
            assert_eq!(server.connect().get(&format!("/truncate/{size}")).text(), "refused");
        }
        for (time, fill) in ["random", "ones", "zeros"].iter().enumerate() {
            let reloads = format!("Generation {} serves", time + 2);
            // It may be ended for what it says of itself before it has answered.
            let mut client = server.connect();
            client.send(format!("GET /scribble/{fill} HTTP/1.1\r\nHost: t\r\n\r\n"));
            assert!(client.read_response(false).map_or(true, |response| response.status == 200));
            for command in ["status", "workers", "stack", "config"] {
                ctl(&socket, &[command]);
            }
            // Others come in the place of those who are not to be believed.
            server.signal(Signal::SIGHUP);
            server.wait_for_log(&reloads);
            server.wait_until("answers", || server.connect().get("/uid/-").status == 200);
        }
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn what_a_worker_says_of_itself_reaches_no_terminal_as_a_command() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("ctl");
    let server = build("event", "meddler:app").args(["--control-socket"]).args([&socket]).start();
    server.wait_for_log("is ready");
    assert_eq!(server.connect().get("/tell/50000000").status, 200);
    assert!(ctl(&socket, &["stack"]).len() < 10 << 20);
    assert_eq!(server.connect().get("/shout/60").status, 200);
    let mut told = String::new();
    server.wait_until("what it shouts", || {
        told = ctl(&socket, &["stack"]);
        told.contains("forged")
    });
    assert!(told.contains("\\x1b[2J\nforged") && !told.contains('\u{1b}'), "{told}");
}

/// A log directory that belongs to the workers' user, and a file that is root's alone.
fn site() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (logs, secret) = (directory.path().join("logs"), directory.path().join("secret"));
    std::fs::create_dir(&logs).unwrap();
    chown(&logs, Some(nobody()), None).unwrap();
    std::fs::write(&secret, "secret\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    (directory, logs, secret)
}

/// Puts a link in the place of a file, as the workers' user would.
fn replace_by_link(file: &Path, target: &Path) {
    let _ = std::fs::remove_file(file);
    symlink(target, file).unwrap();
    std::os::unix::fs::lchown(file, Some(nobody()), None).unwrap();
}

#[track_caller]
fn assert_untouched(secret: &Path) {
    let found = std::fs::metadata(secret).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (0, 0, 0o600));
    assert_eq!(std::fs::read(secret).unwrap(), b"secret\n");
}

on_every_class! {
    fn a_link_in_the_place_of_a_log_gives_nothing_away(class: &str) {
        if !is_root() {
            return;
        }
        let (_directory, logs, secret) = site();
        let (access, error) = (logs.join("access.log"), logs.join("error.log"));
        let with_logs = || {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let builder = build(class, "promises:raw").no_bind().args(["-b", &format!("127.0.0.1:{port}")]);
            (builder.args(["--access-logfile"]).args([&access]).args(["--capture-output"]), port)
        };
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let (builder, port) = with_logs();
        let server = builder.start();
        let get = |path: &str| assert_eq!(Client::connect(port).get(path).status, 200);
        server.wait_until("the access line", || { get("/one"); read(&access).contains("/one") });
        assert_eq!(std::fs::metadata(&access).unwrap().uid(), nobody());
        replace_by_link(&access, &secret);
        server.signal(Signal::SIGUSR1);
        server.wait_for_log_times("Can't reopen", 2);
        get("/two");
        server.signal(Signal::SIGHUP);
        server.wait_for_log("reload failed");
        get("/three");
        assert_untouched(&secret);
        // Put right, all is well again.
        std::fs::remove_file(&access).unwrap();
        server.signal(Signal::SIGUSR1);
        server.wait_until("the access line", || { get("/four"); read(&access).contains("/four") });
        drop(server);
        replace_by_link(&error, &secret);
        let (builder, _) = with_logs();
        let (status, _, output) = builder.args(["--error-logfile"]).args([&error]).run();
        assert_eq!(status, Some(1), "{output}");
        assert!(output.contains("errorlog") && output.contains("who has had a hand in"), "{output}");
        assert_untouched(&secret);
    }
}

#[test]
fn the_operators_links_are_followed() {
    if !is_root() {
        return;
    }
    let (directory, logs, _) = site();
    let link = directory.path().join("log");
    symlink(logs.join("access.log"), &link).unwrap();
    let server = build("event", "promises:raw").args(["--access-logfile"]).args([&link]).start();
    server.wait_until("the access line", || {
        assert_eq!(server.connect().get("/one").status, 200);
        std::fs::read_to_string(&link).unwrap_or_default().contains("/one")
    });
    // Standard output, which is a file of the harness's.
    let server = build("event", "promises:raw").args(["--access-logfile", "/dev/stdout"]).start();
    server.wait_until("the access line", || {
        assert_eq!(server.connect().get("/two").status, 200);
        server.log().contains("GET /two")
    });
}

#[test]
fn a_socket_is_the_workers_users() {
    if !is_root() {
        return;
    }
    let (_directory, logs, _) = site();
    let socket = logs.join("socket");
    let server =
        build("event", "promises:raw").no_bind().args([format!("--bind=unix:{}", socket.display())]).start();
    assert_eq!(std::fs::metadata(&socket).unwrap().uid(), nobody());
    drop(server);
}
