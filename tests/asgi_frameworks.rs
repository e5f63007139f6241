//! `-k asgi` with real applications and strict clients: FastAPI, Starlette, Django, Quart, Socket.IO; h11, wsproto.

use std::process::Command;

use nix::sys::signal::Signal;
use rgunicorn_harness::{Server, python, repository};

fn serve(application: &str) -> Server {
    let build = Server::build(env!("CARGO_BIN_EXE_rgunicorn"));
    build.args(["-k", "uvicorn.workers.UvicornWorker", application]).start()
}

/// Runs a Python script with the server's address; it asserts what it expects.
fn ask(server: &Server, script: &str, arguments: &[&str]) {
    let path = repository().join("tests/clients").join(script);
    let mut client = Command::new(python());
    client.arg(path).arg(server.url()).args(arguments).current_dir(repository());
    let output = client.output().expect("the client runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
}

/// The server ends as it should, and its log has so many errors.
fn end(mut server: Server, errors: usize) {
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert_eq!(server.log().matches("[ERROR]").count(), errors, "{}", server.log());
}

#[test]
fn fastapi() {
    let server = serve("fastapi_site:app");
    ask(&server, "fastapi_client.py", &["tests/apps/fastapi_site.py"]);
    assert!(server.log().contains("ValueError: FastAPI fails"), "{}", server.log());
    end(server, 1);
}

#[test]
fn django() {
    let server = serve("django_asgi:application");
    ask(&server, "django_asgi_client.py", &[]);
    end(server, 0);
}

#[test]
fn asgiref() {
    let server = serve("asgiref_site:app");
    ask(&server, "asgiref_client.py", &[]);
    assert!(server.log().contains("ValueError: failed in a thread"), "{}", server.log());
    end(server, 1);
}

#[test]
fn quart() {
    let server = serve("quart_site:app");
    ask(&server, "quart_client.py", &[]);
    end(server, 0);
}

#[test]
fn socket_io() {
    let server = serve("socketio_site:app");
    ask(&server, "socketio_client.py", &[]);
    end(server, 0);
}

#[test]
fn h11_finds_nothing_wrong() {
    let server = serve("asgi:app");
    ask(&server, "h11_client.py", &[]);
    end(server, 2);
}

#[test]
fn wsproto_finds_nothing_wrong() {
    let server = serve("asgi:app");
    ask(&server, "wsproto_client.py", &[]);
    end(server, 0);
}
