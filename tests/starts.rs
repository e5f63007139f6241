//! What can't start says why, and with gunicorn's exit status.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use rgunicorn_harness::{Server, assert_has, on_every_class};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(arguments).run()
}

#[test]
fn no_application_is_a_usage_error() {
    let (status, _, error) = run(&[]);
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("no application given"), "{error}");
}

#[test]
fn an_unknown_class_lists_the_known_ones() {
    let (status, _, error) = run(&["-k", "evnet", "promises:app"]);
    assert_eq!(status, Some(1), "{error}");
    assert_has(&error, ["evnet", "event", "sync"]);
}

#[test]
fn a_setting_that_is_not_there_yet_is_refused_by_name() {
    let (status, _, error) = run(&["--http2-cleartext", "both", "promises:app"]);
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("http2_cleartext"), "{error}");
}

#[test]
fn an_unknown_flag_is_a_usage_error_with_the_nearest_one() {
    let (status, _, error) = run(&["--workerz", "3", "promises:app"]);
    assert_eq!(status, Some(2), "{error}");
    assert!(error.contains("--workers"), "{error}");
}

#[test]
fn a_port_in_use_is_said_and_ends_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, _, error) =
        Server::build(env!("CARGO_BIN_EXE_rgunicorn")).no_bind().args(["-b", &address, "promises:app"]).run();
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("Connection in use") && error.contains(&address), "{error}");
}

#[test]
fn version_and_help_are_there() {
    let (status, output, _) = run(&["--version"]);
    assert_eq!(status, Some(0));
    assert!(output.contains(env!("CARGO_PKG_VERSION")), "{output}");
    let (status, output, _) = run(&["--help"]);
    assert_eq!(status, Some(0));
    assert_has(&output, ["--worker-class", "--bind", "--max-requests-jitter", "--client-header-timeout"]);
}

#[test]
fn what_goes_wrong_before_there_is_a_log_is_said() {
    let builder = || Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["promises:app"]);
    let (status, _, error) = builder().env("LISTEN_PID", "abc").env("LISTEN_FDS", "1").run();
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("LISTEN_PID"), "{error}");
    let gone = tempfile::tempdir().unwrap();
    let command = builder().directory(gone.path()).command();
    let mut shell = std::process::Command::new("sh");
    shell.current_dir(gone.path()).args(["-c", "rmdir \"$PWD\" && exec \"$0\" \"$@\""]);
    let output = shell.arg(command.get_program()).args(command.get_args()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("The working directory that the server was started in"), "{error}");
}

on_every_class! {
    fn a_module_that_can_not_be_imported_ends_with_3(class: &str) {
        for (application, complaint) in [
            ("nowhere:app", "ModuleNotFoundError"), ("broken:app", "RuntimeError: broken at import"),
            ("unset:app", "ValueError: SECRET_KEY is not set"), (":app", "no module name"),
            ("promises.py", "is a file"),
        ] {
            let (status, _, error) = run(&["-k", class, application]);
            assert_eq!(status, Some(3), "{application}: {error}");
            assert!(error.contains(complaint), "{application}: {error}");
            assert!(error.contains("Reason: Worker failed to boot."), "{application}: {error}");
            let (status, _, error) = run(&["-k", class, "--preload", application]);
            assert_eq!(status, Some(1), "{application}: {error}");
            assert!(error.contains(complaint), "{application}: {error}");
        }
    }

    fn an_application_that_is_not_in_its_module_ends_with_4(class: &str) {
        for (application, complaint) in [
            ("promises:nothing", "nothing"), ("promises:closed", "can't be called"),
            ("forms:make(1, 2, 3, 4)", "positional argument"), ("promises:app+1", "names no application"),
        ] {
            let (status, _, error) = run(&["-k", class, application]);
            assert_eq!(status, Some(4), "{application}: {error}");
            assert!(error.contains(complaint), "{application}: {error}");
            assert!(error.contains("Reason: App failed to load."), "{application}: {error}");
        }
    }

    fn every_form_of_naming_an_application_works(class: &str) {
        for (application, answer) in [
            ("forms", "application"), ("forms:app", "app"), ("forms:holder.inner.app", "inner"),
            ("forms:make()", "made nobody 0"), ("forms:make(\"you\", times=2)", "made you 2"),
        ] {
            let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", class, application]).start();
            assert_eq!(server.connect().get("/").text(), answer, "{application}");
        }
    }
}
