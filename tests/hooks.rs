//! Server hooks are called when gunicorn calls them, with what gunicorn gives them: gunicorn itself is run beside.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rgunicorn_core::config::{SETTINGS, Status};
use rgunicorn_harness::{Server, assert_has, on_wsgi_classes, python, repository};

/// What each process wrote down, in the order in which they first did; the arbiter is the first.
type Transcript = Vec<Vec<String>>;

/// A server with `hooks_conf.py`: ours, or gunicorn.
struct Hooked {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
}

fn ours(class: &str, variables: &[(&str, &str)]) -> Hooked {
    let directory = tempfile::tempdir().unwrap();
    let application = if class == "asgi" { "hooked:asgi" } else { "hooked:wsgi" };
    let port = free_port();
    let command = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .no_bind()
        .args(["-c", "hooks_conf.py", "--bind"])
        .args([format!("127.0.0.1:{port}"), application.to_string()])
        .command();
    start(command, class, port, directory, variables)
}

fn gunicorn(class: &str, variables: &[(&str, &str)]) -> Hooked {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = Command::new(python());
    command.env("PYTHONPATH", rgunicorn_harness::gunicorn());
    command.args(["-m", "gunicorn", "-c", "hooks_conf.py", "--no-control-socket", "--bind"]);
    command.args([format!("127.0.0.1:{port}"), "hooked:wsgi".into()]);
    command.current_dir(repository().join("tests/apps"));
    start(command, class, port, directory, variables)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(
    mut command: Command,
    class: &str,
    port: u16,
    directory: tempfile::TempDir,
    variables: &[(&str, &str)],
) -> Hooked {
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    command.env("RECORD", directory.path().join("record")).env("CLASS", class);
    command.envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let hooked = Hooked { child: command.spawn().unwrap(), port, directory };
    hooked.wait_for("post_worker_init", 1);
    hooked
}

impl Hooked {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// All of the response, once the server has closed; nothing where it did without one.
    fn get(&self, path: &str) -> String {
        let start = Instant::now();
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => break stream,
                Err(error) => assert!(start.elapsed() < Duration::from_secs(20), "{error}\n{}", self.log()),
            }
        };
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    fn record(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.directory.path().join("record")).unwrap_or_default();
        text.lines().map(str::to_string).collect()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn count(&self, hook: &str) -> usize {
        let start = format!("{{\"hook\": \"{hook}\"");
        self.record().iter().filter(|line| line.starts_with(&start)).count()
    }

    /// Waits until a hook was called so often.
    fn wait_for(&self, hook: &str, times: usize) {
        let start = Instant::now();
        while self.count(hook) < times {
            let patience = Duration::from_secs(30);
            assert!(start.elapsed() < patience, "no {hook}:\n{:#?}\n{}", self.record(), self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(mut self, signal: Signal) -> (Option<i32>, Transcript) {
        self.signal(signal);
        let status = self.child.wait().unwrap().code();
        (status, transcript(&self.record()))
    }
}

impl Drop for Hooked {
    fn drop(&mut self) {
        // What remains after a failure; after an end in peace there is nothing to kill.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::SIGQUIT);
            let _ = self.child.wait();
        }
    }
}

fn transcript(record: &[String]) -> Transcript {
    let process = |line: &str| {
        let number = line.split("\"process\": ").nth(1).and_then(|rest| rest.split([',', '}']).next());
        number.unwrap_or_default().to_string()
    };
    let mut processes: Vec<String> = Vec::new();
    for line in record {
        let process = process(line);
        if !processes.contains(&process) {
            processes.push(process);
        }
    }
    let lines = |number: &String| {
        let own = record.iter().filter(|line| process(line) == *number);
        own.map(|line| line.replace(&format!(", \"process\": {number}"), "")).collect()
    };
    processes.iter().map(lines).collect()
}

/// A life with everything that calls hooks, but for time-outs and the upgrade.
fn live(server: Hooked) -> Transcript {
    let first = server.get("/first?a=b");
    assert!(first.contains("added: by pre_request") || first.contains("200"), "{first}");
    for (path, status) in [("/pieces", " 200 "), ("/fails", " 500 "), ("/raises", " 500 ")] {
        let response = server.get(path);
        assert!(response.contains(status), "{path}: {response}\n{}", server.log());
    }
    server.signal(Signal::SIGTTIN);
    server.wait_for("post_worker_init", 2);
    server.signal(Signal::SIGTTOU);
    server.wait_for("child_exit", 1);
    server.signal(Signal::SIGHUP);
    server.wait_for("child_exit", 2);
    server.wait_for("post_worker_init", 3);
    let (status, transcript) = server.end(Signal::SIGINT);
    assert_eq!(status, Some(0));
    transcript
}

/// Without what a class may call itself.
fn without_class(transcript: Transcript, class: &str) -> Transcript {
    let lines = |lines: Vec<String>| {
        lines.into_iter().map(|line| line.replace(&format!("\"{class}\""), "\"CLASS\"")).collect()
    };
    transcript.into_iter().map(lines).collect()
}

/// What gunicorn wrote down, once for all classes.
fn reference() -> &'static Transcript {
    static REFERENCE: std::sync::OnceLock<Transcript> = std::sync::OnceLock::new();
    REFERENCE.get_or_init(|| without_class(live(gunicorn("sync", &[])), "sync"))
}

on_wsgi_classes! {
    fn hooks_are_called_as_gunicorn_calls_them(class: &str) {
        let shown = if class == "threads" { "gthread" } else { class };
        let got = without_class(live(ours(shown, &[])), shown);
        assert_eq!(got.len(), reference().len(), "as many processes: {got:#?}");
        for (mine, theirs) in got.iter().zip(reference()) {
            assert_eq!(mine, theirs);
        }
    }
}

#[test]
fn every_hook_has_a_test() {
    let hooks = SETTINGS.iter().filter(|setting| setting.is_hook() && setting.status == Status::Implemented);
    let hooks: BTreeSet<&str> = hooks.map(|setting| setting.name).collect();
    let called = reference().iter().flatten().filter_map(|line| line.split('"').nth(3));
    // These two have tests of their own, below.
    let called: BTreeSet<&str> = called.chain(["worker_abort", "pre_exec"]).collect();
    assert_eq!(hooks, called);
}

#[test]
fn a_hanging_worker_calls_worker_abort() {
    // The classes that one request can hang.
    for class in ["sync", "event", "gevent", "asgi"] {
        let server = ours(class, &[("TIMEOUT", "1")]);
        server.get("/hangs");
        server.wait_for("child_exit", 1);
        let lines = server.record();
        let hooks = ["worker_abort", "worker_exit", "child_exit"]
            .map(|hook| lines.iter().position(|line| line.starts_with(&format!("{{\"hook\": \"{hook}\""))));
        assert!(hooks[0].is_some() && hooks.is_sorted(), "{class}: {lines:#?}\n{}", server.log());
        let log = server.log();
        assert_has(&log, ["WORKER TIMEOUT", "hooked.py", "exited with code 1"]);
        let (status, _) = server.end(Signal::SIGTERM);
        assert_eq!(status, Some(0));
    }
}

#[test]
fn pre_exec_is_called_before_another_server_takes_over() {
    let server = ours("sync", &[]);
    server.signal(Signal::SIGUSR2);
    server.wait_for("pre_exec", 1);
    // The new server has hooks of its own.
    server.wait_for("on_starting", 2);
    server.wait_for("post_worker_init", 2);
    let record = server.record();
    let last = |hook: &str| {
        let start = format!("{{\"hook\": \"{hook}\"");
        record.iter().rfind(|line| line.starts_with(&start)).cloned().unwrap_or_default()
    };
    assert!(last("pre_exec").contains("\"mark\": \"marked by on_starting\""), "{record:#?}");
    let number = last("on_starting")
        .split("\"process\": ")
        .nth(1)
        .and_then(|rest| rest.split(',').next()?.parse().ok());
    kill(Pid::from_raw(number.unwrap()), Signal::SIGQUIT).unwrap();
    server.wait_for("on_exit", 1);
    let (status, _) = server.end(Signal::SIGTERM);
    assert_eq!(status, Some(0));
}

#[test]
fn an_asgi_application_has_the_hooks_as_well() {
    let got = live(ours("asgi", &[]));
    let worker = &got[1];
    let lines = |hook: &str| -> Vec<&String> {
        worker.iter().filter(|line| line.starts_with(&format!("{{\"hook\": \"{hook}\""))).collect()
    };
    assert_eq!((lines("pre_request").len(), lines("post_request").len()), (3, 4), "{worker:#?}");
    let first = lines("post_request")[0];
    assert!(first.contains("\"path\": \"/first\"") && first.contains("\"200 OK\""), "{first}");
    assert!(first.contains("\"HTTP_X_ADDED\": \"by pre_request\"") && first.contains(", 22]"), "{first}");
    assert_eq!(got[0].len(), reference()[0].len(), "the arbiter's part");
}

/// A directory with a configuration file.
fn configured(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gunicorn.conf.py"), text).unwrap();
    directory
}

fn server(directory: &Path) -> rgunicorn_harness::Builder {
    let apps: PathBuf = repository().join("tests/apps");
    Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .directory(directory)
        .args(["--pythonpath"])
        .args([apps])
        .args(["promises:app"])
}

#[test]
fn a_hook_that_can_not_be_had_is_an_error_that_says_why() {
    for (text, said) in [
        ("def on_starting():\n    pass\n", "on_starting: on_starting must take 1 arguments"),
        (
            "when_ready = 'nowhere.at_all'\n",
            "when_ready: 'nowhere.at_all' can't be imported: No module named 'nowhere'",
        ),
        ("post_fork = 'os.nothing'\n", "post_fork: there is no 'nothing' in the module 'os'"),
        ("def ssl_context(a, b):\n    pass\n", "the hook ssl_context isn't supported yet"),
    ] {
        let directory = configured(text);
        let (status, _, error) = server(directory.path()).run();
        assert_eq!(status, Some(1), "{error}");
        assert!(error.contains(said), "{said} is not in {error}");
    }
}

#[test]
fn a_hook_may_keep_the_server_from_starting() {
    for (body, status) in [
        ("raise ValueError('not today')", 1),
        ("import sys; sys.exit(7)", 7),
        ("server.halt('not today', 9)", 9),
    ] {
        for hook in ["on_starting", "when_ready", "pre_fork"] {
            let worker = if hook == "pre_fork" { ", worker" } else { "" };
            let directory = configured(&format!("def {hook}(server{worker}):\n    {body}\n"));
            let (got, _, error) = server(directory.path()).run();
            // As gunicorn's -1.
            let expected = if hook == "pre_fork" && status == 1 { 255 } else { status };
            assert_eq!(got, Some(expected), "{hook}: {error}");
            assert!(status == 7 || error.contains("not today"), "{hook}: {error}");
        }
    }
}

#[test]
fn hooks_may_be_named_in_toml() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("mine.py"),
        "def ready(server):\n    server.log.warning('ready: %s', server.num_workers)\n",
    )
    .unwrap();
    std::fs::write(directory.path().join("rgunicorn.toml"), "when_ready = \"mine.ready\"\n").unwrap();
    let server = server(directory.path()).start();
    server.wait_for_log("[WARNING] ready: 1");
}

#[test]
fn a_reload_whose_hook_fails_changes_nothing() {
    let first = "def on_reload(server):\n    server.log.info('first on_reload')\n";
    let directory = configured(first);
    let server = server(directory.path()).start();
    server.wait_for_log("Booting worker");
    let workers = server.wait_for_workers(1);
    let broken = "workers = 2\ndef on_reload(server):\n    raise ValueError('broken')\n";
    std::fs::write(directory.path().join("gunicorn.conf.py"), broken).unwrap();
    server.signal(Signal::SIGHUP);
    server.wait_for_log("reload failed, generation 1 goes on: Traceback");
    assert_eq!(server.workers(), workers);
    assert_eq!(server.connect().get("/").status, 200);
    std::fs::write(directory.path().join("gunicorn.conf.py"), first).unwrap();
    server.signal(Signal::SIGHUP);
    server.wait_for_log("first on_reload");
    server.wait_for_log("Generation 2 serves");
}

#[test]
fn a_failing_hook_of_a_running_server_does_it_no_harm() {
    let text = "def child_exit(server, worker):\n    raise ValueError('in child_exit')\n\
                def worker_exit(server, worker):\n    raise ValueError('in worker_exit')\n\
                def nworkers_changed(server, new, old):\n    raise ValueError('in nworkers_changed')\n\
                def on_exit(server):\n    raise ValueError('in on_exit')\n";
    let directory = configured(text);
    let mut server = server(directory.path()).args(["--max-requests", "1"]).start();
    assert_eq!(server.connect().get("/").status, 200);
    server.wait_for_log("in worker_exit");
    server.wait_for_log("in child_exit");
    server.wait_for_log("in nworkers_changed");
    assert_eq!(server.connect().get("/").status, 200);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.log().contains("in on_exit"), "{}", server.log());
}
