//! Loggers in Python: `logger_class`, `logconfig`, `logconfig_dict` and `logconfig_json`.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rgunicorn_harness::{Builder, Client, Server, assert_has, gunicorn, on_every_class, python, repository};
use serde_json::Value;

fn build() -> Builder {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["promises:raw"])
}

/// A directory with a configuration file, and a server that is started in it.
fn configured(text: &str) -> (tempfile::TempDir, Builder) {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "gunicorn.conf.py", text);
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .directory(directory.path())
        .args(["--pythonpath".into(), repository().join("tests/apps").into_os_string()])
        .args(["promises:raw"]);
    (directory, server)
}

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::write(directory.join(name), text).unwrap();
}

fn read(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).unwrap_or_default()
}

/// What the logger of `loggers_conf.py` wrote down.
fn told(log: &str, level: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["level"] == level).collect()
}

const BAD: &str = "GET /bad HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: nope\r\n\r\n";

/// An answered request, a failing one, one that no application sees.
fn ask(mut connect: impl FnMut() -> Client) {
    ask_two(&mut connect);
    assert!(connect().send(BAD).response().status >= 400);
}

fn ask_two(mut connect: impl FnMut() -> Client) {
    let head = "GET /lines?of=text HTTP/1.1\r\nHost: t\r\nX-Asked: yes\r\nConnection: close\r\n\r\n";
    assert_eq!(connect().send(head).response().status, 200);
    let failing = "GET /fail-early HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    assert_eq!(connect().send(failing).response().status, 500);
}

fn check_told(server: &mut Server) {
    ask(|| server.connect());
    server.wait_until("the access lines", || told(&server.log(), "access").len() == 3);
    let (worker, arbiter) = (server.wait_for_workers(1)[0], server.pid());
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
    let log = server.log();
    let mut access = told(&log, "access");
    access.sort_by_key(|line| line["code"].as_u64());
    let [answered, failed, refused] = access.as_slice() else { panic!("{log}") };
    assert_eq!(answered["status"], "200 OK", "{log}");
    assert_eq!(answered["sent"].as_u64().unwrap(), 4, "{log}");
    assert_eq!(answered["answered"], "text/plain", "{log}");
    assert_eq!(
        (&answered["method"], &answered["path"], &answered["query"], &answered["asked"]),
        (&"GET".into(), &"/lines".into(), &"of=text".into(), &"yes".into())
    );
    assert_eq!(answered["environ"], serde_json::json!(["GET", "/lines?of=text", "127.0.0.1", "yes"]));
    assert_eq!(answered["quick"], true);
    assert_eq!(answered["line"], "[now] GET /lines?of=text HTTP/1.1 200 yes an atom -");
    assert_eq!(
        (&failed["status"], &failed["path"]),
        (&"500 Internal Server Error".into(), &"/fail-early".into())
    );
    assert_eq!((&refused["code"], &refused["path"]), (&501.into(), &"/bad".into()));
    assert_eq!(refused["line"], "[now] GET /bad HTTP/1.1 501 - an atom -");

    let exceptions = told(&log, "exception");
    assert_eq!(exceptions.len(), 1, "{log}");
    assert_eq!(exceptions[0]["text"], "Error handling request GET /fail-early");
    assert!(exceptions[0]["raised"].as_str().unwrap().contains("Error("), "{log}");
    let frames = exceptions[0]["frames"].as_array().unwrap();
    assert!(frames.iter().any(|frame| frame == "fail_early"), "{log}");
    assert!(!frames.iter().any(|frame| frame == "take"), "no frame of the server's: {log}");
    assert!(
        told(&log, "warning").iter().any(|line| line["text"].to_string().contains("Invalid request")),
        "{log}"
    );

    let info = told(&log, "info");
    assert!(info.iter().all(|line| line["tag"] == "named"), "{log}");
    for (process, text) in [
        (arbiter, format!("Starting rgunicorn {}", env!("CARGO_PKG_VERSION"))),
        (worker, format!("Booting worker with pid: {worker}")),
        (worker, format!("Worker exiting (pid: {worker})")),
        (arbiter, "Shutting down: Master".to_owned()),
    ] {
        let found = info.iter().any(|line| line["process"] == process && line["text"] == text.as_str());
        assert!(found, "{process}: {text} is missing in {log}");
    }
    let strange = log.lines().find(|line| !line.starts_with('{') && line.contains(" [INFO] "));
    assert_eq!(strange, None, "all goes through the logger");
}

on_every_class! {
    fn a_logger_class_is_given_everything(class: &str) {
        let mut server = build().args(["-c", "loggers_conf.py"]).env("CLASS", class).start();
        check_told(&mut server);
    }
}

#[test]
fn one_that_is_based_on_an_installed_gunicorn() {
    for class in ["sync", "asgi"] {
        let server =
            build().args(["-c", "loggers_conf.py"]).env("CLASS", class).env("PYTHONPATH", gunicorn());
        check_told(&mut server.start());
    }
}

/// A process that ends with the test, however that ends.
struct Process(Child);

impl Process {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    /// Tells it to stop; its exit status.
    fn stop(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.0.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::SIGQUIT);
            let _ = self.0.wait();
        }
    }
}

/// gunicorn with this configuration file and the same requests; what it wrote.
fn gunicorns_log(file: &Path) -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let directory = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let mut command = Command::new(python());
    command
        .env("PYTHONPATH", gunicorn())
        .args(["-m", "gunicorn", "--no-control-socket", "-b"])
        .args([format!("127.0.0.1:{port}"), "-c".into()])
        .arg(file)
        .arg("promises:raw")
        .current_dir(repository().join("tests/apps"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    let gunicorn = Process(command.spawn().unwrap());
    let start = Instant::now();
    while Client::try_connect(port).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    ask_two(|| Client::connect(port));
    gunicorn.stop();
    read(directory.path(), "log")
}

#[test]
fn access_gets_what_gunicorn_gives() {
    let theirs = gunicorns_log(&repository().join("tests/apps/loggers_conf.py"));
    let mut server = build().args(["-c", "loggers_conf.py"]).start();
    ask_two(|| server.connect());
    server.signal(Signal::SIGTERM);
    server.wait();
    let ours = server.log();
    let lines = |log: &str| {
        let mut lines = told(log, "access");
        // gunicorn says that nothing was sent of its own page.
        lines.iter_mut().filter(|line| line["code"] == 500).for_each(|line| line["sent"] = Value::Null);
        lines.iter_mut().filter(|line| line["code"] == 500).for_each(|line| line["answered"] = Value::Null);
        lines
    };
    assert_eq!(lines(&theirs).len(), 2, "{theirs}");
    assert_eq!(lines(&ours), lines(&theirs));
}

const HANDLERS: &str = r#"
"disable_existing_loggers": false,
"root": {"level": "INFO", "handlers": []},
"formatters": {"marked": {"format": "marked %(name)s %(levelname)s %(message)s"}},
"handlers": {
    "errors": {"class": "logging.FileHandler", "filename": "errors.log", "formatter": "marked"},
    "access": {"class": "logging.FileHandler", "filename": "access.log", "formatter": "marked"}},
"loggers": {
    "gunicorn.error": {"level": "DEBUG", "handlers": ["errors"], "propagate": false},
    "gunicorn.access": {"level": "INFO", "handlers": ["access"], "propagate": false}}
"#;

const INI: &str = "[loggers]\nkeys=root,error,access\n[handlers]\nkeys=errors,access\n[formatters]\nkeys=marked\n\
    [logger_root]\nlevel=INFO\nhandlers=\n\
    [logger_error]\nlevel=DEBUG\nhandlers=errors\npropagate=0\nqualname=gunicorn.error\n\
    [logger_access]\nlevel=INFO\nhandlers=access\npropagate=0\nqualname=gunicorn.access\n\
    [handler_errors]\nclass=FileHandler\nformatter=marked\nargs=('errors.log',)\n\
    [handler_access]\nclass=FileHandler\nformatter=marked\nargs=('access.log',)\n\
    [formatter_marked]\nformat=marked %(name)s %(levelname)s %(message)s\n";

#[test]
fn a_file_a_dictionary_and_json_configure_logging() {
    let dictionary = format!("logconfig_dict = {{{}}}\n", HANDLERS.replace("false", "False"));
    for (text, arguments) in [
        (dictionary.as_str(), &[][..]),
        ("", &["--log-config-json", "log.json"]),
        ("", &["--log-config", "log.ini"]),
    ] {
        let (directory, server) = configured(text);
        let place = directory.path();
        write(place, "log.json", &format!("{{{HANDLERS}}}"));
        write(place, "log.ini", INI);
        // Without "Listening at" on standard error the server is waited for by its file.
        let child = Process(server.args(arguments.iter().copied()).command().spawn().unwrap());
        let start = Instant::now();
        let log = || read(place, "errors.log");
        let listening = |log: &str| {
            let address = log.split("INFO Listening at: http://127.0.0.1:").nth(1)?;
            address.split(' ').next()?.parse::<u16>().ok()
        };
        while listening(&log()).is_none() {
            assert!(start.elapsed() < Duration::from_secs(20), "{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        let port = listening(&log()).unwrap();
        ask(|| Client::connect(port));
        // A rotation: by the arbiter, and by the worker, which may be a moment later.
        for name in ["errors.log", "access.log"] {
            std::fs::rename(place.join(name), place.join(format!("{name}.1"))).unwrap();
        }
        child.signal(Signal::SIGUSR1);
        while !read(place, "access.log").contains("GET /hits") {
            assert!(start.elapsed() < Duration::from_secs(20), "{}", log());
            Client::connect(port).get("/hits");
        }
        assert_eq!(child.stop(), Some(0));
        let (before, access) = (read(place, "errors.log.1"), read(place, "access.log.1"));
        assert_has(
            &before,
            [
                "marked gunicorn.error DEBUG Current configuration:",
                "marked gunicorn.error INFO Booting worker with pid: ",
                "marked gunicorn.error DEBUG GET /lines\n",
                "marked gunicorn.error ERROR Error handling request GET /fail-early\nTraceback ",
                "marked gunicorn.error WARNING Invalid request from ip=127.0.0.1: ",
            ],
        );
        // The worker may have been a moment late with the new file.
        let lines: Vec<&str> = access.lines().filter(|line| !line.contains("GET /hits")).collect();
        assert_eq!(lines.len(), 3, "{access}");
        assert!(lines[0].starts_with("marked gunicorn.access INFO 127.0.0.1 - - ["), "{access}");
        assert!(lines[0].contains("\"GET /lines?of=text HTTP/1.1\" 200 4 "), "{access}");
        assert_has(
            &log(),
            ["INFO Handling signal: term", "INFO Worker exiting (pid: ", "INFO Shutting down: Master"],
        );
    }
}

#[test]
fn objects_of_the_file_are_taken_as_they_are() {
    let (_directory, server) = configured(
        "import logging, sys\n\
         class Shouting(logging.Formatter):\n    def format(self, record):\n        return record.getMessage().upper()\n\
         logconfig_dict = {\n    'formatters': {'loud': {'()': Shouting}},\n\
         \x20   'handlers': {'console': {'class': 'logging.StreamHandler', 'formatter': 'loud', 'stream': sys.stderr}},\n\
         \x20   'loggers': {'gunicorn.error': {'handlers': ['console'], 'level': 'INFO', 'propagate': False}},\n}\n",
    );
    let mut command = server.command();
    let directory = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let child = Process(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    let start = Instant::now();
    while !read(directory.path(), "log").contains("IS READY, AFTER") {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", read(directory.path(), "log"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(child.stop(), Some(0));
}

#[test]
fn what_a_handler_holds_back_is_written_in_the_end() {
    let (_directory, server) = configured(
        "logconfig_dict = {\n    'handlers': {\n\
         \x20       'console': {'class': 'logging.StreamHandler'},\n\
         \x20       'memory': {'class': 'logging.handlers.MemoryHandler', 'capacity': 1000, 'target': 'console'},\n    },\n\
         \x20   'root': {'handlers': []},\n\
         \x20   'loggers': {'gunicorn.error': {'handlers': ['memory'], 'level': 'INFO', 'propagate': False}},\n}\n",
    );
    let directory = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let socket = directory.path().join("socket");
    let mut command = server.no_bind().args([format!("--bind=unix:{}", socket.display())]).command();
    let child = Process(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    let start = Instant::now();
    // It is answered once a worker has booted.
    let mut stream = loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
        assert!(start.elapsed() < Duration::from_secs(20));
    };
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(child.stop(), Some(0));
    let log = read(directory.path(), "log");
    assert_has(&log, ["Starting rgunicorn", "Worker exiting (pid: ", "Shutting down: Master"]);
}

#[test]
fn a_logger_that_fails_harms_nobody() {
    let (_directory, server) = configured(
        "from gunicorn.glogging import Logger\n\
         class Failing(Logger):\n\
         \x20   def info(self, *args, **kwargs):\n        raise ValueError('no disk')\n\
         \x20   def access(self, *args, **kwargs):\n        raise KeyError('no access')\n\
         logger_class = Failing\n",
    );
    let mut server = server.start();
    let workers = server.wait_for_workers(1);
    for _ in 0..3 {
        assert_eq!(server.connect().get("/").status, 200);
    }
    server.wait_for_log("KeyError: 'no access'");
    server.signal(Signal::SIGHUP);
    server.wait_until("the next generation", || {
        server.workers().iter().all(|worker| !workers.contains(worker))
    });
    assert_eq!(server.connect().get("/").status, 200);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
    let log = server.log();
    // The messages are in the server's own log; why, once a process.
    assert_has(
        &log,
        [
            "[INFO] Starting rgunicorn",
            "[INFO] Booting worker",
            "[INFO] Shutting down: Master",
            "ValueError: no disk",
        ],
    );
    assert!(log.matches("Error in the logger, said once").count() <= 4, "{log}");
}

#[test]
fn a_reload_has_another_logging_count_or_changes_nothing() {
    let text = |mark: &str| {
        format!(
            "logconfig_dict = {{'formatters': {{'f': {{'format': '{mark} %(message)s'}}}},\n\
             'handlers': {{'console': {{'class': 'logging.StreamHandler', 'formatter': 'f'}}}},\n\
             'root': {{'handlers': []}},\n\
             'loggers': {{'gunicorn.error': {{'handlers': ['console'], 'level': 'INFO', 'propagate': False}}}}}}\n"
        )
    };
    let (directory, server) = configured(&text("first"));
    let server = server.start();
    server.wait_for_log("first Booting worker");
    let workers = server.wait_for_workers(1);
    write(
        directory.path(),
        "gunicorn.conf.py",
        "logconfig_dict = {'loggers': {'gunicorn.error': {'handlers': ['none']}}}\n",
    );
    server.signal(Signal::SIGHUP);
    server.wait_for_log(
        "first reload failed, generation 1 goes on: logconfig_dict: Unable to configure logger",
    );
    assert_eq!(server.workers(), workers);
    // A file with a mistake, which never comes as far as the logger.
    write(directory.path(), "gunicorn.conf.py", "workers = \n");
    server.signal(Signal::SIGHUP);
    server.wait_for_log_times("first reload failed, generation 1 goes on:", 2);
    write(directory.path(), "gunicorn.conf.py", &text("second"));
    server.signal(Signal::SIGHUP);
    server.wait_for_log("second Generation 2 serves");
    server.wait_for_log("second Booting worker");
    write(directory.path(), "gunicorn.conf.py", "");
    server.signal(Signal::SIGHUP);
    server.wait_for_log("[INFO] Generation 3 serves");
    assert_eq!(server.connect().get("/").status, 200);
}

#[test]
fn a_failed_reload_leaves_the_hooks_alone() {
    let text = "def child_exit(server, worker):\n    server.log.info('child_exit of %s', server.cfg.proc_name)\n\
                proc_name = 'still there'\n";
    let (directory, server) = configured(text);
    let server = server.start();
    let worker = server.wait_for_workers(1)[0];
    write(directory.path(), "gunicorn.conf.py", "workers = \n");
    server.signal(Signal::SIGHUP);
    server.wait_for_log("reload failed, generation 1 goes on");
    kill(Pid::from_raw(worker), Signal::SIGTERM).unwrap();
    server.wait_for_log("[INFO] child_exit of still there");
}

#[test]
fn what_can_not_be_had_says_why() {
    for (text, arguments, reason) in [
        (
            "",
            &["--logger-class", "nowhere.Logger"][..],
            "logger_class: class uri 'nowhere.Logger' invalid or not found",
        ),
        (
            "",
            &["--logger-class", "os.path.join"],
            "has no setup(): a logger derives from gunicorn.glogging.Logger",
        ),
        ("", &["--log-config", "none.ini"], "logconfig 'none.ini': there is no such file"),
        ("", &["--log-config", "gunicorn.conf.py"], "logconfig 'gunicorn.conf.py': "),
        ("", &["--log-config-json", "none.json"], "logconfig_json 'none.json': "),
        ("", &["--log-config-json", "gunicorn.conf.py"], "logconfig_json 'gunicorn.conf.py': "),
        (
            "logconfig_dict = {'handlers': {'a': {'class': 'no.Where'}}}\n",
            &[],
            "logconfig_dict: Unable to configure handler 'a'",
        ),
        ("logconfig_dict = {'version': 2}\n", &[], "logconfig_dict: "),
        ("logconfig_dict = []\n", &[], "logconfig_dict"),
        (
            "access_log_json = True\n",
            &["--logger-class", "loggers_conf.Telling"],
            "access_log_json: the lines of the access log are made by the logger",
        ),
    ] {
        for check in [&[][..], &["--check-config"]] {
            let (_directory, server) = configured(text);
            let server = server.args(arguments.iter().copied()).args(check.iter().copied());
            let (status, _, error) = server.run();
            assert_eq!(status, Some(1), "{arguments:?} {text}: {error}");
            assert!(error.contains(reason), "{arguments:?} {text}: {error}");
            assert!(!error.contains("Traceback"), "{error}");
        }
    }
}

#[test]
fn the_statsd_class_is_the_servers_own() {
    let statsd = UdpSocket::bind("127.0.0.1:0").unwrap();
    statsd.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let server = build()
        .args(["--logger-class", "gunicorn.instrument.statsd.Statsd", "--statsd-host"])
        .args([statsd.local_addr().unwrap().to_string()])
        .start();
    server.wait_for_log("[INFO] Starting rgunicorn");
    assert_eq!(server.connect().get("/").status, 200);
    let mut buffer = [0; 2000];
    loop {
        let length = statsd.recv(&mut buffer).unwrap();
        if String::from_utf8_lossy(&buffer[..length]).contains("gunicorn.request.status.200:1|c|@1.0") {
            break;
        }
    }
}

#[test]
fn one_derived_from_it_tells_statsd_itself_and_once() {
    for installed in [false, true] {
        let statsd = UdpSocket::bind("127.0.0.1:0").unwrap();
        statsd.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        let address = statsd.local_addr().unwrap();
        let (_directory, server) = configured(&format!(
            "from gunicorn.instrument.statsd import Statsd\n\
             class Mine(Statsd):\n    def access(self, *args):\n        super().access(*args)\n        self.increment('mine', 1)\n\
             logger_class = Mine\nstatsd_host = '{address}'\nstatsd_prefix = 'site.'\n"
        ));
        let server = if installed { server.env("PYTHONPATH", gunicorn()) } else { server }.start();
        assert_eq!(server.connect().get("/").status, 200);
        let (mut buffer, mut all) = ([0; 2000], String::new());
        while let Ok(length) = statsd.recv(&mut buffer) {
            all += &String::from_utf8_lossy(&buffer[..length]);
            all.push('\n');
        }
        let requests =
            ["site.mine:1|c|@1.0", "site.gunicorn.requests:1|c|@1.0", "site.gunicorn.request.status.200:1|c"];
        for part in requests {
            assert_eq!(all.matches(part).count(), 1, "{part}: {all}");
        }
    }
}

#[test]
fn a_worker_class_in_python_has_the_same_logger() {
    for installed in [false, true] {
        let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
            .args(["-c", "loggers_conf.py", "custom_worker:app"])
            .env("CLASS", "custom_worker.Plain");
        let mut server = if installed { server.env("PYTHONPATH", gunicorn()) } else { server }.start();
        server.connect().get("/gunicorn");
        let worker = server.wait_for_workers(1)[0];
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0));
        let info = told(&server.log(), "info");
        for text in ["Booting worker with pid: ", "Worker exiting (pid: "] {
            let found =
                |line: &&Value| line["process"] == worker && line["text"].as_str().unwrap().starts_with(text);
            assert_eq!(info.iter().filter(found).count(), 1, "{text}: {}", server.log());
        }
    }
}

#[test]
fn paths_that_the_access_log_leaves_out() {
    let mut server = build().args(["-c", "loggers_conf.py"]).env("SKIP", "1").start();
    server.connect().get("/hits");
    server.connect().get("/");
    server.signal(Signal::SIGTERM);
    server.wait();
    let access = told(&server.log(), "access");
    assert_eq!(access.len(), 1, "{access:?}");
    assert_eq!(access[0]["path"], "/");
}

#[test]
fn the_accesslog_of_a_logger_follows_a_rotation() {
    let (directory, server) = configured(
        "from gunicorn.glogging import Logger\nclass Mine(Logger):\n    pass\n\
         logger_class = Mine\naccesslog = 'access.log'\nerrorlog = 'errors.log'\n",
    );
    let place = directory.path();
    let child = Process(server.command().spawn().unwrap());
    let start = Instant::now();
    let port = || {
        let log = read(place, "errors.log");
        log.split("Listening at: http://127.0.0.1:").nth(1)?.split(' ').next()?.parse::<u16>().ok()
    };
    while port().is_none() {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    Client::connect(port().unwrap()).get("/");
    while !read(place, "access.log").contains("GET /") {
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    std::fs::rename(place.join("access.log"), place.join("access.log.1")).unwrap();
    child.signal(Signal::SIGUSR1);
    while !read(place, "access.log").contains("GET /hits") {
        assert!(start.elapsed() < Duration::from_secs(20));
        Client::connect(port().unwrap_or_default()).get("/hits");
    }
    assert_eq!(child.stop(), Some(0));
    let log = read(place, "errors.log");
    assert_eq!(log.matches("[INFO] Starting rgunicorn").count(), 1, "{log}");
}

#[test]
fn applications_find_the_logger_of_the_error_log() {
    let directory = tempfile::tempdir().unwrap();
    write(
        directory.path(),
        "shop.py",
        "import logging\n\
         server = logging.getLogger('gunicorn.error')\n\
         logger = logging.getLogger('shop')\n\
         logger.handlers = server.handlers\n\
         logger.setLevel(server.level)\n\
         logger.propagate = False\n\
         logging.getLogger('gunicorn.access').addFilter(lambda record: False)\n\
         def app(environ, start_response):\n\
         \x20   logger.info('sold: %s', environ['PATH_INFO'])\n    logger.debug('never seen')\n\
         \x20   start_response('200 OK', [('Content-Length', '0')])\n    return []\n",
    );
    for (installed, level, said) in
        [(false, "info", "[INFO] sold: /tea"), (true, "debug", "[DEBUG] never seen")]
    {
        let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).directory(directory.path());
        let server = if installed { server.env("PYTHONPATH", gunicorn()) } else { server };
        let server = server.args(["--log-level", level, "--access-logfile", "-", "shop:app"]).start();
        assert_eq!(server.connect().get("/tea").status, 200);
        server.wait_for_log(said);
        server.wait_for_log("[WARNING] The logger gunicorn.access has a filter or handler of its own");
        assert_eq!(server.log().contains("never seen"), level == "debug", "{}", server.log());
    }
}

#[test]
fn a_handler_that_takes_its_time_holds_up_neither_requests_nor_the_end_for_long() {
    for class in ["event", "threads", "coro", "gevent", "asgi"] {
        let (_directory, server) = configured(
            "import logging, sys, time\n\
             class Slow(logging.StreamHandler):\n\
             \x20   def emit(self, record):\n        time.sleep(0.05)\n        super().emit(record)\n\
             logconfig_dict = {\n    'handlers': {'console': {'()': lambda: Slow(sys.stderr)}},\n    'root': {'handlers': []},\n\
             \x20   'loggers': {'gunicorn.error': {'handlers': ['console'], 'level': 'INFO', 'propagate': False},\n\
             \x20               'gunicorn.access': {'handlers': [], 'propagate': False}},\n}\n",
        );
        let mut server = server.args(["-k", class]).start();
        for _ in 0..10 {
            assert_eq!(server.connect().get("/fail-early").status, 500);
        }
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0), "{class}");
        // What is too late for the handler, on a machine that is busy, is in the server's own log.
        let log = server.log();
        assert_eq!(log.matches("Error handling request GET /fail-early").count(), 10, "{class}: {log}");
        assert!(log.contains("Worker exiting"), "{class}: {log}");
    }
}

#[test]
fn a_handler_that_never_comes_back_is_a_worker_that_hangs() {
    let text = "import logging, time\n\
         class Hang(logging.Handler):\n\
         \x20   def emit(self, record):\n        print('in the handler', flush=True)\n        time.sleep(1000)\n\
         logconfig_dict = {\n    'handlers': {'hang': {'()': lambda: Hang()}, 'console': {'class': 'logging.StreamHandler'}},\n\
         \x20   'root': {'handlers': []},\n\
         \x20   'loggers': {'gunicorn.error': {'handlers': ['console'], 'level': 'INFO', 'propagate': False},\n\
         \x20               'gunicorn.access': {'handlers': ['hang'], 'level': 'INFO', 'propagate': False}},\n}\n\
         accesslog = '-'\ngraceful_timeout = 1\ntimeout = 1\n";
    // The thread that gives the signs of life is in it, or it isn't.
    for (class, notices) in [("event", true), ("asgi", true), ("threads", false), ("coro", false)] {
        let (_directory, server) = configured(text);
        let mut server = server.args(["-k", class, "-w", "1"]).start();
        let mut client = server.connect();
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        server.wait_for_log("in the handler");
        if notices {
            server.wait_for_log("WORKER TIMEOUT");
            server.wait_for_log("Hang.emit");
            server.wait_for_log_times("is ready", 2);
        } else {
            std::thread::sleep(Duration::from_secs(2));
            server.signal(Signal::SIGTERM);
            assert_eq!(server.wait().code(), Some(0), "{class}");
            let log = server.log();
            // Python's own end waits for the handler; whoever is first cuts it off.
            let cut = ["still run after", "was sent SIGKILL, as it did not stop in time"];
            assert!(cut.iter().any(|cut| log.contains(cut)), "{class}: {log}");
            assert!(!log.contains("WORKER TIMEOUT"), "{class}: {log}");
        }
    }
}

#[test]
fn a_program_that_takes_over_all_loggers() {
    // As it is found in many projects, with loguru or structlog where this prints.
    let program = "import logging, os, sys\n\
        from gunicorn.app.base import BaseApplication\n\
        from gunicorn.glogging import Logger\n\
        class Intercept(logging.Handler):\n\
        \x20   def emit(self, record):\n\
        \x20       text = f'taken {record.name} {record.levelname} {record.getMessage()} {bool(record.exc_info)}\\n'\n\
        \x20       os.write(2, text.encode())\n\
        class Stub(Logger):\n\
        \x20   def setup(self, cfg):\n\
        \x20       for name in ('error', 'access'):\n\
        \x20           logger = logging.getLogger(f'gunicorn.{name}')\n\
        \x20           logger.addHandler(logging.NullHandler())\n\
        \x20           logger.setLevel('INFO')\n\
        class Site(BaseApplication):\n\
        \x20   def load_config(self):\n\
        \x20       for name, value in {'bind': '127.0.0.1:0', 'accesslog': '-', 'logger_class': Stub}.items():\n\
        \x20           self.cfg.set(name, value)\n\
        \x20   def load(self):\n\
        \x20       import promises\n\
        \x20       return promises.raw\n\
        if __name__ == '__main__':\n\
        \x20   for name in ('gunicorn', 'gunicorn.access', 'gunicorn.error'):\n\
        \x20       logging.getLogger(name).handlers = [Intercept()]\n\
        \x20   Site().run()\n";
    for installed in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "main.py", program);
        let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
            .directory(directory.path())
            .no_bind()
            .args(["--pythonpath".into(), repository().join("tests/apps").into_os_string()])
            .args(["-c", "program:main.py"]);
        let mut server = if installed { server.env("PYTHONPATH", gunicorn()) } else { server }.start();
        ask_two(|| server.connect());
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0));
        let log = server.log();
        assert_has(
            &log,
            [
                "taken gunicorn.error INFO Booting worker with pid: ",
                "taken gunicorn.access INFO 127.0.0.1 - - [",
                "taken gunicorn.error ERROR Error handling request GET /fail-early True",
                "taken gunicorn.error INFO Shutting down: Master False",
            ],
        );
        assert!(log.lines().all(|line| line.starts_with("taken ")), "{log}");
    }
}

#[test]
fn a_filter_that_hooks_put_on_the_access_log_is_asked() {
    for (hook, installed) in [("on_starting(server)", false), ("post_fork(server, worker)", true)] {
        let (_directory, server) = configured(&format!(
            "import logging\n\
             class Health(logging.Filter):\n    def filter(self, record):\n        return 'GET /hits' not in record.getMessage()\n\
             def {hook}:\n    server.log.access_log.addFilter(Health())\n\
             accesslog = '-'\naccess_log_format = 'line %(r)s %(s)s %(B)s'\n"
        ));
        let mut server = if installed { server.env("PYTHONPATH", gunicorn()) } else { server }.start();
        server.connect().get("/hits");
        ask(|| server.connect());
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0));
        let log = server.log();
        let mut lines: Vec<&str> = log.lines().filter(|line| line.starts_with("line ")).collect();
        lines.sort_unstable();
        assert_eq!(lines[1], "line GET /fail-early HTTP/1.1 500 141", "{log}");
        assert_eq!(lines[2], "line GET /lines?of=text HTTP/1.1 200 4", "{log}");
        assert_eq!(lines.len(), 3, "{log}");
        assert!(!log.contains("[WARNING] The logger"), "{log}");
    }
    // One that comes too late, or whose lines aren't made in Python.
    for (hook, json) in [("post_worker_init(worker)", "False"), ("post_fork(worker, server)", "True")] {
        let (_directory, server) = configured(&format!(
            "import logging\naccesslog = '-'\naccess_log_json = {json}\n\
             def {hook}:\n    logging.getLogger('gunicorn.access').addFilter(lambda record: False)\n"
        ));
        server
            .start()
            .wait_for_log("[WARNING] The logger gunicorn.access has a filter or handler of its own");
    }
}
