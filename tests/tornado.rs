//! `-k tornado`: tornado's applications, and WSGI applications in its loop.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rgunicorn_harness::Server;

fn serve(class: &str, application: &str) -> Server {
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", class, application]).start();
    server.wait_for_workers(1);
    server
}

#[test]
fn websocket_handlers_of_tornados() {
    let server = serve("tornado", "tornado_site:app");
    let client = rgunicorn_harness::repository().join("tests/clients/tornado_websocket.py");
    let output = std::process::Command::new(rgunicorn_harness::python())
        .args([client.as_os_str(), server.port().to_string().as_ref()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), server.log());
    server.wait_for_log("ValueError: failed in a message");
}

#[test]
fn an_application_of_tornados() {
    let mut server = serve("tornado", "tornado_site:app");
    let mut client = server.connect();
    let response = client.get("/?name=you");
    assert_eq!(response.text(), r#"{"hello": "you", "ip": "127.0.0.1"}"#);
    assert_eq!((response.header("x-kept"), response.header("content-length")), (Some("yes"), Some("35")));
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response().text(), "hello");
    let body =
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nabc\r\n--b--\r\n";
    client.send(format!(
        "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(client.response().text(), "a.txt 3");
    assert_eq!(client.get("/stream").text(), "0,1,2,");
    client
        .send("PUT /count HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
        .send(vec![b'c'; 3_000_000]);
    assert_eq!(client.response().text(), "3000000");
    assert_eq!(client.get("/fail").status, 500);
    assert_eq!(client.get("/nowhere").status, 404);
    // Side by side.
    let start = Instant::now();
    let mut clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().text(), "waited");
    }
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    let mut leaver = server.connect();
    leaver.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(200));
    drop(leaver);
    server.wait_until("the handler to be told", || server.connect().get("/closed").text() == "closed");
    let mut last = server.connect();
    last.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(200));
    server.signal(Signal::SIGTERM);
    assert_eq!(last.response().text(), "waited");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_handler_that_streams_without_end_is_told_that_its_client_has_left() {
    let server = serve("tornado", "tornado_site:app");
    let mut client = server.connect();
    client.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!client.read_some().unwrap().is_empty());
    // Nor does it keep others from theirs.
    assert_eq!(server.connect().get("/closed").status, 200);
    drop(client);
    server.wait_until("the handler to be told", || {
        server.connect().get("/closed").text().contains("the stream is closed")
    });
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn a_wsgi_application_in_its_loop() {
    let server = serve("gunicorn.workers.gtornado.TornadoWorker", "promises:raw");
    let mut client = server.connect();
    assert_eq!(client.get("/").text(), "hello\n");
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response().text(), "hello");
    assert_eq!(client.get("/stream?n=3&size=2").text(), "001122");
    assert_eq!(client.get("/status?line=404%20Gone%20Fishing").status, 404);
    assert!(server.log().contains("Using worker: tornado"), "{}", server.log());
}

#[test]
fn a_library_that_is_missing_is_named() {
    for class in ["gevent", "eventlet", "tornado"] {
        let hidden = tempfile::tempdir().unwrap();
        let module = format!("raise ImportError('no {class} here')\n");
        std::fs::write(hidden.path().join(format!("{class}.py")), module).unwrap();
        let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"));
        let path = hidden.path().display().to_string();
        let (status, _, said) = server.args(["-k", class, "--pythonpath", &path, "promises:app"]).run();
        assert_eq!(status, Some(3), "{said}");
        assert!(said.contains(&format!("pip install {class}")) && said.contains("class coro"), "{said}");
    }
}
