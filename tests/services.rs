//! Applications wait for real services with the drivers that people use, unchanged: on `coro`, thousands at a time on one
//! thread, they answer as they do on `threads`.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::time::Duration;

use rgunicorn_harness::{Client, Server, services};

/// How many ask for the same at once.
const AT_ONCE: usize = 30;

fn server(class: &str, application: &str, who: &str) -> Server {
    let build = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-w", "1", "-k", class]);
    build
        .args(["--threads", "40", "--timeout", "180", application])
        .env("SERVICES", services())
        .env("WHO", format!("{who}_{class}"))
        .start()
}

/// What a route answers, asked many times at once.
fn answers(server: &Server, route: &str) -> Vec<String> {
    let ask = |n| {
        let mut client = server.connect();
        client.set_timeout(Duration::from_secs(170));
        client.send(format!("GET /{route}/{n} HTTP/1.1\r\nHost: t\r\n\r\n"));
        client
    };
    let mut clients: Vec<_> = (0..AT_ONCE).map(ask).collect();
    let answer = |client: &mut Client| {
        let response = client.read_response(false);
        response.map_or_else(|error| error.to_string(), |got| format!("{} {}", got.status, got.text().trim()))
    };
    clients.iter_mut().map(answer).collect()
}

/// Each route, asked on both classes, answers the same; the first answer is this one, or begins so.
fn agree(application: &str, who: &str, routes: &[(&str, &str)]) {
    let (threads, coro) = (server("threads", application, who), server("coro", application, who));
    for (route, first) in routes {
        let wanted = answers(&threads, route);
        assert!(wanted[0].starts_with(&format!("200 {first}")), "{route}: {}\n{}", wanted[0], threads.log());
        assert_eq!(answers(&coro, route), wanted, "{route}\n{}", coro.log());
    }
    assert!(!coro.log().contains("ERROR"), "{}", coro.log());
}

#[test]
fn psycopg2() {
    agree(
        "databases:application",
        "psycopg2",
        &[
            ("psycopg2", r#"{"answer":[0,"test"],"closed":1,"length":300000}"#),
            ("psycopg2_counter", r#"{"one more":true}"#),
            ("psycopg2_count", r#"{"count":30}"#),
            ("psycopg2_pooled", r#"{"answer":0}"#),
            (
                "psycopg2_errors",
                r#"["QueryCanceled","DivisionByZero","UndefinedColumn","UniqueViolation",true]"#,
            ),
            ("psycopg2_copy", r#"{"same":true}"#),
            ("psycopg2_notify", r#"{"heard":["0"],"readable":1}"#),
        ],
    );
}

#[test]
fn psycopg_3() {
    agree(
        "databases:application",
        "psycopg",
        &[
            ("psycopg", r#"{"answer":0,"piped":[0,1,2,3,4],"total":200010000}"#),
            ("psycopg_pooled", r#"{"answer":0}"#),
            ("psycopg_async", "[0,1,2]"),
        ],
    );
}

#[test]
fn sqlalchemy_with_its_pool_and_its_greenlets() {
    agree(
        "databases:application",
        "sqlalchemy",
        &[
            ("sqlalchemy", r#"{"answer":0,"found":"item 0"}"#),
            ("sqlalchemy_async", r#"[[0,"Session"],[1,"Session"],[2,"Session"]]"#),
            ("greenlets", "[[0,0],[0,0],[1,0],[-1,0],[2,0],[-2,0],[3,0],[-3,0],\"over\",\"over\",true"),
        ],
    );
}

#[test]
fn djangos_orm() {
    agree(
        "databases:application",
        "django",
        &[("django", r#"{"titles": ["0-0", "0-1", "0-2", "0-3", "0-4"], "gone": 5, "in": false}"#)],
    );
}

/// Its threads open a latch that each request has among its thread-local variables.
#[test]
fn tokenizers_and_rayons_threads() {
    agree(
        "native_libraries:app",
        "tokenizers",
        &[("tokenizers_trained", "[1, 3, 1, 3"), ("tokenizers", "600")],
    );
}

#[test]
fn pymysql_and_mariadb() {
    agree(
        "databases:application",
        "pymysql",
        &[
            ("pymysql", r#"{"answer":0,"length":100000,"one more":true}"#),
            ("pymysql_count", r#"{"count":30}"#),
        ],
    );
}

#[test]
fn mysqlclient_and_mariadb() {
    agree(
        "databases:application",
        "mysqlclient",
        &[
            ("mysqlclient", r#"{"answer":0,"code":1054,"length":100000,"one more":true}"#),
            ("pymysql_count", r#"{"count":30}"#),
        ],
    );
}

#[test]
fn redis_py() {
    agree(
        "remotes:app",
        "redis",
        &[
            ("redis", r#"{"length":200000,"piped":["1","3","[b'0', b'1', b'2']","1"]}"#),
            ("redis_sum", r#"{"sum":30}"#),
            ("redis_waits", r#"[null,"0","hello",1]"#),
        ],
    );
}

#[test]
fn requests_and_urllib3_over_tls() {
    agree(
        "remotes:app",
        "https",
        &[
            ("requests", r#"[200,1000,200000,true,"ReadTimeout","SSLError"]"#),
            ("urllib3", "[[1,2,3],100000]"),
        ],
    );
}

#[test]
fn grpc_client_and_server() {
    agree(
        "remotes:app",
        "grpc",
        &[("grpc", r#"["0 tseuqer",["0","1","2","3","4"],["PIECE 0 OF 0","PIECE 1 OF 0","PIECE 2 OF 0"]"#)],
    );
}

#[test]
fn requests_and_threads_wait_for_each_other() {
    agree(
        "waits:app",
        "waits",
        &[
            ("conditions", "[true, false]"),
            ("barriers", "false"),
            ("executors", "[true, [0, 1, 2, 3], true]"),
            ("timers", "[[0, 1, 2], true, false]"),
            ("multiprocessed", "[0, 0]"),
            ("natives", "[null, true, true]"),
        ],
    );
}

const OPENING: &str = "Host: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A client's frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

#[test]
fn five_hundred_websockets_of_flask_sock() {
    const OPEN: usize = 500;
    let build = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-w", "1", "-k", "coro"]);
    let server = build.args(["--threads", "600", "--worker-connections", "700", "sockets:app"]).start();
    let mut sockets: Vec<_> = (0..OPEN)
        .map(|_| {
            let mut client = server.connect();
            client.set_timeout(Duration::from_secs(170));
            client.send(format!("GET /echo HTTP/1.1\r\n{OPENING}"));
            client
        })
        .collect();
    for socket in &mut sockets {
        assert_eq!(socket.read_response(true).unwrap().status, 101, "{}", server.log());
    }
    let expect = |socket: &mut Client, wanted: &[u8]| {
        let mut got = Vec::new();
        while got.len() < wanted.len() {
            let more = socket.read_some().unwrap();
            assert!(!more.is_empty(), "closed after {got:?}; the log:\n{}", server.log());
            got.extend(more);
        }
        assert_eq!(got, wanted);
    };
    for round in 0..3 {
        let text = |n: usize| format!("{round} of {n}");
        for (n, socket) in sockets.iter_mut().enumerate() {
            socket.send(frame(0x81, text(n).as_bytes()));
        }
        for (n, socket) in sockets.iter_mut().enumerate() {
            let text = text(n);
            expect(socket, &[&[0x81, text.len() as u8], text.as_bytes()].concat());
        }
        // Ordinary requests have their turn beside them.
        assert_eq!(server.connect().get("/").text(), "plain\n");
    }
    for socket in &mut sockets {
        socket.send(frame(0x81, b"close"));
    }
    for socket in &mut sockets {
        expect(socket, b"\x88\x0d\x03\xe8as you like");
    }
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}
