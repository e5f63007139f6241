//! Where settings come from, and what is said about bad ones.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use rgunicorn_harness::{Builder, Server, application, assert_has, examples, on_every_class};

fn build() -> Builder {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
}

/// A directory with the given files in it.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    directory
}

fn print(directory: &tempfile::TempDir, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let apps = rgunicorn_harness::repository().join("tests/apps");
    let mut builder = build().no_bind().directory(directory.path()).args(["--print-config"]).args(arguments);
    builder = builder.args(["--pythonpath"]).args([apps]).args(["promises:app"]);
    for (name, value) in variables {
        builder = builder.env(name, value);
    }
    let (status, output, error) = builder.run();
    assert_eq!(status, Some(0), "{error}");
    output
}

fn setting<'a>(printed: &'a str, name: &str) -> &'a str {
    let line = printed.lines().find(|line| line.split('=').next().is_some_and(|left| left.trim() == name));
    line.and_then(|line| line.split_once('=')).map(|(_, value)| value.trim()).unwrap_or_default()
}

#[test]
fn each_source_beats_the_one_before_it() {
    let nothing = directory(&[]);
    assert_eq!(setting(&print(&nothing, &[], &[]), "workers"), "1");
    let variable = [("WEB_CONCURRENCY", "2")];
    assert_eq!(setting(&print(&nothing, &[], &variable), "workers"), "2");
    let file = directory(&[("gunicorn.conf.py", "workers = 3\ntimeout = 7\n")]);
    let printed = print(&file, &[], &variable);
    assert_eq!((setting(&printed, "workers"), setting(&printed, "timeout")), ("3", "7"));
    let variables = [("WEB_CONCURRENCY", "2"), ("GUNICORN_CMD_ARGS", "--workers 4")];
    assert_eq!(setting(&print(&file, &[], &variables), "workers"), "4");
    let variables = [("GUNICORN_CMD_ARGS", "--workers 4"), ("RGUNICORN_CMD_ARGS", "-w 5")];
    assert_eq!(setting(&print(&file, &[], &variables), "workers"), "5");
    assert_eq!(setting(&print(&file, &["-w", "6"], &variables), "workers"), "6");
}

#[test]
fn a_python_file_is_python() {
    let file = directory(&[(
        "conf.py",
        "import multiprocessing, os\nworkers = sum(1 for _ in range(3))\n\n\
         def helper():\n    return os.environ['HOME_MADE']\n\nproc_name = helper()\nunrelated = object()\n",
    )]);
    let printed = print(&file, &["-c", "conf.py"], &[("HOME_MADE", "made at home")]);
    assert_eq!((setting(&printed, "workers"), setting(&printed, "proc_name")), ("3", "made at home"));
    let module = print(&file, &["-c", "python:conf"], &[("HOME_MADE", "x")]);
    assert_eq!(setting(&module, "workers"), "3");
}

#[test]
fn toml_works_and_complains_with_file_and_line() {
    let file =
        directory(&[("rgunicorn.toml", "workers = 2\nbind = [\"127.0.0.1:8001\", \"127.0.0.1:8002\"]\n")]);
    let printed = print(&file, &[], &[]);
    assert_eq!(setting(&printed, "workers"), "2");
    assert!(setting(&printed, "bind").contains("8002"), "{printed}");
    let file = directory(&[("bad.toml", "workers = 2\n\ntimeuot = 3\n")]);
    let (status, _, error) = build().directory(file.path()).args(["-c", "bad.toml", "promises:app"]).run();
    assert_eq!(status, Some(1), "{error}");
    assert_has(&error, ["bad.toml:3", "timeuot", "timeout"]);
}

#[test]
fn bad_values_say_where_what_and_what_would_be_right() {
    let file = directory(&[
        ("type.py", "workers = [1]\n"),
        ("broken.py", "workers = 1\nraise RuntimeError('not today')\n"),
        ("hook.py", "def ssl_context(config, default):\n    pass\n"),
    ]);
    let cases: [(&[&str], &[&str]); 7] = [
        (&["-w", "many"], &["--workers", "many"]),
        (&["-b", "127.0.0.1:http"], &["--bind", "127.0.0.1:http"]),
        (&["--log-level", "loud"], &["--log-level", "loud", "debug"]),
        (&["-c", "missing.py"], &["missing.py"]),
        (&["-c", "type.py"], &["type.py", "workers", "[1]"]),
        (&["-c", "broken.py"], &["broken.py", "RuntimeError: not today"]),
        (&["-c", "hook.py"], &["ssl_context"]),
    ];
    for (arguments, parts) in cases {
        let (status, _, error) =
            build().no_bind().directory(file.path()).args(arguments).args(["promises:app"]).run();
        assert!(matches!(status, Some(1 | 2)), "{arguments:?}: {status:?} {error}");
        for part in parts {
            assert!(error.contains(part), "{arguments:?}: {part} is missing in {error}");
        }
    }
}

#[test]
fn what_matters_with_the_proxy_protocol_alone_is_taken_without_it() {
    let printed = print(&directory(&[]), &["--proxy-allow-from", "*"], &[]);
    assert_eq!(setting(&printed, "proxy_allow_ips"), "['*']");
}

#[test]
fn check_config_checks() {
    let (status, _, error) = build().args(["--check-config", "promises:app"]).run();
    assert_eq!(status, Some(0), "{error}");
    let (status, _, error) = build().args(["--check-config", "nowhere:app"]).run();
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn the_check_is_made_where_and_as_the_application_would_run() {
    let file = directory(&[
        ("site/data", ""),
        (
            "site/here.py",
            "import os\nopen('data').close()\nassert os.environ['GREETING'] == 'hello'\napp = print\n",
        ),
    ]);
    let arguments = ["--check-config", "--chdir", "site", "-e", "GREETING=hello", "here:app"];
    let (status, _, error) = build().directory(file.path()).args(arguments).run();
    assert_eq!(status, Some(0), "{error}");
}

#[test]
fn the_fault_of_a_broken_file_is_said_once() {
    let file = directory(&[("conf.py", "workers = (\n")]);
    let (status, _, error) = build().directory(file.path()).args(["-c", "conf.py", "promises:app"]).run();
    assert_eq!(status, Some(1), "{error}");
    for part in ["Error: configuration file", "SyntaxError", "workers = ("] {
        assert_eq!(error.matches(part).count(), 1, "{part}: {error}");
    }
}

#[test]
fn paths_may_be_any_bytes() {
    let directory = directory(&[]);
    let home = directory.path().join(OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir(&home).unwrap();
    std::fs::write(
        home.join("place.py"),
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [__file__.encode('utf-8', 'surrogateescape')]\n",
    )
    .unwrap();
    // Python's text for such a path has surrogates in it.
    std::fs::write(
        home.join("conf.py"),
        "import os, pathlib\nchdir = os.path.dirname(os.path.abspath(__file__))\npidfile = pathlib.Path(chdir, 'pid')\n\
         accesslog = os.fsencode(chdir) + b'/access'\n",
    )
    .unwrap();
    let by_arguments: Vec<OsString> = vec![
        "--chdir".into(),
        home.clone().into(),
        "--pid".into(),
        home.join("pid").into(),
        "--access-logfile".into(),
        home.join("access").into(),
    ];
    let by_file = vec!["-c".into(), home.join("conf.py").into()];
    for arguments in [by_arguments, by_file] {
        let server = build().args(arguments).args(["place:app"]).start();
        assert_eq!(server.connect().get("/").body, home.join("place.py").as_os_str().as_bytes());
        let read = |name: &str| std::fs::read_to_string(home.join(name)).unwrap_or_default();
        assert_eq!(read("pid").trim(), server.pid().to_string());
        server.wait_until("the access line", || read("access").ends_with('\n'));
        std::fs::remove_file(home.join("access")).unwrap();
    }
}

#[test]
fn an_abstract_address_may_begin_with_a_zero_byte() {
    let name = format!("rgunicorn-test-{}", std::process::id());
    let file = directory(&[("conf.py", &format!("bind = 'unix:\\0{name}'\n"))]);
    let server =
        build().no_bind().args(["-c"]).args([file.path().join("conf.py")]).args(["promises:app"]).start();
    assert!(server.log().contains(&format!("Listening at: unix:@{name}")), "{}", server.log());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let mut client = UnixStream::connect_addr(&address).unwrap();
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
}

on_every_class! {
    fn the_configuration_file_that_people_have_works_unchanged(class: &str) {
        let file = examples().join("gunicorn-cfg.py");
        let application = if class == "asgi" { "fastapi_app:app" } else { "run:app" };
        let server = build().no_bind().directory(examples()).env("BIND", "127.0.0.1:0")
            .args(["-c"]).args([file]).args(["-k", class, application]).start();
        assert!(server.connect().get("/").text().contains("Hello from "));
        server.wait_for_log("] \"GET / HTTP/1.1\" 200 ");
    }

    fn preload_loads_once(class: &str) {
        let server = build().args(["-w", "2", "--preload", "-k", class, "counted:app"]).start();
        server.wait_for_workers(2);
        for _ in 0..10 {
            let answer = server.connect().get("/").text();
            assert_eq!(answer, format!("loaded by {}", server.pid()));
        }
    }

    fn modules_are_found_where_the_server_was_started_and_where_it_went(class: &str) {
        let file = directory(&[("shared.py", "ANSWER = b'from the start'\n"), (
            "site/there.py",
            &format!("import shared\n\n{}", application("shared.ANSWER")),
        )]);
        for preload in [&[][..], &["--preload"]] {
            let server = build().directory(file.path()).args(["--chdir", "site", "-k", class])
                .args(preload.iter().copied()).args(["there:app"]).start();
            assert_eq!(server.connect().get("/").text(), "from the start", "{preload:?}");
        }
    }

    fn what_a_file_does_to_the_environment_shows_in_the_application(class: &str) {
        let file = directory(&[("conf.py", "import os\nos.environ['ADDED'] = 'yes'\ndel os.environ['DELETED']\n"), (
            "seen.py",
            &format!(
                "import os\nSEEN = f\"{{os.environ.get('ADDED')}} {{os.environ.get('DELETED')}}\"\n\n{}",
                application("SEEN.encode()")
            ),
        )]);
        for preload in [&[][..], &["--preload"]] {
            let server = build().directory(file.path()).env("DELETED", "no").args(["-c", "conf.py", "-k", class])
                .args(preload.iter().copied()).args(["seen:app"]).start();
            assert_eq!(server.connect().get("/").text(), "yes None", "{preload:?}");
        }
    }

    fn the_environment_and_the_file_name_the_application(class: &str) {
        let file = directory(&[("conf.py", "wsgi_app = 'named:app'\nraw_env = ['GREETING=from the file']\n"), (
            "named.py",
            &format!("import os\n\n{}", application("os.environ['GREETING'].encode()")),
        )]);
        let server = build().directory(file.path()).args(["-c", "conf.py", "-k", class]).start();
        assert_eq!(server.connect().get("/").text(), "from the file");
    }
}
