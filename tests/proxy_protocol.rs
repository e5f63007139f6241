//! The PROXY protocol: the application, the access log and the hooks see the client that a trusted proxy names.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use rgunicorn_harness::{Server, on_every_class};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.2 56324 443\r\n";

/// The same, in version 2, with one more item than is asked for.
fn v2() -> Vec<u8> {
    let addresses = [192, 0, 2, 7, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb, 0x04, 0, 1, 0];
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10".as_slice(), &addresses].concat()
}

fn server(class: &str, arguments: &[&str]) -> Server {
    let binary = env!("CARGO_BIN_EXE_rgunicorn");
    let log = ["--access-logfile", "-", "--access-logformat", "from=%(h)s %(r)s %(s)s"];
    Server::build(binary).args(["-k", class, "promises:app"]).args(log).args(arguments).start()
}

fn assert_named(environ: &str, class: &str) {
    assert!(environ.contains("\"REMOTE_ADDR\": \"192.0.2.7\""), "{environ}");
    if class != "asgi" {
        let named = [
            "\"PROXY_PROTOCOL\": \"TCP4\"",
            "\"PROXY_ADDR\": \"198.51.100.2\"",
            "\"PROXY_PORT\": \"443\"",
            "\"REMOTE_PORT\": \"56324\"",
        ];
        assert!(named.iter().all(|part| environ.contains(part)), "{environ}");
    }
}

on_every_class! {
    fn the_client_that_a_proxy_names_is_the_client(class: &str) {
        let server = server(class, &["--proxy-protocol"]);
        for (number, header) in [V1.to_vec(), v2()].into_iter().enumerate() {
            let mut client = server.connect();
            // In two pieces, and with a second request behind the first.
            client.send(&header[..9]);
            std::thread::sleep(std::time::Duration::from_millis(20));
            client.send([&header[9..], b"GET /environ HTTP/1.1\r\nHost: t\r\n\r\n"].concat());
            assert_named(&client.response().text(), class);
            if class != "sync" {
                // It holds for the whole connection.
                assert_named(&client.get("/environ").text(), class);
            }
            server.wait_for_log_times("from=192.0.2.7 GET /environ", number + 1);
        }
        // Of Unix sockets and of datagrams there is nothing to be said: the connection is what it is.
        for (family, length) in [(0x31, 216_u16), (0x12, 12)] {
            let header = [b"\r\n\r\n\0\r\nQUIT\n\x21", &[family][..], &length.to_be_bytes(), &vec![b'x'; length.into()]].concat();
            let mut client = server.connect();
            client.send([&header[..], b"GET /environ HTTP/1.1\r\nHost: t\r\n\r\n"].concat());
            let environ = client.response().text();
            assert!(environ.contains("\"REMOTE_ADDR\": \"127.0.0.1\""), "{environ}");
            assert!(!environ.contains("PROXY_PROTOCOL"), "{environ}");
        }
        let plain = server.connect().get("/environ").text();
        assert!(plain.contains("\"REMOTE_ADDR\": \"127.0.0.1\""), "the header is optional: {plain}");
    }
}

#[test]
fn others_may_not_say_who_their_client_is() {
    let server = server("event", &["--proxy-protocol", "--proxy-allow-from", "192.0.2.1"]);
    for header in [V1.to_vec(), v2()] {
        let mut client = server.connect();
        client.send(&header).send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        assert_eq!(client.response().status, 403);
        assert!(client.is_closed());
    }
    assert_eq!(server.connect().get("/").status, 200);
}

#[test]
fn a_malformed_header_ends_the_connection() {
    let server = server("event", &["--proxy-protocol", "v1"]);
    let bad = ["PROXY TCP4 nobody nowhere 1 2\r\n", "PROXY TCP4 192.0.2.7 198.51.100.2 70000 2\r\n"];
    for header in bad {
        let mut client = server.connect();
        client.send(header).send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        assert_eq!(client.response().status, 400);
        assert!(client.is_closed());
    }
    // Without the setting, or for a version that isn't asked for, it is just no HTTP.
    let mut client = server.connect();
    client.send(v2()).send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(client.response().status, 400);
}
