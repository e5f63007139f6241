//! What a worker that runs as another user can't do to its arbiter, nor by it.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

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
        assert!(output.contains("errorlog") && output.contains("the workers' user"), "{output}");
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
