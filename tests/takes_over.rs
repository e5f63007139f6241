//! SIGUSR2: another arbiter takes over, or doesn't; and systemd, played by the test.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rgunicorn_harness::{Load, Server, application};

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn children_of(pid: i32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn number_in(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// An arbiter that may outlive the one that the harness knows.
struct Heir(i32);

impl Drop for Heir {
    fn drop(&mut self) {
        let workers = children_of(self.0);
        for pid in [self.0].into_iter().chain(workers).filter(|pid| is_alive(*pid)) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// A server with a pid file, and where that is.
fn with_pidfile(class: &str, arguments: &[&str]) -> (Server, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .args(["-k", class, "-w", "2", "promises:raw", "--pid"])
        .args([directory.path().join("pid")])
        .args(arguments)
        .start();
    server.wait_for_log_times("is ready", 2);
    (server, directory)
}

/// Sends SIGUSR2, and waits until the other arbiter and its workers serve.
fn start_heir(server: &Server, directory: &Path) -> Heir {
    let workers = server.log().matches("is ready").count();
    server.signal(Signal::SIGUSR2);
    let second = directory.join("pid.2");
    server.wait_until("the other arbiter", || number_in(&second).is_some());
    let heir = Heir(number_in(&second).unwrap());
    server.wait_for_log_times("is ready", workers + 2);
    assert_eq!(number_in(&directory.join("pid")), Some(server.pid()));
    assert!(children_of(server.pid()).contains(&heir.0));
    heir
}

fn takes_over_under_load(class: &str, arguments: &[&str]) {
    let (mut server, directory) = with_pidfile(class, arguments);
    let load = Load::start(server.port(), 8);
    let heir = start_heir(&server, directory.path());
    let title = std::fs::read_to_string(format!("/proc/{}/cmdline", heir.0)).unwrap();
    assert!(title.contains(".2]"), "{title}");
    server.signal(Signal::SIGUSR2);
    server.wait_for_log("SIGUSR2 ignored. Child exists.");
    server.signal(Signal::SIGWINCH);
    server.wait_until("the old workers to leave", || children_of(server.pid()) == [heir.0]);
    let seen = load.answered();
    server.wait_until("answers of the new ones", || load.answered() > seen + 100);
    server.signal(Signal::SIGQUIT);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    server.wait_for_log("Master has been promoted.");
    let names = || (number_in(&directory.path().join("pid")), directory.path().join("pid.2").exists());
    server.wait_until("the pid file", || names() == (Some(heir.0), false));
    let seen = load.answered();
    server.wait_until("answers of the new ones", || load.answered() > seen + 100);
    let counts = load.stop();
    assert_eq!(counts.lost(), 0, "{class}: {counts}");
    // It can be done again, and ends as any other.
    signal(heir.0, Signal::SIGTERM);
    server.wait_until("the end", || !is_alive(heir.0));
    assert!(!directory.path().join("pid").exists());
}

#[test]
fn another_arbiter_takes_over_without_a_loss() {
    for class in ["sync", "threads", "asgi"] {
        takes_over_under_load(class, &[]);
    }
}

#[test]
fn another_arbiter_takes_over_all_sockets_with_reuse_port() {
    takes_over_under_load("event", &["--reuse-port"]);
}

#[test]
fn the_other_arbiter_can_be_sent_away_again() {
    let path = tempfile::tempdir().unwrap();
    let path = path.path().join("socket");
    let bind = format!("unix:{}", path.display());
    let (server, directory) = with_pidfile("event", &["-b", &bind]);
    let load = Load::start(server.port(), 4);
    let heir = start_heir(&server, directory.path());
    server.signal(Signal::SIGWINCH);
    server.wait_until("the old workers to leave", || children_of(server.pid()) == [heir.0]);
    server.signal(Signal::SIGHUP);
    server.wait_until("workers again", || children_of(server.pid()).len() == 3);
    server.wait_for_log_times("is ready", 6);
    signal(heir.0, Signal::SIGTERM);
    server.wait_for_log("has ended (status 0); this one goes on");
    assert!(!directory.path().join("pid.2").exists());
    assert_eq!(number_in(&directory.path().join("pid")), Some(server.pid()));
    assert!(UnixStream::connect(&path).is_ok(), "the socket file is the old one's, too");
    assert_eq!(server.connect().get("/").status, 200);
    let counts = load.stop();
    assert_eq!(counts.lost(), 0, "{counts}");
    // And another one can be started.
    let heir = start_heir(&server, directory.path());
    assert!(is_alive(heir.0));
}

#[test]
fn another_arbiter_that_can_not_start_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    file("site.conf.py", "workers = 1\n");
    file("changing.py", &application("b'good'"));
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .directory(directory.path())
        .args(["-k", "event", "-c", "site.conf.py", "changing:app"])
        .start();
    assert_eq!(server.connect().get("/").text(), "good");
    for (time, (name, text)) in
        [("site.conf.py", "workers = 'many'\n"), ("changing.py", "this is no Python\n")]
            .into_iter()
            .enumerate()
    {
        file("site.conf.py", "workers = 1\n");
        file(name, text);
        server.signal(Signal::SIGUSR2);
        server.wait_for_log_times("; this one goes on", time + 1);
        assert_eq!(server.connect().get("/").text(), "good");
    }
}

#[test]
fn it_starts_in_the_release_that_a_link_leads_to_by_then() {
    let directory = tempfile::tempdir().unwrap();
    let (link, pids) = (directory.path().join("current"), directory.path().to_owned());
    for release in ["one", "two"] {
        let answer = format!("b'{release}'");
        std::fs::create_dir(directory.path().join(release)).unwrap();
        std::fs::write(directory.path().join(release).join("changing.py"), application(&answer)).unwrap();
    }
    let lead_to = |release: &str| {
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(release, &link).unwrap();
    };
    lead_to("one");
    // As a shell does that was told `cd current`.
    let mut server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .directory(&link)
        .env("PWD", &link)
        .args(["-k", "event", "-w", "2", "changing:app", "--pid"])
        .args([pids.join("pid")])
        .start();
    server.wait_for_log_times("is ready", 2);
    assert_eq!(server.connect().get("/").text(), "one");
    lead_to("two");
    std::fs::remove_dir_all(directory.path().join("one")).unwrap();
    let _heir = start_heir(&server, &pids);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(server.connect().get("/").text(), "two");
}

#[test]
fn the_hook_before_it_is_called() {
    let directory = tempfile::tempdir().unwrap();
    let hook = "def pre_exec(server):\n    server.log.info('about to begin anew')\n";
    std::fs::write(directory.path().join("hooks.py"), hook).unwrap();
    let file = directory.path().join("hooks.py");
    let (server, directory) = with_pidfile("sync", &["-c", file.to_str().unwrap()]);
    let heir = start_heir(&server, directory.path());
    assert!(server.log().contains(&format!("[{}] [INFO] about to begin anew", heir.0)), "{}", server.log());
    assert_eq!(server.connect().get("/").status, 200);
}

/// A service manager's ear.
struct Ear(UnixDatagram);

impl Ear {
    /// The next message that says `what`; others may come before it.
    #[track_caller]
    fn hear(&self, what: &str) -> String {
        let mut heard = Vec::new();
        loop {
            let mut bytes = [0; 4096];
            let length =
                self.0.recv(&mut bytes).unwrap_or_else(|error| panic!("{what}: {error} after {heard:?}"));
            let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if message.lines().any(|line| line == what) {
                return message;
            }
            heard.push(message);
        }
    }
}

#[test]
fn systemd_is_understood_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    file("site.conf.py", "workers = 1\nbind = '127.0.0.1:1'\n");
    // Whatever the application starts isn't to take the socket for its own.
    file("changing.py", &application("b'bad' if 'LISTEN_FDS' in __import__('os').environ else b'good'"));
    let ear = UnixDatagram::bind(directory.path().join("notify")).unwrap();
    ear.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let ear = Ear(ear);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    // As systemd does it: the socket is descriptor 3, and the process is meant by its number.
    let script = format!("exec 3<&{}; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"", socket.as_raw_fd());
    let mut server = Server::build("bash")
        .no_bind()
        .directory(directory.path())
        .env("NOTIFY_SOCKET", directory.path().join("notify"))
        .env("WATCHDOG_USEC", "300000")
        .args(["-c", &script, "bash", env!("CARGO_BIN_EXE_rgunicorn")])
        .args(["-k", "event", "-c", "site.conf.py", "changing:app"])
        .start();
    let ready = ear.hear("READY=1");
    assert!(ready.contains("STATUS=Generation 1 serves, 1 workers"), "{ready}");
    assert_eq!(server.port(), port, "bind gives way to what systemd listens at");
    assert_eq!(server.connect().get("/").text(), "good");
    (0..3).for_each(|_| drop(ear.hear("WATCHDOG=1")));
    // A reload.
    server.signal(Signal::SIGHUP);
    assert!(ear.hear("RELOADING=1").contains("MONOTONIC_USEC="));
    ear.hear("STATUS=Generation 2 serves, 1 workers");
    // One that fails.
    file("changing.py", "this is no Python\n");
    server.signal(Signal::SIGHUP);
    ear.hear("RELOADING=1");
    let failed = ear.hear("READY=1");
    assert!(failed.contains("STATUS=Reload failed, generation 2 goes on: "), "{failed}");
    assert_eq!(server.connect().get("/").text(), "good");
    // Another arbiter has the sockets from systemd as well, and becomes the service.
    file("changing.py", &application("b'better'"));
    server.signal(Signal::SIGUSR2);
    ear.hear("STATUS=Generation 1 serves, 1 workers");
    let heir = children_of(server.pid()).into_iter().find(|pid| !children_of(*pid).is_empty()).unwrap();
    let heir = Heir(heir);
    server.signal(Signal::SIGQUIT);
    ear.hear(&format!("MAINPID={}", heir.0));
    assert_eq!(server.wait().code(), Some(0));
    ear.hear("READY=1");
    (0..3).for_each(|_| drop(ear.hear("WATCHDOG=1")));
    assert_eq!(server.connect().get("/").text(), "better");
    signal(heir.0, Signal::SIGTERM);
    ear.hear("STOPPING=1");
    server.wait_until("the end", || !is_alive(heir.0));
}

#[test]
fn a_service_manager_without_a_file_is_told() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("rgunicorn-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let ear = UnixDatagram::bind_addr(&address).unwrap();
    ear.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let ear = Ear(ear);
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .env("NOTIFY_SOCKET", format!("@{name}"))
        .args(["-k", "event", "promises:raw"])
        .start();
    assert!(ear.hear("READY=1").contains("STATUS=Generation 1 serves, 1 workers"));
    assert!(!server.log().contains("NOTIFY_SOCKET"), "{}", server.log());
    server.signal(Signal::SIGTERM);
    ear.hear("STOPPING=1");
}
