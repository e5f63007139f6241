//! Worker classes written in Python: `-k package.Class`, with gunicorn installed and without it.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rgunicorn_harness::{Builder, Server, gunicorn};

/// Makes two tests of each promise: one where gunicorn is installed, one where it isn't.
macro_rules! with_and_without_gunicorn {
    ($(fn $name:ident($gunicorn:ident: Option<PathBuf>) $body:block)*) => {$(
        mod $name {
            use super::*;

            fn check($gunicorn: Option<PathBuf>) $body

            #[test]
            fn with_gunicorn() {
                check(Some(gunicorn()));
            }

            #[test]
            fn without() {
                check(None);
            }
        }
    )*};
}

fn build(gunicorn: Option<PathBuf>, class: &str, application: &str) -> Builder {
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", class, application]);
    match gunicorn {
        Some(path) => server.env("PYTHONPATH", path),
        None => server,
    }
}

fn serve(gunicorn: Option<PathBuf>, class: &str, application: &str) -> Server {
    build(gunicorn, class, application).start()
}

fn get(server: &Server, path: &str) -> String {
    server.connect().get(path).text()
}

with_and_without_gunicorn! {
    fn a_class_of_ones_own_serves(path: Option<PathBuf>) {
        let installed = path.is_some();
        let server = build(path, "custom_worker.Plain", "custom_worker:app")
            .args(["-w", "1", "-t", "20", "-e", "A=b=c", "--name", "it", "--access-logfile", "-"])
            .start();
        let settings = get(&server, "/settings");
        assert_eq!(settings, "(['127.0.0.1:0'], 1, 20, 10.0, {'A': 'b=c'}, 'it', '-')");
        assert_eq!(get(&server, "/gunicorn").starts_with("<rgunicorn>/"), !installed);
        let worker = get(&server, "/");
        for signal in [Signal::SIGHUP, Signal::SIGUSR2, Signal::SIGWINCH] {
            kill(Pid::from_raw(worker.parse().unwrap()), signal).unwrap();
        }
        assert_eq!(get(&server, "/"), worker, "these are the arbiter's signals");
    }

    fn it_is_reloaded_recycled_and_stopped(path: Option<PathBuf>) {
        let mut server = build(path, "custom_worker.Prepared", "custom_worker:app").args(["--max-requests", "3"]).start();
        let first = get(&server, "/");
        server.signal(Signal::SIGHUP);
        server.wait_for_log("Generation 2 serves");
        server.wait_for_log("It was told to stop: ['setup', 'check_config 1', 'init_process']");
        server.wait_until("the old worker to be gone", || server.workers().len() == 1);
        let second = get(&server, "/");
        assert_ne!(first, second);
        assert_eq!(get(&server, "/"), second);
        assert_eq!(get(&server, "/"), second);
        assert_ne!(get(&server, "/"), second, "it was to be replaced after three requests");
        let mut client = server.connect();
        client.send("GET /slow HTTP/1.1\r\nHost: t\r\n\r\n");
        thread::sleep(Duration::from_millis(300));
        server.signal(Signal::SIGTERM);
        assert_eq!(client.response().status, 200);
        assert_eq!(server.wait().code(), Some(0));
    }

    fn one_that_hangs_leaves_its_traceback_and_is_replaced(path: Option<PathBuf>) {
        let server = build(path, "custom_worker.Plain", "custom_worker:app").args(["-t", "1"]).start();
        assert!(server.connect().try_send(b"GET /hang HTTP/1.1\r\nHost: t\r\n\r\n").is_ok());
        server.wait_for_log("WORKER TIMEOUT");
        server.wait_for_log("custom_worker.py\", line");
        server.wait_for_log_times("Booting worker with pid", 2);
        assert!(!get(&server, "/").is_empty());
    }

    fn the_arbiters_death_stops_it(path: Option<PathBuf>) {
        let mut server = serve(path, "custom_worker.Plain", "custom_worker:app");
        let worker: i32 = get(&server, "/").parse().unwrap();
        server.signal(Signal::SIGKILL);
        server.wait();
        server.wait_until("the worker to be gone", || kill(Pid::from_raw(worker), None).is_err());
    }

    fn hooks_are_given_the_worker_itself(path: Option<PathBuf>) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("conf.py");
        let hooks = ["post_worker_init(worker)", "worker_int(worker)", "worker_exit(server, worker)"].map(|hook| {
            let name = hook.split('(').next().unwrap();
            format!("def {hook}:\n    worker.log.info('%s: %s', '{name}', type(worker).__name__)\n")
        });
        std::fs::write(&file, hooks.concat()).unwrap();
        let mut server = build(path, "custom_worker.Plain", "custom_worker:app")
            .args(["-c", file.to_str().unwrap()])
            .start();
        get(&server, "/");
        server.signal(Signal::SIGINT);
        server.wait();
        let log = server.log();
        for hook in ["post_worker_init", "worker_int", "worker_exit"] {
            assert_eq!(log.matches(&format!("{hook}: Plain")).count(), 1, "{hook}: {log}");
        }
    }

    fn a_class_of_the_configuration_file_itself_serves(path: Option<PathBuf>) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("conf.py");
        let write = |mark: &str| {
            let text = format!(
                "from custom_worker import Plain\n\
                 class Mine(Plain):\n    mark = '{mark}'\n\
                 worker_class = Mine\n\
                 def post_worker_init(worker):\n\
                 \x20   worker.log.info('%s is %s: %s', type(worker).__name__, worker.mark, isinstance(worker, Mine))\n\
                 def worker_exit(server, worker):\n\
                 \x20   server.log.info('%s leaves: %s', worker.mark, worker.cfg.worker_class is Mine)\n"
            );
            std::fs::write(&file, text).unwrap();
        };
        write("first");
        let build = || {
            let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
                .args(["--pythonpath", ".", "-c", file.to_str().unwrap(), "custom_worker:app"]);
            path.iter().fold(server, |server, path| server.env("PYTHONPATH", path.clone()))
        };
        let (code, _, error) = build().args(["--check-config"]).run();
        assert_eq!(code, Some(0), "{error}");
        let mut server = build().start();
        server.wait_for_log("[INFO] Mine is first: True");
        let first = get(&server, "/");
        write("second");
        server.signal(Signal::SIGHUP);
        server.wait_for_log("[INFO] Mine is second: True");
        server.wait_for_log("[INFO] first leaves: True");
        assert_ne!(get(&server, "/"), first);
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0));
        assert!(server.log().contains("second leaves: True"), "{}", server.log());
    }

    fn a_program_with_a_server_in_it_is_served(path: Option<PathBuf>) {
        let program = |variable: Option<(&str, &str)>| {
            let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-c", "program:embedded.py", "-k", "event"]);
            let server = path.iter().fold(server, |server, path| server.env("PYTHONPATH", path.clone()));
            variable.iter().fold(server, |server, (name, value)| server.env(name, *value))
        };
        let server = program(None).start();
        server.wait_for_workers(2);
        assert_eq!(get(&server, "/"), "__main__ embedded True");
        server.wait_for_log("a worker of the program's");
        let (code, _, error) = program(Some(("FORGET", "1"))).run();
        assert!(code == Some(1) && error.contains("has started no server"), "{error}");
    }

    fn uvicorns_own_class_serves(path: Option<PathBuf>) {
        let mut server = serve(path, "python:uvicorn_worker.UvicornWorker", "custom_worker:asgi");
        server.wait_for_log("Application startup complete.");
        let mut client = server.connect();
        assert_eq!(client.get("/a").text(), "asgi /a");
        assert_eq!(client.get("/b").text(), "asgi /b");
        server.signal(Signal::SIGHUP);
        server.wait_for_log("Generation 2 serves");
        assert_eq!(get(&server, "/c"), "asgi /c");
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0));
        server.wait_for_log("Finished server process");
    }

    fn aiohttps_own_class_serves(path: Option<PathBuf>) {
        let server = serve(path, "aiohttp.GunicornWebWorker", "custom_worker:aio()");
        assert_eq!(get(&server, "/hello"), "aiohttp /hello");
    }

    fn an_application_that_cannot_be_loaded_ends_the_server_or_the_reload(path: Option<PathBuf>) {
        for (application, status, reason) in [
            ("custom_worker:nothing", 4, "has no attribute 'nothing'"),
            ("no_such_module:app", 3, "No module named 'no_such_module'"),
        ] {
            let (code, _, error) = build(path.clone(), "custom_worker.Plain", application).run();
            assert_eq!(code, Some(status), "{error}");
            assert!(error.contains(reason), "{error}");
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("conf.py");
        std::fs::write(&file, "wsgi_app = 'custom_worker:app'\nworker_class = 'custom_worker.Plain'\n").unwrap();
        let server = match path.clone() {
            Some(path) => Server::build(env!("CARGO_BIN_EXE_rgunicorn")).env("PYTHONPATH", path),
            None => Server::build(env!("CARGO_BIN_EXE_rgunicorn")),
        };
        let server = server.args(["-c", file.to_str().unwrap()]).start();
        let worker = get(&server, "/");
        std::fs::write(&file, "wsgi_app = 'custom_worker:nothing'\nworker_class = 'custom_worker.Plain'\n").unwrap();
        server.signal(Signal::SIGHUP);
        server.wait_for_log("App failed to load.");
        assert_eq!(get(&server, "/"), worker, "the old worker goes on");
    }

    fn an_application_that_cannot_start_ends_the_server(path: Option<PathBuf>) {
        let (code, _, error) =
            build(path, "python:uvicorn_worker.UvicornWorker", "custom_worker:no_start").run();
        assert_eq!(code, Some(3), "{error}");
        assert!(error.contains("no database") && error.contains("Worker failed to boot."), "{error}");
    }
}

#[test]
fn what_is_wrong_with_a_class_is_said() {
    for (class, reason) in [
        ("custom_worker.NoRun", "has no method run() of its own"),
        ("custom_worker.Nothing", "has no method init_process()"),
        ("custom_worker.number", "is of type 'int', where a class is needed"),
        ("custom_worker.Missing", "the module 'custom_worker' has no 'Missing'"),
        ("no_such.Class", "No module named 'no_such'; a class is named as package.module.Class"),
        ("python:gunicorn.workers.sync.SyncWorker", "pip install gunicorn"),
        ("egg:some#thing", "no entry point 'thing' of group 'gunicorn.workers' in 'some'"),
    ] {
        for check in [&[][..], &["--check-config"]] {
            let server = build(None, class, "custom_worker:app").args(check.iter().copied());
            let (code, _, error) = server.run();
            assert_eq!(code, Some(if check.is_empty() { 3 } else { 1 }), "{class}: {error}");
            assert!(error.contains(reason), "{class}: {error}");
        }
    }
    let (code, _, error) = build(None, "python:no-name", "custom_worker:app").run();
    assert!(code == Some(1) && error.contains("names no Python class"), "{error}");
}

#[test]
fn one_that_derives_from_nothing_and_one_preloaded() {
    let server = build(None, "custom_worker.Whole", "custom_worker:app").args(["-t", "3"]).start();
    server.wait_for_log("[WARNING] Serving app");
    let server = build(None, "custom_worker.Prepared", "custom_worker:app").args(["--preload"]).start();
    assert!(!get(&server, "/").is_empty());
}

#[test]
fn one_that_gives_no_sign_of_life_is_replaced() {
    let server = build(None, "custom_worker.Silent", "custom_worker:app").args(["-t", "1"]).start();
    server.wait_for_log_times("WORKER TIMEOUT", 2);
}

#[test]
fn one_that_hangs_does_not_outlive_its_arbiter_for_long() {
    let server = build(None, "custom_worker.Plain", "custom_worker:app")
        .args(["--graceful-timeout", "1", "--timeout", "0"])
        .start();
    let worker = server.wait_for_workers(1)[0];
    // As long as it lives, it gives no end of this.
    server.wait_until("the request", || {
        server.connect().send("GET /spin HTTP/1.1\r\nHost: t\r\n\r\n");
        thread::sleep(Duration::from_millis(100));
        server.log().contains("it spins")
    });
    server.signal(Signal::SIGKILL);
    let ended = || {
        let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    let start = std::time::Instant::now();
    while !ended() && start.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(50));
    }
    if !ended() {
        kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
        panic!("it lives on");
    }
}

#[test]
fn gunicorns_own_classes_serve_where_it_is_installed() {
    for class in ["sync.SyncWorker", "gthread.ThreadWorker", "ggevent.GeventWorker"] {
        let class = format!("python:gunicorn.workers.{class}");
        let mut server = serve(Some(gunicorn()), &class, "promises:app");
        assert_eq!(server.connect().get("/").status, 200, "{class}");
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(0), "{class}");
    }
}

#[test]
fn log_files_follow_a_rotation() {
    let directory = tempfile::tempdir().unwrap();
    let (log, moved) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
    let server = build(None, "python:uvicorn_worker.UvicornWorker", "custom_worker:asgi")
        .args(["--access-logfile", log.to_str().unwrap()])
        .start();
    let lines = |path| std::fs::read_to_string(path).unwrap_or_default();
    get(&server, "/before");
    server.wait_until("the access line", || lines(&log).contains("GET /before"));
    std::fs::rename(&log, &moved).unwrap();
    server.signal(Signal::SIGUSR1);
    server.wait_until("a new file", || log.exists());
    // The worker may be a moment later than the arbiter.
    server.wait_until("a line in it", || {
        get(&server, "/after");
        lines(&log).contains("GET /after")
    });
}
