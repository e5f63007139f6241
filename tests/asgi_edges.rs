//! The edges of ASGI: what is refused leaves nothing behind, what an application may do by the specification works.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use rgunicorn_harness::{Builder, Server, assert_has, on_classes, on_every_class};

fn build() -> Builder {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
}

fn serve(arguments: &[&str]) -> Server {
    build().args(["-k", "asgi"]).args(arguments.iter().copied()).args(["asgi_edges:app"]).start()
}

fn seen(server: &Server, what: &str) {
    server
        .wait_until(&format!("{what:?} to be seen"), || server.connect().get("/seen").text().contains(what));
}

const OPENING: &str = "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn a_start_that_is_refused_leaves_nothing_behind() {
    let server = serve(&[]);
    for (path, body) in [("/refused", "error!"), ("/refused-for-good", "Internal Server Error")] {
        let response = server.connect().get(path);
        assert_eq!(response.status, 500, "{}", response.head);
        assert!(response.text().contains(body), "{}", response.text());
        assert!(!response.head.contains("x-first") && !response.head.contains("secret"), "{}", response.head);
    }
    seen(&server, "refused: invalid response header name");
    for (path, status) in [("/refused-accept", 403), ("/refused-response", 418)] {
        let response = server.connect().send(format!("GET {path} HTTP/1.1\r\n{OPENING}")).response();
        assert_eq!(response.status, status, "{}", response.head);
        assert!(!response.head.contains("x-first") && !response.head.contains("secret"), "{}", response.head);
    }
}

#[test]
fn fields_of_the_applications_own_are_sent() {
    let server = serve(&[]);
    let response = server.connect().get("/own-fields");
    assert_eq!(response.header("server"), Some("mine"));
    assert_eq!(response.header("date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
    let names = response.head.to_ascii_lowercase();
    assert_eq!((names.matches("\ndate:").count(), names.matches("\nserver:").count()), (1, 1), "{names}");
    let response = server.connect().get("/upgrade-required");
    assert_eq!((response.status, response.header("upgrade")), (426, Some("h2c")));
    assert_eq!(response.header("connection"), Some("upgrade"));
    // The server's own 426 says what it is about as well.
    let other = OPENING.replace("Version: 13", "Version: 7");
    let response = server.connect().send(format!("GET / HTTP/1.1\r\n{other}")).response();
    assert_eq!((response.status, response.header("upgrade")), (426, Some("websocket")));
}

#[test]
fn trailers_say_nothing_of_the_framing() {
    let server = serve(&[]);
    let mut client = server.connect();
    client.send("GET /trailers HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut bytes = Vec::new();
    while let Ok(some) = client.read_some()
        && !some.is_empty()
    {
        bytes.extend(some);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.ends_with("\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 4\r\n\r\n"), "{text}");
    for name in ["transfer-encoding", "Content-Length", "trailer"] {
        seen(&server, name);
    }
}

#[test]
fn after_a_response_there_is_nothing_to_be_received() {
    let server = serve(&[]);
    let mut client = server.connect();
    client.send("POST /receive-late HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.response().text(), "early");
    seen(&server, "then http.disconnect");
    let mut client = server.connect();
    client.send("POST /receive-late HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\nabc");
    assert_eq!(client.response().text(), "early");
    server.wait_until("the second", || {
        server.connect().get("/seen").text().matches("then http.disconnect").count() == 2
    });
}

#[test]
fn work_behind_a_response_goes_on_without_its_client() {
    let server = serve(&["--asgi-disconnect-grace-period", "1"]);
    let mut leaves = server.connect();
    leaves.send("GET /late-work HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut half = server.connect();
    half.send("GET /late-work HTTP/1.1\r\nHost: a\r\n\r\n").finish();
    server.wait_until("both to have begun", || {
        server.connect().get("/seen").text().matches("late work").count() >= 2
    });
    drop(leaves);
    assert_eq!(half.response().text(), "answered");
    drop(half);
    server.wait_until("both to be done", || {
        let seen = server.connect().get("/seen").text();
        assert!(!seen.contains("CancelledError"), "{seen}");
        seen.matches("late work done").count() == 2
    });
}

#[test]
fn requests_are_cancelled_before_the_lifespan_ends() {
    for (choice, signal) in
        [("asyncio", Signal::SIGTERM), ("uvloop", Signal::SIGTERM), ("asyncio", Signal::SIGINT)]
    {
        let mut server = serve(&["--asgi-loop", choice, "--graceful-timeout", "1"]);
        let mut client = server.connect();
        client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
        server.wait_for_log("request: holds");
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0));
        let log = server.log();
        let place = |what: &str| log.find(what).unwrap_or_else(|| panic!("{what:?} is missing in {log}"));
        assert!(place("request: cleaned up, pool open") < place("lifespan: closes the pool"), "{log}");
    }
}

#[test]
fn handlers_of_signals_do_not_keep_a_worker_from_stopping() {
    for choice in ["asyncio", "uvloop"] {
        for handlers in ["loop", "removed", "signal"] {
            let arguments =
                ["-k", "asgi", "--asgi-loop", choice, "--graceful-timeout", "300", "asgi_edges:app"];
            let mut server = build().env("HANDLERS", handlers).args(arguments).start();
            for (signal, times) in [(Signal::SIGHUP, 1), (Signal::SIGTERM, 2)] {
                let mut client = server.connect();
                client.send("GET /short HTTP/1.1\r\nHost: a\r\n\r\n");
                server.wait_for_log_times("request: is here", times);
                server.signal(signal);
                assert_eq!(client.response().text(), "answered", "{choice} {handlers}");
                if signal == Signal::SIGHUP {
                    server.wait_for_log_times("is ready", 2);
                    server.wait_for_log_times("lifespan: closes the pool", 1);
                    server.wait_for_workers(1);
                }
            }
            assert_eq!(server.wait().code(), Some(0), "{choice} {handlers}");
            let log = server.log();
            let called = if handlers == "removed" { 0 } else { 2 };
            assert_eq!(log.matches("handler: called").count(), called, "{choice} {handlers}: {log}");
            assert_eq!(log.matches("lifespan: closes the pool").count(), 2, "{log}");
        }
    }
}

#[test]
fn a_start_up_that_fails_is_told_whatever_becomes_of_it() {
    let server = build().args(["-k", "asgi", "asgi_edges:app"]).env("LIFESPAN", "raise").start();
    server.wait_for_log("ValueError: raised at start-up");
    assert_has(&server.log(), ["[ERROR] The application's start-up (lifespan) failed", "Traceback"]);
    assert_eq!(server.connect().get("/seen").text(), "[]");
    // One that doesn't know the protocol at all is no error.
    let server = build().args(["-k", "asgi", "asgi_edges:app"]).env("LIFESPAN", "unknown").start();
    server.wait_for_log("[INFO] The application doesn't know the lifespan protocol: NotImplementedError");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn a_request_is_called_what_its_application_is() {
    for choice in ["asyncio", "uvloop"] {
        let facts = serve(&["--asgi-loop", choice]).connect().get("/facts").text();
        assert_has(
            &facts,
            ["\"same_loop\": true", "\"name\": \"app\"", "\"qualname\": \"app\"", "coro=<app() running"],
        );
    }
}

on_classes! { [asgi tornado]
    fn what_is_made_at_import_belongs_to_the_loop_that_runs(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        for (name, before) in [
            ("plain", "loop = asyncio.get_event_loop()"),
            ("closes", "asyncio.get_event_loop().close(); loop = None"),
            ("runs", "asyncio.run(asyncio.sleep(0)); loop = None"),
            ("prepares", "loop = asyncio.get_event_loop(); loop.run_until_complete(asyncio.sleep(0))"),
        ] {
            let text = format!(
                "import asyncio\n{before}\n\
                 task = loop and loop.create_task(asyncio.sleep(0))\n\
                 def answer():\n\
                 \x20   return b'same' if loop in (None, asyncio.get_running_loop()) else b'another'\n{}",
                rgunicorn_harness::application("answer()")
            );
            std::fs::write(directory.path().join(format!("{name}.py")), text).unwrap();
            let server = build().directory(directory.path()).args(["-k", class, &format!("{name}:app")]).start();
            assert_eq!(server.connect().get("/").text(), "same", "{name}");
        }
    }
}

#[test]
fn root_paths_have_no_slash_at_their_end() {
    let scope = |root: &str, target: &str| {
        let server = build().args(["-k", "asgi", "--root-path", root, "asgi:app"]).start();
        server.connect().get(target).text()
    };
    assert_has(&scope("/", "/x"), ["\"root_path\": \"\"", "\"path\": \"/x\"", "\"raw_path\": \"/x\""]);
    let parts = ["\"root_path\": \"/app\"", "\"path\": \"/app/x\"", "\"raw_path\": \"/app/x\""];
    for root in ["/app/", "/app", "app"] {
        assert_has(&scope(root, "/x"), parts);
        assert_has(&scope(root, "/app/x"), parts);
    }
}

#[test]
fn proxies_go_by_any_name_where_all_are_trusted() {
    let server = build().args(["-k", "asgi", "--forwarded-allow-ips", "*", "asgi:app"]).start();
    let ask = |hops: &str| {
        let request = format!(
            "GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {hops}\r\nX-Forwarded-Proto: wss\r\n\r\n"
        );
        server.connect().send(request).response().text()
    };
    assert_has(
        &ask("1.2.3.4, unix:, proxy-7, ::1"),
        ["\"client\": [\"1.2.3.4\", 0]", "\"scheme\": \"https\""],
    );
    assert_has(&ask("[2001:db8::1]:80, _hidden"), ["\"client\": [\"2001:db8::1\", 80]"]);
    // Where only some are, who goes by no address isn't one of them.
    let server = build().args(["-k", "asgi", "--forwarded-allow-ips", "127.0.0.1", "asgi:app"]).start();
    let request = "GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4, unix:\r\n\r\n";
    assert_has(&server.connect().send(request).response().text(), ["\"client\": [\"unix:\", 0]"]);
}

#[test]
fn a_websocket_behind_traefik_is_secure() {
    let server = build().args(["-k", "asgi", "asgi:app"]).start();
    let mut client = server.connect();
    let opening = OPENING.replace("Host: a\r\n", "Host: a\r\nX-Forwarded-Proto: wss\r\n");
    client.send(format!("GET /scope HTTP/1.1\r\n{opening}"));
    let mut text = String::new();
    while !text.contains("\"type\": \"websocket\"") {
        text.push_str(&String::from_utf8_lossy(&client.read_some().unwrap()));
    }
    assert!(text.contains("\"scheme\": \"wss\""), "{text}");
}

const STREAM: &str = "import asyncio, time, helper\n\
    class Site:\n\
    \x20   def __call__(self, *call):\n\
    \x20       return self.wsgi(*call) if len(call) == 2 else self.asgi(*call)\n\
    \x20   def wsgi(self, environ, start_response):\n\
    \x20       start_response('200 OK', [('Content-Type', 'text/plain')])\n\
    \x20       return self.stream() if environ['PATH_INFO'] == '/stream' else [helper.word]\n\
    \x20   def stream(self):\n\
    \x20       while True:\n\
    \x20           yield helper.word\n\
    \x20           time.sleep(0.05)\n\
    \x20   async def asgi(self, scope, receive, send):\n\
    \x20       await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n\
    \x20       while scope['path'] == '/stream':\n\
    \x20           await send({'type': 'http.response.body', 'body': helper.word, 'more_body': True})\n\
    \x20           await asyncio.sleep(0.05)\n\
    \x20       await send({'type': 'http.response.body', 'body': helper.word})\n\
    app = Site()\n";

on_every_class! {
    fn a_reload_for_changed_files_waits_for_no_stream(class: &str) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("site1.py"), STREAM).unwrap();
        std::fs::write(directory.path().join("helper.py"), "word = b'first'\n").unwrap();
        let arguments = ["--reload", "--graceful-timeout", "600", "site1:app"];
        let server = build().directory(directory.path()).args(["-k", class]).args(arguments).start();
        let mut client = server.connect();
        client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(String::from_utf8_lossy(&client.read_some().unwrap()).starts_with("HTTP/1.1 200 OK"));
        let helper = directory.path().join("helper.py");
        std::fs::write(helper.with_extension("new"), "word = b'second'\n").unwrap();
        std::fs::rename(helper.with_extension("new"), &helper).unwrap();
        server.wait_for_log("helper.py modified");
        server.wait_until("the new code is served", || {
            let mut client = server.connect();
            client.set_timeout(Duration::from_secs(1)).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            client.read_response(false).is_ok_and(|response| response.text() == "second")
        });
        // The old one goes on for as long as it is let.
        assert!(!client.read_some().unwrap().is_empty());
        thread::sleep(Duration::from_millis(200));
        assert!(String::from_utf8_lossy(&client.read_some().unwrap()).contains("first"));
    }
}
