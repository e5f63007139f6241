//! What may go wrong around a server ends with the server serving.
//!
//! A broken configuration or application at a reload is in `signals.rs`.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rgunicorn_harness::{Builder, Client, Load, Server, compile, on_every_class};

fn build(class: &str) -> Builder {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", class, "promises:raw"])
}

fn is_gone(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

/// A worker that nobody minds.
struct Orphan(i32);

impl Drop for Orphan {
    fn drop(&mut self) {
        if !is_gone(self.0) {
            let _ = kill(Pid::from_raw(self.0), Signal::SIGKILL);
        }
    }
}

on_every_class! {
    fn a_killed_worker_loses_what_it_was_running_and_nothing_else(class: &str) {
        const CLIENTS: usize = 8;
        let server = build(class).args(["-w", "2"]).start();
        server.wait_for_log_times("is ready", 2);
        let load = Load::start(server.port(), CLIENTS);
        for time in 1..=3 {
            let seen = load.answered();
            server.wait_until("answers", || load.answered() > seen + 50);
            let victim = server.workers()[0];
            kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
            server.wait_for_log(&format!("[ERROR] Worker (pid:{victim}) was sent SIGKILL! "));
            server.wait_for_log_times("is ready", 2 + time);
        }
        let seen = load.answered();
        server.wait_until("answers", || load.answered() > seen + 50);
        let counts = load.stop();
        // No more than one each of the clients that it had.
        assert!(counts.refused == 0 && counts.wrong == 0 && counts.lost() <= 3 * CLIENTS, "{counts}");
    }

    fn workers_answer_what_came_before_their_arbiter_died(class: &str) {
        let server = build(class).args(["-w", "1"]).start();
        server.wait_for_log("is ready");
        let workers = server.wait_for_workers(1);
        let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send("GET /sleep?s=0.2 HTTP/1.1\r\nHost: t\r\n\r\n");
        }
        server.signal(Signal::SIGKILL);
        for client in &mut clients {
            assert_eq!(client.response().text(), "slept\n");
        }
        server.wait_until("the worker to leave", || is_gone(workers[0]));
        assert!(server.log().contains("The arbiter is gone, stopping"), "{}", server.log());
    }

    fn a_worker_that_hangs_does_not_outlive_its_arbiter_for_long(class: &str) {
        // In Python; and in C, with Python's lock.
        for how in ["spin", "hang"] {
            let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
                .args(["-k", class, "-w", "1", "--graceful-timeout", "1", "--timeout", "0", "stays:app"])
                .start();
            let worker = Orphan(server.wait_for_workers(1)[0]);
            let mut client = server.connect();
            client.send(format!("GET /{how} HTTP/1.1\r\nHost: t\r\n\r\n"));
            server.wait_for_log("it stays");
            server.signal(Signal::SIGKILL);
            server.wait_until("the end of the worker", || is_gone(worker.0));
        }
    }

    fn logs_on_a_full_disk_stop_nobody(class: &str) {
        // Writing there fails for lack of space.
        let mut server = build(class).no_bind()
            .args(["-w", "2", "-b", "127.0.0.1:0", "--access-logfile", "/dev/full"])
            .start();
        let mut client = server.connect();
        for _ in 0..2000 {
            assert_eq!(client.get("/").status, 200);
            if client.stream().peer_addr().is_err() || class == "sync" {
                client = server.connect();
            }
        }
        server.signal(Signal::SIGHUP);
        server.wait_for_log("finishes what it holds");
        assert_eq!(server.connect().get("/").status, 200);
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0));
    }

    fn an_error_log_on_a_full_disk_stops_nobody(class: &str) {
        // From the first line on: nobody can say where it listens.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let bind = format!("127.0.0.1:{port}");
        let mut arbiter = KilledInTheEnd(build(class).no_bind()
            .args(["-w", "2", "-b", &bind, "--error-logfile", "/dev/full"])
            .command().spawn().unwrap());
        let ask = |path: &str| {
            let mut client = Client::try_connect(port).ok()?;
            client.try_send(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n")).ok()?;
            client.read_response(false).ok()
        };
        let begin = Instant::now();
        let wait_for = |what: &str, condition: &dyn Fn() -> bool| {
            while !condition() {
                assert!(begin.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        wait_for("an answer", &|| ask("/").is_some_and(|response| response.status == 200));
        // A traceback, the application's own words, and words about the request should be in the log.
        assert_eq!(ask("/fail-early").unwrap().status, 500);
        assert_eq!(ask("/complain").unwrap().status, 200);
        let mut client = Client::connect(port);
        assert_eq!(client.send("no request at all\r\n\r\n").response().status, 400);
        let pid = Pid::from_raw(i32::try_from(arbiter.0.id()).unwrap());
        let before = ask("/pid").unwrap().text();
        kill(pid, Signal::SIGHUP).unwrap();
        wait_for("a new generation", &|| ask("/pid").is_some_and(|response| response.text() != before));
        kill(pid, Signal::SIGTERM).unwrap();
        assert_eq!(arbiter.0.wait().unwrap().code(), Some(0));
    }

    fn without_descriptors_accepting_rests(class: &str) {
        let server = build(class).args(["-w", "1"]).start();
        server.wait_for_log("is ready");
        assert_eq!(server.connect().get("/").status, 200);
        let worker = server.wait_for_workers(1)[0];
        let open = std::fs::read_dir(format!("/proc/{worker}/fd")).unwrap().count();
        limit_descriptors(worker, open + 4);
        let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
        // Connections that say nothing take the descriptors that there are.
        server.wait_for_log("Too many open files");
        let before = processor_time(worker);
        std::thread::sleep(Duration::from_millis(1500));
        let spent = processor_time(worker) - before;
        assert!(spent < 50, "{spent} ticks of a hundredth of a second in 1.5 s: it spins");
        assert!(server.log().matches("Too many open files").count() <= 5, "{}", server.log());
        limit_descriptors(worker, open + 200);
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.response().status, 200);
        }
        assert_eq!(server.workers(), [worker]);
    }

    fn clocks_may_jump(class: &str) {
        let clock = Clock::new();
        let server = clock.preloaded(build(class)).args(["-w", "2", "--timeout", "5", "--max-requests", "0"]).start();
        server.wait_for_log_times("is ready", 2);
        let workers = server.wait_for_workers(2);
        let load = Load::start(server.port(), 4);
        for days in [1, -2, 400] {
            clock.jump(days * 86_400);
            let seen = load.answered();
            server.wait_until("answers", || load.answered() > seen + 50);
            std::thread::sleep(Duration::from_millis(300));
        }
        let date = server.connect().get("/").header("Date").unwrap().to_owned();
        let counts = load.stop();
        assert_eq!(counts.lost(), 0, "{counts}");
        assert_eq!(server.workers(), workers, "nobody was taken for stuck");
        let unmoved = Command::new("date").args(["-u", "+%Y"]).output().unwrap().stdout;
        assert!(!date.contains(String::from_utf8_lossy(&unmoved).trim()), "the clock has jumped: {date}");
        server.signal(Signal::SIGHUP);
        server.wait_for_log("finishes what it holds");
    }
}

/// A server that says nothing of itself. Without their arbiter workers leave.
struct KilledInTheEnd(Child);

impl Drop for KilledInTheEnd {
    fn drop(&mut self) {
        // It may have ended: then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_fork_that_fails_is_tried_again() {
    let scratch = tempfile::tempdir().unwrap();
    let (library, flag) = (scratch.path().join("no_fork.so"), scratch.path().join("no fork"));
    compile("no_fork.c", &library);
    let server = build("event").env("LD_PRELOAD", &library).env("NO_FORK", &flag).args(["-w", "2"]).start();
    server.wait_for_log_times("is ready", 2);
    let victim = server.workers()[0];
    std::fs::write(&flag, "").unwrap();
    kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
    server.wait_for_log_times(
        "[ERROR] Can't start a worker: Resource temporarily unavailable (os error 11); trying again in",
        2,
    );
    assert_eq!(server.connect().get("/").status, 200, "the other one serves");
    // No more can a reload begin, which waits for better times as well.
    server.signal(Signal::SIGHUP);
    std::thread::sleep(Duration::from_millis(500));
    assert!(server.log().matches("Can't start a worker").count() < 12, "{}", server.log());
    assert_eq!(server.connect().get("/").status, 200);
    std::fs::remove_file(&flag).unwrap();
    server.wait_for_log("Generation 2 serves, generation 1 finishes what it holds");
    server.wait_for_workers(2);
    assert_eq!(server.connect().get("/").status, 200);
}

#[test]
fn an_arbiter_without_descriptors_goes_on() {
    let server = build("event").args(["-w", "2"]).start();
    server.wait_for_log_times("is ready", 2);
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    // A worker closes some of those that it is born with, and could do with as many.
    limit_descriptors(server.pid(), open / 2);
    server.signal(Signal::SIGHUP);
    server.wait_for_log("reload failed, generation 1 goes on");
    let victim = server.workers()[0];
    kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
    server.wait_for_log("Too many open files");
    assert_eq!(server.connect().get("/").status, 200, "the other one serves");
    limit_descriptors(server.pid(), open + 200);
    server.wait_for_log_times("is ready", 3);
    server.signal(Signal::SIGHUP);
    server.wait_for_log("finishes what it holds");
    assert_eq!(server.connect().get("/").status, 200);
}

#[test]
fn a_worker_dies_of_a_fault_that_it_is_sent() {
    for (class, fault) in [("event", Signal::SIGSEGV), ("coro", Signal::SIGSEGV), ("event", Signal::SIGBUS)] {
        let server = build(class).args(["-w", "1"]).start();
        server.wait_for_log("is ready");
        let victim = server.wait_for_workers(1)[0];
        kill(Pid::from_raw(victim), fault).unwrap();
        server.wait_for_log(&format!("[WARNING] Worker (pid:{victim}) was sent {fault}!"));
        server.wait_for_log_times("is ready", 2);
        assert_eq!(server.connect().get("/").status, 200);
    }
}

#[test]
fn handlers_of_faults_that_others_put_in_place_are_called() {
    let scratch = tempfile::tempdir().unwrap();
    let library = scratch.path().join("tell_fault.so");
    compile("tell_fault.c", &library);
    for (name, value, said) in [
        ("PYTHONFAULTHANDLER", "1".into(), "Fatal Python error: Segmentation fault"),
        ("LD_PRELOAD", library.into_os_string(), "tell_fault was told"),
    ] {
        let server = build("event").env(name, value).args(["-w", "1"]).start();
        server.wait_for_log("is ready");
        let victim = server.wait_for_workers(1)[0];
        kill(Pid::from_raw(victim), Signal::SIGSEGV).unwrap();
        server.wait_for_log(&format!("[WARNING] Worker (pid:{victim}) was sent SIGSEGV!"));
        assert!(server.log().contains(said), "{}", server.log());
    }
}

/// The kernel wakes up one worker for a connection. If that one is killed before it runs, the others must find it.
#[test]
fn a_connection_that_a_killed_worker_was_woken_up_for_is_answered() {
    let server = build("event").args(["-w", "12"]).start();
    server.wait_for_log_times("is ready", 12);
    let workers = server.workers();
    // There is no new worker that would look.
    server.signal(Signal::SIGSTOP);
    for victim in &workers[1..] {
        kill(Pid::from_raw(*victim), Signal::SIGKILL).unwrap();
        assert_eq!(server.connect().get("/").status, 200);
    }
    server.signal(Signal::SIGCONT);
    server.wait_for_log_times("is ready", 23);
}

#[test]
fn an_exception_is_shown_where_no_module_can_be_opened() {
    let directory = tempfile::tempdir().unwrap();
    let app = "def app(environ, start_response):\n\
               \x20   if environ['PATH_INFO'] == '/fail':\n\
               \x20       raise ValueError('in a bare process')\n\
               \x20   start_response('204 No Content', [])\n\
               \x20   return []\n";
    std::fs::write(directory.path().join("bare.py"), app).unwrap();
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .directory(directory.path())
        .args(["-k", "event", "bare:app"])
        .start();
    server.wait_for_log("is ready");
    let mut client = server.connect();
    assert_eq!(client.get("/").status, 204);
    limit_descriptors(server.workers()[0], 3);
    assert_eq!(client.get("/fail").status, 500);
    server.wait_for_log("bare.py\", line 3, in app");
    server.wait_for_log("ValueError: in a bare process");
}

/// Lets a process have so many descriptors open; its hard limit stays.
fn limit_descriptors(pid: i32, most: usize) {
    let limit = format!("--nofile={most}:");
    let status = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status().unwrap();
    assert!(status.success());
}

/// What a process has used of the processors, in hundredths of a second.
fn processor_time(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The time of day as one server sees it, which can be set.
struct Clock {
    directory: tempfile::TempDir,
}

impl Clock {
    fn new() -> Clock {
        let clock = Clock { directory: tempfile::tempdir().unwrap() };
        clock.jump(0);
        compile("clock.c", &clock.library());
        clock
    }

    fn library(&self) -> PathBuf {
        self.directory.path().join("clock.so")
    }

    fn preloaded(&self, builder: Builder) -> Builder {
        builder.env("LD_PRELOAD", self.library()).env("CLOCK_OFFSET", self.directory.path().join("offset"))
    }

    /// Sets it so many seconds off.
    fn jump(&self, seconds: i64) {
        // In place: the server has the file mapped.
        use std::os::unix::fs::FileExt;
        let path = self.directory.path().join("offset");
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
        file.write_at(&seconds.to_ne_bytes(), 0).unwrap();
    }
}
