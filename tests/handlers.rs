//! Handlers of signals that applications and their libraries set: they are called, and the server's own stay.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rgunicorn_harness::{Builder, Server, on_classes, on_every_class};

struct Noted {
    server: Server,
    notes: PathBuf,
    _directory: tempfile::TempDir,
}

fn build(class: &str) -> Builder {
    // So long that nobody is waited for in vain.
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args([
        "-k",
        class,
        "--graceful-timeout",
        "300",
        "--log-level",
        "debug",
    ])
}

/// A server whose application sets its handlers in this way.
fn start(builder: Builder, application: &str, kind: &str) -> Noted {
    let directory = tempfile::tempdir().unwrap();
    let notes = directory.path().join("notes");
    let server = builder.args([application]).env("HANDLERS", kind).env("NOTES", &notes).start();
    Noted { server, notes, _directory: directory }
}

impl Noted {
    fn notes(&self) -> String {
        std::fs::read_to_string(&self.notes).unwrap_or_default()
    }

    /// Sends `signal` while a request is answered, whose answer must come.
    fn signal_in_a_request(&self, signal: Signal) {
        let mut client = self.server.connect();
        client.send("GET /sleep?s=1 HTTP/1.1\r\nHost: t\r\n\r\n");
        std::thread::sleep(Duration::from_millis(300));
        self.server.signal(signal);
        assert_eq!(client.response().text(), "slept\n");
    }
}

fn a_worker_stops_and_reloads_and_loses_nothing(class: &str, kind: &str) {
    let mut noted = start(build(class), "handlers:raw", kind);
    noted.server.wait_for_log("is ready");
    let old = noted.server.wait_for_workers(1);
    noted.signal_in_a_request(Signal::SIGHUP);
    noted.server.wait_until("another worker alone", || {
        let workers = noted.server.workers();
        workers.len() == 1 && workers != old
    });
    noted.server.wait_until("the handler's note", || noted.notes().contains("handled"));
    noted.server.wait_for_log_times("is ready", 2);
    noted.signal_in_a_request(Signal::SIGTERM);
    assert_eq!(noted.server.wait().code(), Some(0), "{kind}");
    let log = noted.server.log();
    assert!(!log.contains("SIGKILL") && !log.contains("Traceback"), "{kind}: {log}");
}

on_every_class! {
    fn whatever_is_set_a_worker_stops_and_reloads_and_loses_nothing(class: &str) {
        let kinds = ["chained", "replaced", "sent_again", "passed_on", "restored", "default", "ignored", "native", "blocked"];
        // They mostly wait: some at a time.
        for some in kinds.chunks(3) {
            std::thread::scope(|scope| {
                for kind in some {
                    scope.spawn(|| a_worker_stops_and_reloads_and_loses_nothing(class, kind));
                }
            });
        }
    }

    fn the_handlers_that_are_there_are_gunicorns(class: &str) {
        let noted = start(build(class), "handlers:raw", "shown");
        noted.server.wait_until("the notes", || noted.notes().lines().count() == 2);
        assert_eq!(noted.notes(), "[True, True, True, True, True, True]\n[True, True, True]\n");
        assert_eq!(noted.server.connect().get("/").status, 200);
    }

    fn a_handler_that_is_called_does_what_its_signal_does(class: &str) {
        let noted = start(build(class), "handlers:raw", "called");
        noted.server.wait_for_log_times("Worker exiting", 1);
        assert!(!noted.server.log().contains("Traceback"), "{}", noted.server.log());
    }

    fn a_process_of_the_applications_has_the_handler_that_the_application_has_set(class: &str) {
        let noted = start(build(class), "handlers:raw", "inherited");
        noted.server.wait_until("the notes", || noted.notes().lines().count() == 3);
        assert_eq!(noted.notes(), "-15\n7\n-15\n");
        assert_eq!(noted.server.connect().get("/").status, 200);
    }

    fn log_files_are_opened_anew_beside_a_handler_of_ones_own(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let (log, old) = (directory.path().join("access"), directory.path().join("access.1"));
        let noted = start(build(class).args(["--access-logfile".as_ref(), log.as_os_str()]), "handlers:raw", "replaced");
        assert_eq!(noted.server.connect().get("/first").status, 200);
        noted.server.wait_until("the first line", || std::fs::read_to_string(&log).unwrap_or_default().contains("/first"));
        std::fs::rename(&log, &old).unwrap();
        noted.server.signal(Signal::SIGUSR1);
        noted.server.wait_until("the handler's note", || noted.notes().contains("handled"));
        noted.server.wait_until("a line in the new file", || {
            noted.server.connect().get("/next");
            std::fs::read_to_string(&log).unwrap_or_default().contains("/next")
        });
    }
}

on_classes! {
    [sync asgi gevent]
    fn with_preload_the_arbiter_keeps_its_own(class: &str) {
        for kind in ["replaced", "default", "ignored", "native", "blocked"] {
            let mut noted = start(build(class).args(["--preload"]), "handlers:raw", kind);
            let old = noted.server.wait_for_workers(1);
            noted.server.wait_for_log("is ready");
            kill(Pid::from_raw(old[0]), Signal::SIGKILL).unwrap();
            noted.server.wait_until("another worker", || {
                let workers = noted.server.workers();
                workers.len() == 1 && workers != old
            });
            noted.server.wait_for_log_times("is ready", 2);
            let old = noted.server.workers();
            noted.server.signal(Signal::SIGHUP);
            noted.server.wait_until("the next generation", || {
                let workers = noted.server.workers();
                workers.len() == 1 && workers != old
            });
            noted.server.signal(Signal::SIGTERM);
            assert_eq!(noted.server.wait().code(), Some(0), "{kind}");
        }
    }

    fn a_hook_may_have_a_handler_in_the_arbiter(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        let configuration = directory.path().join("conf.py");
        let text = "import signal\n\
                    def when_ready(server):\n    before = signal.getsignal(signal.SIGHUP)\n    \
                        def handle(number, frame):\n        server.log.info('the hook has heard')\n        before(number, frame)\n    \
                        signal.signal(signal.SIGHUP, handle)\n";
        std::fs::write(&configuration, text).unwrap();
        let mut noted = start(build(class).args(["-c".as_ref(), configuration.as_os_str()]), "promises:raw", "");
        noted.server.wait_for_log("is ready");
        noted.server.signal(Signal::SIGHUP);
        noted.server.wait_for_log("the hook has heard");
        noted.server.wait_for_log_times("is ready", 2);
        noted.server.signal(Signal::SIGTERM);
        assert_eq!(noted.server.wait().code(), Some(0));
    }
}

#[test]
fn a_worker_class_in_python_is_told_by_handlers_that_chain() {
    for kind in ["chained", "sent_again", "passed_on", "restored"] {
        let builder = build("custom_worker.Plain");
        let mut noted = start(builder, "handlers:raw", kind);
        noted.server.wait_for_log("is ready");
        noted.server.signal(Signal::SIGTERM);
        assert_eq!(noted.server.wait().code(), Some(0), "{kind}");
        assert!(noted.notes().contains("handled") && !noted.server.log().contains("SIGKILL"), "{kind}");
    }
}
