//! The processes: their names, their users, their files.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rgunicorn_harness::{Server, assert_has, on_every_class};

fn build(class: &str) -> rgunicorn_harness::Builder {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", class, "promises:raw"])
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed().as_secs() < 20, "waited in vain for {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn ask_unix(mut stream: UnixStream) -> String {
    stream.write_all(b"GET /environ HTTP/1.1\r\nHost: named:81\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_pid_file_is_heeded_where_a_server_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    // What a crash has left; the number is another program's by now.
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    std::fs::write(&path, format!("{}\n", other.id())).unwrap();
    let server = build("event").args(["--pid"]).args([&path]).start();
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), server.pid().to_string());
    let (status, _, error) = build("event").args(["--pid"]).args([&path]).run();
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains(&format!("Already running on PID {} ", server.pid())), "{error}");
    // Killed, it leaves its file, and its workers.
    drop(server);
    let server = build("event").args(["--pid"]).args([&path]).start();
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), server.pid().to_string());
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (status, _, error) = build("event").args(["--pid"]).args([&fifo]).run();
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("there is a FIFO of that name"), "{error}");
}

/// Starts what is to run once while it is imported: a thread, and an executor whose threads are started by that.
const SCHEDULER: &str = "\
import os, threading, time
from concurrent.futures import ThreadPoolExecutor

early = ThreadPoolExecutor(2)
assert list(early.map(lambda n: n + 1, range(20))) == list(range(1, 21))


def schedule():
    executor = ThreadPoolExecutor(2)
    while True:
        time.sleep(0.05)
        number = executor.submit(os.getpid).result()
        with open('ran', 'a') as notes:
            notes.write(f'{number}\\n')


threading.Thread(target=schedule, daemon=True).start()


def in_thread():
    ran = []
    thread = threading.Thread(target=lambda: ran.append(b'in a thread'))
    thread.start()
    thread.join()
    return ran[0]


";

rgunicorn_harness::on_classes! {
    [sync event threads coro asgi gevent tornado]
    fn what_a_preloaded_application_starts_runs_in_the_arbiter_alone(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let module = SCHEDULER.to_string() + &rgunicorn_harness::application("in_thread()");
        std::fs::write(directory.path().join("scheduled.py"), module).unwrap();
        let mut server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
            .directory(directory.path())
            .args(["-k", class, "-w", "2", "--preload", "scheduled:app"])
            .start();
        let ran = || std::fs::read_to_string(directory.path().join("ran")).unwrap_or_default();
        server.wait_for_log_times("is ready", 2);
        assert_eq!(server.connect().get("/").text(), "in a thread");
        let before = ran().lines().count();
        server.wait_until("the job to run on", || ran().lines().count() > before + 20);
        let arbiter = server.pid().to_string();
        assert!(ran().lines().all(|line| line == arbiter), "{}", ran());
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0));
    }
}

on_every_class! {
    fn a_unix_socket_is_made_with_the_umask_and_removed(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let bind = format!("unix:{}", path.display());
        let mut server = build(class).no_bind().args(["--umask", "0o117", "-b", &bind]).start();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let answer = ask_unix(UnixStream::connect(&path).unwrap());
        assert_has(&answer, ["HTTP/1.1 200 OK", "\"SERVER_NAME\": \"named\"", "\"SERVER_PORT\": \"81\"", "\"REMOTE_ADDR\": \"\""]);
        server.signal(Signal::SIGTERM);
        server.wait();
        assert!(!path.exists());
    }

    fn several_addresses_are_served(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let server = build(class).args(["-b", &format!("unix:{}", path.display()), "-b", "[::1]:0"]).start();
        assert_eq!(server.connect().get("/").status, 200);
        assert!(ask_unix(UnixStream::connect(&path).unwrap()).contains("200 OK"));
    }

    fn reuse_port_works(class: &str) {
        // Each worker listens for itself, from its boot on.
        let server = build(class).args(["--reuse-port", "-w", "2", "--log-level", "debug"]).start();
        server.wait_for_log_times("is ready", 2);
        for _ in 0..10 {
            assert_eq!(server.connect().get("/").status, 200);
        }
    }

    fn the_pid_file_and_the_title_name_the_arbiter(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let mut server = build(class).args(["--name", "shop", "--pid"]).args([&path]).start();
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), server.pid().to_string());
        let worker = server.wait_for_workers(1)[0];
        let title = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        server.wait_until("the titles", || title(server.pid()).contains("arbiter [shop]") && title(worker).contains("worker [shop]"));
        server.signal(Signal::SIGTERM);
        server.wait();
        assert!(!path.exists());
    }

    fn workers_run_as_the_user_they_are_told(class: &str) {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("only root can change the user: not tested");
            return;
        }
        // Loaded before the change of user, who may not be allowed to read what Python is made of.
        let server = build(class).args(["--user", "nobody", "--group", "nogroup", "--preload"]).start();
        let worker = server.wait_for_workers(1)[0];
        assert_eq!(server.connect().get("/").status, 200);
        let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
        let owner = std::fs::metadata(format!("/proc/{worker}")).unwrap();
        assert_eq!(owner.uid(), nobody.uid.as_raw());
        assert_eq!(std::fs::metadata(format!("/proc/{}", server.pid())).unwrap().uid(), 0);
    }

    fn a_daemon_goes_on_by_itself(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (status, _, error) = build(class).args(["--daemon", "--pid"]).args([path("pid")])
            .args(["--error-logfile"]).args([path("log")]).run();
        assert_eq!(status, Some(0), "{error}");
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap_or_default();
        wait_until("the daemon to listen", || read("log").contains("Booting worker"));
        let pid: i32 = read("pid").trim().parse().unwrap();
        let port: u16 = read("log").split("127.0.0.1:").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert_eq!(rgunicorn_harness::Client::connect(port).get("/").status, 200);
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        wait_until("the daemon to leave", || kill(Pid::from_raw(pid), None).is_err());
        assert!(!path("pid").exists());
    }

    fn the_arbiter_is_small_and_holds_no_python(class: &str) {
        let server = build(class).args(["-w", "2"]).start();
        server.wait_for_workers(2);
        server.connect().get("/");
        let smaps = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", server.pid())).unwrap();
        let private: u64 = smaps.lines().filter(|line| line.starts_with("Private_"))
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum();
        assert!(private < 4 * 1024, "{private} KiB of private memory");
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().count();
        assert_eq!(tasks, 1, "the arbiter has one thread");
    }

    fn as_the_first_process_of_a_container_it_reaps_orphans_and_stops(class: &str) {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("only root can make a process name space: not tested");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let inner = build(class).args(["--error-logfile"]).args([&log]).command();
        let mut outer = std::process::Command::new("unshare");
        outer.args(["--pid", "--fork", "--kill-child"]).arg(inner.get_program()).args(inner.get_args());
        outer.current_dir(inner.get_current_dir().unwrap());
        outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut outer = outer.spawn().unwrap();
        let read = || std::fs::read_to_string(&log).unwrap_or_default();
        wait_until("the server in its name space", || read().contains("Booting worker"));
        assert!(read().contains("(1)"), "{}", read());
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", outer.id())).unwrap();
        let first: i32 = children.trim().parse().unwrap();
        let port: u16 = read().split("127.0.0.1:").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let children = || {
            let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap_or_default();
            children.split_whitespace().count()
        };
        assert_eq!(rgunicorn_harness::Client::connect(port).get("/orphan").text(), "left behind\n");
        wait_until("the orphan to be adopted", || children() == 2);
        wait_until("the orphan to be reaped", || children() == 1);
        kill(Pid::from_raw(first), Signal::SIGTERM).unwrap();
        wait_until("the first process to end", || outer.try_wait().unwrap().is_some());
        assert!(read().contains("Shutting down"), "{}", read());
    }
}
