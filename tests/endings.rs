//! What CPython does for an application when a process ends in good order is done, in workers and in the arbiter.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use rgunicorn_harness::{
    Builder, Server, application, assert_has, on_classes, on_every_class, on_waiting_classes, python,
};

/// Keeps everything open, and answers each request with a row in its files.
const KEEPER: &str = "\
import csv, gzip, os, sqlite3, tempfile
import daemons

rows = csv.writer(opened := open('rows.csv', 'a'))
packed = gzip.open(f'{os.getpid()}.gz', 'at')
temporary = tempfile.NamedTemporaryFile(dir='temporary')
database = sqlite3.connect(f'{os.getpid()}.db', check_same_thread=False)
database.execute('pragma journal_mode=wal')
database.execute('create table rows(x)')


def note():
    rows.writerow(['row'])
    packed.write('row\\n')
    with database:
        database.execute('insert into rows values(1)')
    print('printed')
    return b'noted'


";

/// Threads that don't keep a process from its end. In a module of its own: what they run in is not cleared away.
const DAEMONS: &str = "\
import threading, time


def work():
    while True:
        sum(range(1000))
        time.sleep(0.001)


for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
";

fn build(class: &str, directory: &Path, module: &str) -> Builder {
    std::fs::write(directory.join("daemons.py"), DAEMONS).unwrap();
    std::fs::write(directory.join("ending.py"), module).unwrap();
    std::fs::create_dir_all(directory.join("temporary")).unwrap();
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).directory(directory).args(["-k", class, "ending:app"])
}

fn keeper() -> String {
    KEEPER.to_string() + &application("note()")
}

/// That nothing is lost of so many answers, and nothing left behind.
#[track_caller]
fn assert_kept(directory: &Path, answers: usize, log: &str) {
    let rows = std::fs::read_to_string(directory.join("rows.csv")).unwrap();
    assert_eq!(rows.matches("row").count(), answers, "{log}");
    let look = "import glob, gzip, sqlite3\n\
                print(sum(gzip.open(f, 'rt').read().count('row') for f in glob.glob('*.gz')))\n\
                print(glob.glob('*-wal'), glob.glob('temporary/*'))\n\
                print(sum(sqlite3.connect(f).execute('select count(*) from rows').fetchone()[0] for f in glob.glob('*.db')))\n";
    let seen =
        std::process::Command::new(python()).current_dir(directory).args(["-c", look]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&seen.stdout),
        format!("{answers}\n[] []\n{answers}\n"),
        "{seen:?}\n{log}"
    );
    assert_eq!(log.matches("printed").count(), answers, "{log}");
    for wrong in ["was sent", "still run", "Traceback", "panicked", "exited with"] {
        assert!(!log.contains(wrong), "{wrong}: {log}");
    }
}

on_every_class! {
    fn what_is_open_is_written_and_closed(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let mut server = build(class, directory.path(), &keeper()).args(["-w", "2"]).start();
        for _ in 0..5 {
            assert_eq!(server.connect().get("/").text(), "noted");
        }
        // By a reload, and by a stop.
        server.wait_for_log_times("is ready", 2);
        server.signal(Signal::SIGHUP);
        server.wait_for_log_times("is ready", 4);
        server.wait_for_log_times("Worker exiting", 2);
        for _ in 0..5 {
            assert_eq!(server.connect().get("/").text(), "noted");
        }
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0));
        assert_kept(directory.path(), 10, &server.log());
    }

    fn so_it_is_where_workers_are_recycled(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let mut server = build(class, directory.path(), &keeper()).args(["-w", "1", "--max-requests", "3"]).start();
        for _ in 0..7 {
            assert_eq!(server.connect().get("/").text(), "noted");
        }
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0));
        assert_kept(directory.path(), 7, &server.log());
    }

    fn an_end_that_hangs_is_cut_off_and_told(class: &str) {
        // In a call that no library makes something else of.
        let hangs = "import ctypes\n\n\nclass Hangs:\n    def __del__(self):\n        self.hang_here()\n\n    \
                     def hang_here(self, wait=ctypes.CDLL(None).pause):\n        while True:\n            wait()\n\n\n\
                     kept = Hangs()\n\n\n";
        let directory = tempfile::tempdir().unwrap();
        let module = hangs.to_string() + &application("b'answered'");
        let mut server = build(class, directory.path(), &module).args(["--graceful-timeout", "5"]).start();
        assert_eq!(server.connect().get("/").text(), "answered");
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0));
        let log = server.log();
        assert_has(&log, ["still run after", "in hang_here"]);
        assert!(!log.contains("SIGKILL"), "{log}");
    }

    fn what_hooks_have_open_is_written_in_all_processes(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let hooks = "notes = open('notes', 'a')\n\
                     def when_ready(server): notes.write('when_ready\\n')\n\
                     def pre_request(worker, request): notes.write('pre_request\\n')\n\
                     def worker_exit(server, worker): notes.write('worker_exit\\n')\n\
                     def on_exit(server): notes.write('on_exit\\n')\n";
        std::fs::write(directory.path().join("conf.py"), hooks).unwrap();
        let mut server = build(class, directory.path(), &application("b'answered'")).args(["-c", "conf.py"]).start();
        assert_eq!(server.connect().get("/").text(), "answered");
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0));
        let notes = std::fs::read_to_string(directory.path().join("notes")).unwrap();
        for note in ["when_ready", "pre_request", "worker_exit", "on_exit"] {
            assert!(notes.contains(note), "{note}: {notes}{}", server.log());
        }
    }
}

on_waiting_classes! {
    fn requests_that_are_cut_off_do_the_end_no_harm(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let module = "import time\n\n\ndef work(seconds=time.sleep):\n    while True:\n        sum(range(100))\n        seconds(0.001)\n\n\n"
            .to_string() + &application("work()");
        let mut server = build(class, directory.path(), &module).args(["--graceful-timeout", "1"]).start();
        let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        }
        std::thread::sleep(Duration::from_millis(500));
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0));
        let log = server.log();
        for wrong in ["SIGSEGV", "SIGABRT", "SIGBUS", "panicked", "fatal runtime error"] {
            assert!(!log.contains(wrong), "{wrong}: {log}");
        }
    }
}

on_classes! {
    [sync asgi gevent]
    fn what_a_preloaded_application_has_in_the_arbiter_ends_as_well(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let module = "import atexit, os\n\nowner = os.getpid()\nnotes = open('notes', 'a')\n\n\ndef leave():\n    \
                      if os.getpid() == owner:\n        notes.write('left')\n\n\natexit.register(leave)\n\n\n".to_string()
            + &application("b'answered'");
        let mut server = build(class, directory.path(), &module).args(["--preload"]).start();
        assert_eq!(server.connect().get("/").text(), "answered");
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0));
        assert_eq!(std::fs::read_to_string(directory.path().join("notes")).unwrap(), "left", "{}", server.log());
    }
}

#[test]
fn a_worker_class_in_python_ends_as_well() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(
        rgunicorn_harness::repository().join("tests/apps/custom_worker.py"),
        directory.path().join("custom_worker.py"),
    )
    .unwrap();
    let mut server = build("custom_worker.Plain", directory.path(), &keeper()).start();
    for _ in 0..3 {
        assert_eq!(server.connect().get("/").text(), "noted");
    }
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_kept(directory.path(), 3, &server.log());
}
