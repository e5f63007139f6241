//! A connection that goes from worker to worker stays what it was: all that was established about it goes with it.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use nix::sys::signal::Signal;
use rgunicorn_harness::{Client, Server, on_every_class};
use serde_json::Value;

const CLIENT: &str = "PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n";
const CLIENT_OF_TCP6: &str = "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n";
const NOBODY: &str = "PROXY UNKNOWN\r\n";

/// What the proxy says is believed, as the proxy is: no client that it names is.
const BEGINNING: &str = "GET /environ?q=1 HTTP/1.1\r\nHost: t\r\nX-Forwarded-Proto: https\r\n";
const END: &str = "X-Forwarded-For: 192.0.2.9\r\n\r\n";

fn server(class: &str, arguments: &[&str]) -> Server {
    // Every field of the environ, or of the scope, is in the answer.
    let application = if class == "asgi" { "asgi:app" } else { "promises:raw" };
    Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .args(["-k", class, "--proxy-protocol", "auto", "--keep-alive", "60"])
        .args(["--forwarded-allow-ips", "127.0.0.1", "--proxy-allow-from", "127.0.0.1"])
        .args(arguments)
        .args([application])
        .start()
}

fn seen(client: &mut Client) -> Value {
    serde_json::from_str(&client.response().text()).unwrap()
}

fn ask(client: &mut Client) -> Value {
    client.send([BEGINNING, END].concat());
    seen(client)
}

/// Connections that stay at their worker, idle or in the middle of a request, and what the application is to see on each.
struct Kept {
    idle: Vec<(Client, Value)>,
    begun: Vec<(Client, Value)>,
}

impl Kept {
    fn begin(server: &Server, class: &str) -> Kept {
        let mut kept = Kept { idle: Vec::new(), begun: Vec::new() };
        for preface in [CLIENT, CLIENT_OF_TCP6, NOBODY, ""] {
            let mut client = server.connect();
            client.send(preface);
            let mut expected = ask(&mut client);
            assert!(expected.to_string().contains("\"https\""), "{expected}");
            if class != "sync" {
                kept.idle.push((client, expected.clone()));
            }
            let mut client = server.connect();
            if !preface.contains("TCP") {
                let port = Value::from(client.stream().local_addr().unwrap().port());
                match class {
                    "asgi" => expected["client"] = serde_json::json!(["192.0.2.9", 0]),
                    _ => expected["REMOTE_PORT"] = port.to_string().into(),
                }
            }
            client.send(preface).send(BEGINNING);
            kept.begun.push((client, expected));
        }
        // What was sent has been read when others have been answered, by each worker.
        for _ in 0..8 {
            assert_eq!(server.connect().get("/").status, 200);
        }
        kept
    }

    fn are_the_same(mut self) {
        for (client, expected) in &mut self.begun {
            client.send(END);
            assert_eq!(&seen(client), expected);
        }
        for (client, expected) in &mut self.idle {
            assert_eq!(&ask(client), expected);
            // What the client says of itself later is no word of the proxy's.
            client.send("PROXY TCP4 10.0.0.1 198.51.100.1 1 443\r\n").send([BEGINNING, END].concat());
            assert_eq!(client.response().status, 400);
        }
    }
}

on_every_class! {
    fn a_reload_changes_nothing(class: &str) {
        let server = server(class, &["-w", "2"]);
        server.wait_for_log_times("is ready", 2);
        let kept = Kept::begin(&server, class);
        let old = server.workers();
        server.signal(Signal::SIGHUP);
        server.wait_until("the old workers to leave", || server.workers().iter().all(|worker| !old.contains(worker)));
        kept.are_the_same();
    }

    fn max_requests_changes_nothing(class: &str) {
        let server = server(class, &["--max-requests", "30"]);
        server.wait_for_log_times("is ready", 1);
        let kept = Kept::begin(&server, class);
        let old = server.workers();
        server.wait_until("another worker", || {
            assert_eq!(server.connect().get("/").status, 200);
            !server.workers().contains(&old[0])
        });
        kept.are_the_same();
    }
}

#[test]
fn a_slow_request_beside_it_changes_nothing() {
    let server = server("event", &["-w", "2"]);
    server.wait_for_log_times("is ready", 2);
    let mut client = server.connect();
    client.send(CLIENT);
    let expected = ask(&mut client);
    let worker = client.get("/pid").text();
    let mut beside = server.connect();
    while beside.get("/pid").text() != worker {
        beside = server.connect();
    }
    beside.send("GET /sleep?s=2 HTTP/1.1\r\nHost: t\r\n\r\n");
    server.wait_until("the other worker to have it", || {
        assert_eq!(ask(&mut client), expected);
        client.get("/pid").text() != worker
    });
    assert_eq!(ask(&mut client), expected);
    assert_eq!(beside.response().status, 200);
}

on_every_class! {
    fn none_is_lost_where_descriptors_run_out(class: &str) {
        let binary = env!("CARGO_BIN_EXE_rgunicorn");
        let few = ["-c", "ulimit -n 80; exec \"$@\"", "bash", binary, "-k", class];
        let server = Server::build("bash").no_bind().args(few).args(["-w", "3", "-b", "127.0.0.1:0", "promises:raw"]).start();
        server.wait_for_log_times("is ready", 3);
        let mut clients: Vec<Client> = (0..120).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send("GET ");
        }
        // In the end one worker has what three had, of which it can take about half.
        for workers in [2, 1] {
            server.signal(Signal::SIGTTOU);
            server.wait_for_workers(workers);
        }
        for client in &mut clients {
            client.send("/ HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.response().status, 200);
        }
        assert!(!server.log().contains("cannot take over"), "{}", server.log());
    }
}
