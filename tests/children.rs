//! Processes that an application forks have all that their worker has, and are nobody to its connections.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::io;
use std::time::Duration;

use rgunicorn_harness::{Client, Server, on_every_class};

fn server(class: &str, arguments: &[&str]) -> Server {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", class, "children:app"]).args(arguments).start()
}

/// A connection that the worker has.
fn had(server: &Server) -> Client {
    let mut client = server.connect();
    client.send("GET ");
    // Connections are taken one after the other.
    assert_eq!(server.connect().get("/").status, 200);
    client
}

on_every_class! {
    fn a_connection_ends_though_a_child_has_its_socket(class: &str) {
        let server = server(class, &["--keep-alive", "1"]);
        let (mut before, mut broken) = (had(&server), had(&server));
        let mut kept = server.connect();
        kept.get("/");
        let mut client = server.connect();
        // Nothing but the end of the connection ends the response.
        client.send("GET /fork HTTP/1.0\r\n\r\n");
        assert_eq!(client.response().text(), "some, and more");
        before.send("/ HTTP/1.0\r\n\r\n");
        assert_eq!(before.response().text(), "some, and more");
        // What is cut off doesn't look like an end.
        broken.send("/broken HTTP/1.0\r\n\r\n");
        assert_eq!(broken.read_response(false).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(kept.read_some().unwrap(), b"", "its time is over");
        // What the worker gets from now on no child has.
        assert_eq!(server.connect().send("GET / HTTP/1.0\r\n\r\n").response().text(), "some, and more");
    }
}

#[test]
fn what_becomes_of_a_closed_connection_is_not_told_to_others() {
    let server = server("asgi", &["--keep-alive", "1"]);
    let mut closed: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    closed.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    assert_eq!(server.connect().get("/fork").status, 200);
    for client in &mut closed {
        assert_eq!(client.read_some().unwrap(), b"");
    }
    // The worker has a moment's patience with who was told so, and then forgets them.
    std::thread::sleep(Duration::from_millis(600));
    let mut polls: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut polls {
        client.send("GET /poll HTTP/1.1\r\nHost: t\r\n\r\n");
    }
    assert_eq!(server.connect().get("/").status, 200);
    drop(closed);
    for client in &mut polls {
        assert_eq!(client.response().text(), "it stayed");
    }
}
