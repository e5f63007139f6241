//! Real applications, asked by a real client: Flask, Django and httpbin through `requests`.

use std::process::Command;

use rgunicorn_harness::{Server, examples, on_wsgi_classes, python, repository};

/// Runs a Python script with the server's address; it asserts what it expects.
fn ask(server: &Server, script: &str) {
    let path = repository().join("tests/clients").join(script);
    let output = Command::new(python()).arg(path).arg(server.url()).output().expect("the client runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
}

fn example(class: &str, application: &str) -> Server {
    let build = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).directory(examples());
    let server = build.args(["-w", "2", "-k", class, application]).start();
    server.wait_for_workers(2);
    server
}

on_wsgi_classes! {
    fn plain_wsgi(class: &str) {
        assert_eq!(example(class, "run:app").connect().get("/").text(), "Hello from rgunicorn\n");
    }

    fn flask(class: &str) {
        let server = example(class, "flask_app:app");
        ask(&server, "flask_client.py");
        assert!(!server.log().contains("ERROR"), "{}", server.log());
    }

    fn django(class: &str) {
        let server = example(class, "django_app:application");
        ask(&server, "django_client.py");
        assert!(!server.log().contains("ERROR"), "{}", server.log());
    }

    fn httpbin(class: &str) {
        let server = example(class, "httpbin:app");
        ask(&server, "httpbin_client.py");
        assert!(!server.log().contains("ERROR"), "{}", server.log());
    }
}
