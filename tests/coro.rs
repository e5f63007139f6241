//! `-k coro` runs blocking Python as `-k threads` does, thousands of requests at a time on one thread.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rgunicorn_harness::{Client, Server, assert_has, compile};

fn server(class: &str, threads: usize, arguments: &[&str]) -> Server {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .args(["-w", "1", "-k", class, "--threads", &threads.to_string()])
        .args(arguments)
        .start()
}

fn ask(server: &Server, target: &str) -> Client {
    let mut client = server.connect();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n"));
    client
}

/// What each route answers, asked `times` times at once.
fn answers(server: &Server, routes: &[&str], times: usize) -> Vec<String> {
    let mut all = Vec::new();
    for route in routes {
        let mut clients: Vec<_> = (0..times).map(|n| ask(server, &format!("/{route}/{n}"))).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            let response = client.response();
            all.push(format!("/{route}/{n}: {} {}", response.status, response.text()));
        }
    }
    all
}

fn threads_of(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

#[test]
fn every_way_to_wait_answers_as_it_does_on_threads() {
    let routes = [
        "sleep",
        "identity",
        "locked",
        "queued",
        "futures",
        "sockets",
        "served",
        "pipes",
        "selected",
        "processes",
        "filelocks",
        "recursion",
        "callbacks",
        "loops",
        "generators",
        "closed",
        "recursive",
        "masked",
        "sleeps",
        "messages",
        "semaphores",
        "crowded",
        "both",
        "races",
        "held",
        "foreign",
        "rwlocked",
        "commands",
        "joined",
    ];
    let (threads, coro) = (server("threads", 40, &["waits:app"]), server("coro", 40, &["waits:app"]));
    for route in routes {
        // A thread keeps its threading.local from one request to the next; nobody should count on either.
        let strip = |answers: Vec<String>| match route {
            "identity" => {
                answers.into_iter().map(|answer| answer.split_once("], ").unwrap().1.to_string()).collect()
            }
            _ => answers,
        };
        let wanted = strip(answers(&threads, &[route], 30));
        assert!(wanted[0].contains("200 ") || route == "identity", "{}\n{}", wanted[0], threads.log());
        assert_eq!(strip(answers(&coro, &[route], 30)), wanted, "{route}\n{}", coro.log());
    }
}

#[test]
fn nothing_of_one_request_is_visible_to_the_next() {
    let server = server("coro", 10, &["waits:app"]);
    for answer in answers(&server, &["identity", "identity"], 30) {
        assert!(answer.ends_with("200 [[null, null], true, true, true, true]"), "{answer}");
    }
}

/// A coroutine is like a thread that was detached: it can't be joined, nor let go twice. And it can't be cancelled.
#[test]
fn what_c_code_asks_about_itself_as_a_thread_is_answered_for_the_coroutine() {
    let server = server("coro", 10, &["waits:app"]);
    for answer in answers(&server, &["itself"], 30) {
        // EINVAL, ESRCH, done, and four times EINVAL.
        assert!(answer.ends_with("200 [22, 3, 0, 22, 22, 22, 22, true]"), "{answer}\n{}", server.log());
    }
}

/// A server of `thread_locals.py`, with both kinds of libraries.
fn with_thread_locals(class: &str, arguments: &[&str]) -> Server {
    let directory = tempfile::tempdir().unwrap().keep();
    let [own, of_thread] = ["thread_locals", "thread_locals_static"].map(|name| {
        let library = directory.join(format!("lib{name}.so"));
        compile(&format!("{name}.c"), &library);
        library
    });
    let build = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).env("OWN", own).env("OF_THREAD", of_thread);
    let server = build.args(["-w", "1", "-k", class, "--threads", "8"]).args(arguments.to_vec());
    let server = server.args(["thread_locals:app"]).start();
    server.wait_for_log("is ready");
    std::fs::remove_dir_all(directory).unwrap();
    server
}

/// Each request has variables of its own in libraries that are loaded at run time, elsewhere than all others: what other threads
/// do there reaches the right one, as rayon's pools, duckdb's allocator and PROJ count on.
#[test]
fn a_native_librarys_thread_locals_are_each_requests_own() {
    let (threads, coro) = (with_thread_locals("threads", &[]), with_thread_locals("coro", &[]));
    for (route, wanted) in [
        ("own_kept", "[true]"),
        ("reached", "[true, true, true]"),
        ("own_kept", "[true]"),
        ("paired", "[true, true]"),
        ("paired", "[true, true]"),
    ] {
        for server in [&threads, &coro] {
            for answer in answers(server, &[route], 4) {
                assert!(answer.ends_with(&format!("200 {wanted}")), "{answer}\n{}", server.log());
            }
        }
    }
}

/// Of those of which the thread has but one block, all requests share it, unless the library is named; and the other way round.
#[test]
fn which_librarys_thread_locals_are_shared_can_be_said() {
    let requests_that_kept_theirs = |server: &Server, route: &str| {
        let answers = answers(server, &[route], 4);
        assert!(answers.iter().all(|answer| answer.contains("200 ")), "{answers:?}\n{}", server.log());
        answers.iter().filter(|answer| answer.ends_with("true]")).count()
    };
    let plain = with_thread_locals("coro", &[]);
    assert_eq!(requests_that_kept_theirs(&plain, "of_thread_kept"), 1, "{}", plain.log());
    let exchanged = with_thread_locals("coro", &["--coro-exchanged-locals", "libthread_locals_static"]);
    assert_eq!(requests_that_kept_theirs(&exchanged, "of_thread_kept"), 4, "{}", exchanged.log());
    let shared = with_thread_locals("coro", &["--coro-shared-locals", "libthread_locals.so"]);
    assert_eq!(requests_that_kept_theirs(&shared, "own_kept"), 1, "{}", shared.log());
}

#[test]
fn two_thousand_wait_at_a_time_on_one_thread() {
    let server = server("coro", 2000, &["--worker-connections", "3000", "promises:raw"]);
    server.connect().get("/");
    let worker = server.wait_for_workers(1)[0];
    let before = Server::memory(worker);
    let start = Instant::now();
    let mut clients: Vec<_> = (0..2000).map(|_| ask(&server, "/sleep?s=3")).collect();
    std::thread::sleep(Duration::from_millis(500));
    let a_request = Server::memory(worker).saturating_sub(before) / 2000;
    // The other one looks on.
    assert_eq!(threads_of(worker), 2);
    for client in &mut clients {
        assert_eq!(client.response().text(), "slept\n");
    }
    // One after the other it would be an hour and a half.
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    assert!(a_request < 40 * 1024, "{a_request} bytes for a request that waits");
}

#[test]
fn no_more_than_threads_at_a_time_and_the_rest_wait_without_spinning() {
    let server = server("coro", 2, &["promises:raw"]);
    let worker = server.wait_for_workers(1)[0];
    let start = Instant::now();
    let mut clients: Vec<_> = (0..4).map(|_| ask(&server, "/sleep?s=0.5")).collect();
    for client in &mut clients {
        assert_eq!(client.response().text(), "slept\n");
    }
    assert!(start.elapsed() >= Duration::from_millis(990), "{:?}", start.elapsed());
    let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
    let ticks: u64 = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .skip(11)
        .take(2)
        .map(|n| n.parse::<u64>().unwrap())
        .sum();
    assert!(ticks < 80, "{ticks} hundredths of a second of computing");
}

#[test]
fn a_handler_for_signals_of_the_applications_runs_while_requests_wait() {
    let server = server("coro", 10, &["alarms:app"]);
    assert_eq!(server.connect().get("/").text(), "[0, false]");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(server.connect().get("/").text(), "[1, true]");
}

#[test]
fn quick_requests_get_their_turn_beside_busy_ones() {
    let server = server("coro", 8, &["promises:raw"]);
    server.connect().get("/");
    // All at once, so that the last waits in the engine when the first begins to compute.
    let _busy: Vec<_> = (0..2).map(|_| ask(&server, "/compute?s=60")).collect();
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(server.connect().get("/").status, 200);
    }
    // The busy ones are far from done: they have made way each time. How soon is measured, not tested.
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
}

#[test]
fn processes_that_requests_make_begin_and_end_as_they_would_in_a_program() {
    let mut server = server("coro", 40, &["forks:app"]);
    let worker = server.wait_for_workers(1)[0];
    let routes = ["run", "prepared", "forked", "exited", "returned", "process", "pool"];
    for (at, answer) in answers(&server, &routes, 20).iter().enumerate() {
        let (route, n) = (routes[at / 20], at % 20);
        let wanted = match route {
            "run" | "prepared" => format!("\"{n}\\n\""),
            "forked" | "exited" => format!("[{n}, {n}]"),
            "returned" => format!("[{n}, 1]"),
            "process" => format!("[{n}, {}, true]", n * 2),
            _ => format!("[{n}, 1]"),
        };
        assert_eq!(*answer, format!("/{route}/{n}: 200 {wanted}"), "{}", server.log());
    }
    // None has left its signal mask to the worker, nor a child behind.
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{worker}/{file}")).unwrap();
    assert!(read("status").contains("SigBlk:\t0000000000000000"), "{}", read("status"));
    server.wait_until("the last child's end", || read(&format!("task/{worker}/children")).is_empty());
    server.signal(Signal::SIGTERM);
    assert!(server.wait().success());
}

#[test]
fn a_request_that_has_had_its_time_is_ended_wherever_it_is_and_the_worker_lives() {
    let server = server("coro", 40, &["--request-timeout", "0.5", "overdue:app"]);
    let worker = server.wait_for_workers(1)[0];
    let routes = [
        "sleep",
        "locked",
        "queued",
        "condition",
        "future",
        "received",
        "timed",
        "selected",
        "polled",
        "child",
        "computing",
    ];
    let start = Instant::now();
    let mut clients: Vec<_> = routes.iter().map(|route| ask(&server, &format!("/{route}"))).collect();
    let (mut caught, mut begun) = (ask(&server, "/caught"), ask(&server, "/begun"));
    assert_eq!(ask(&server, "/quick").response().text(), "\"quick\"");
    for (client, route) in clients.iter_mut().zip(routes) {
        assert_eq!(client.response().status, 504, "{route}\n{}", server.log());
    }
    assert_eq!(caught.response().text(), "[\"rgunicorn\", \"RequestTimeout\", false]");
    let mut streamed = Vec::new();
    while let Ok(bytes) = begun.read_some()
        && !bytes.is_empty()
    {
        streamed.extend(bytes);
    }
    assert!(streamed.ends_with(b"5\r\nbegun\r\n"), "{}", server.log());
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    // What they have to do at their end they have done; nobody else was touched, and nothing is left of it.
    let mut all: Vec<_> =
        routes.iter().chain(&["caught", "quick"]).map(|route| format!("\"{route}\"")).collect();
    all.sort();
    assert_eq!(ask(&server, "/state").response().text(), format!("[[{}], true]", all.join(", ")));
    assert_eq!(server.wait_for_workers(1)[0], worker);
    let log = server.log();
    assert!(log.contains("Request GET /queued has had its request_timeout\nTraceback"), "{log}");
}

#[test]
fn who_keeps_the_lock_for_long_is_named_once() {
    let server = server("coro", 8, &["--loop-lag", "0.3", "overdue:app"]);
    for _ in 0..2 {
        let mut holding = ask(&server, "/holding");
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(ask(&server, "/quick").response().status, 200);
        assert_eq!(holding.response().text(), "\"held\"");
    }
    let log = server.log();
    assert!(
        log.contains("A request has kept all others waiting for ") && log.contains("GET /holding\n  File "),
        "{log}"
    );
    assert_eq!(log.matches("PyDLL(None).usleep(900_000)").count(), 1, "{log}");
    // On a busy machine it may also be seen a line later: another place, which is named once as well.
    assert!(log.matches("A request has kept all others waiting for ").count() <= 2, "{log}");
}

/// As threads do, one that waits for native code's lock with Python's keeps only those waiting who need that: whoever has
/// the other doesn't. gRPC's own locks had a worker hang here, some one in fifty.
#[test]
fn whoever_waits_for_a_native_lock_with_pythons_leaves_its_owner_to_go_on() {
    let scratch = tempfile::tempdir().unwrap();
    let library = scratch.path().join("native_locks.so");
    compile("native_locks.c", &library);
    let server = |class: &str, limit: &[&str]| {
        Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
            .args(["-w", "1", "-k", class, "--threads", "8"])
            .args(limit)
            .env("NATIVE_LOCKS", &library)
            .args(["native_locks:app"])
            .start()
    };
    for class in ["threads", "coro"] {
        let limit: &[&str] = if class == "coro" { &["--loop-lag", "0.1"] } else { &[] };
        let server = server(class, limit);
        for kind in ["plain", "recursive", "shared", "semaphore", "condition", "futex", "spinning"] {
            for how in ["take", "thread"] {
                let mut holds = ask(&server, &format!("/hold/{kind}"));
                std::thread::sleep(Duration::from_millis(100));
                let mut takes = ask(&server, &format!("/{how}/{kind}"));
                std::thread::sleep(Duration::from_millis(20));
                let mut quick = ask(&server, "/quick/");
                assert_eq!(takes.response().text(), format!("{how} {kind}"), "{class}\n{}", server.log());
                assert_eq!(holds.response().text(), format!("hold {kind}"), "{class}");
                assert_eq!(quick.response().text(), "quick ", "{class}");
            }
        }
        if class == "coro" {
            assert_has(&server.log(), ["A request has kept all others waiting for ", "GET /take/plain"]);
        }
    }
    // One that nobody lets go on keeps Python's lock for good: the worker is as good as dead.
    let server = server("coro", &["--timeout", "2"]);
    let _stuck = ask(&server, "/take/semaphore");
    server.wait_for_log("WORKER TIMEOUT");
    assert_eq!(ask(&server, "/quick/").response().text(), "quick ");
}

/// All helper threads used to wait for what one had that waited for a helper thread.
#[test]
fn a_hundred_wait_for_the_lock_of_one_file() {
    let server = server("coro", 120, &["waits:app"]);
    for answer in answers(&server, &["filelocked"], 100) {
        assert!(answer.ends_with("200 [true, [\"127.0.0.1\", 80]]"), "{answer}\n{}", server.log());
    }
}

/// Half of the workers hung here, each time that something was made by one and wanted by others meanwhile.
#[test]
fn what_is_made_when_it_is_first_needed_may_be_needed_by_many_at_once() {
    for (route, first) in [
        ("misused", "[\"while processing 'size'\"]"),
        ("misused", "[\"while processing 'size'\"]"),
        ("misused", "[\"while processing 'size'\"]"),
        ("raised", "<html>"),
        ("read", "\"\""),
        ("wrapped", "wrapped"),
        ("sent", "\"\"\"What a worker"),
        ("pieces", "onetwothree"),
    ] {
        let server = server("coro", 40, &["firsts:app"]);
        let mut clients: Vec<_> = (0..30).map(|_| ask(&server, &format!("/{route}"))).collect();
        for client in &mut clients {
            client.set_timeout(Duration::from_secs(120));
            let answer = client.response();
            assert_eq!(answer.status, if route == "raised" { 500 } else { 200 }, "{route}\n{}", server.log());
            assert!(answer.text().starts_with(first), "{route}: {}", answer.text());
        }
    }
}

#[test]
fn all_that_wait_are_in_a_dump_and_those_in_the_same_place_once() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("ctl");
    let socket = socket.to_str().unwrap();
    let server = server("coro", 300, &["--control-socket", socket, "promises:raw"]);
    let mut waiting: Vec<_> = (0..200).map(|_| ask(&server, "/sleep?s=6")).collect();
    let mut alone = ask(&server, "/stream?n=2&pause=6");
    let dump = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rgunicorn"));
        let output = command.args(["ctl", "--socket", socket, "stack"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let mut text = String::new();
    server.wait_until("all to be asleep", || {
        text = dump();
        text.contains("200 in the same place: ") && text.contains("in stream.<locals>.pieces")
    });
    assert!(text.contains("same place: GET /sleep, GET /sleep, "), "{text}");
    assert!(text.contains(" and 195 more (most recent call last):\n"), "{text}");
    assert_eq!(text.matches("in sleep\n").count(), 1, "{text}");
    // One that computes, and keeps nobody waiting: it makes way for the report, and so is the last in its own.
    let _busy = ask(&server, "/compute?s=60");
    server.wait_until("the one that computes", || {
        text = dump();
        text.contains("GET /compute (most recent call last):\n")
    });
    assert!(text.contains("200 in the same place: "), "{text}");
    for client in &mut waiting {
        assert_eq!(client.response().text(), "slept\n");
    }
    assert_eq!(alone.response().status, 200);
}

#[test]
fn the_stack_of_a_request_is_as_large_as_it_is_told_to_be() {
    let small = server("coro", 8, &["--coro-stack", "512K", "waits:app"]);
    assert_eq!(answers(&small, &["sleep"], 8)[7], "/sleep/7: 200 7");
    let refused = Server::build(env!("CARGO_BIN_EXE_rgunicorn"));
    let (status, _, said) = refused.args(["-k", "coro", "--coro-stack", "1K", "waits:app"]).run();
    assert_ne!(status, Some(0));
    assert!(said.contains("coro_stack") && said.contains("262144 bytes at least"), "{said}");
}

#[test]
fn a_request_timeout_is_refused_where_nothing_could_end_a_request() {
    let refused = Server::build(env!("CARGO_BIN_EXE_rgunicorn"));
    let (status, _, said) = refused.args(["-k", "threads", "--request-timeout", "5", "waits:app"]).run();
    assert_ne!(status, Some(0));
    assert!(said.contains("request_timeout") && said.contains("coro"), "{said}");
}

/// How often the threads of a process have gone to sleep.
fn switches_of(pid: i32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status =
        |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
    let count = |line: &str| {
        line.starts_with("voluntary_ctxt_switches")
            .then(|| line.split_whitespace().last()?.parse::<u64>().ok())
    };
    tasks.flat_map(|task| status(task.unwrap()).lines().filter_map(count).flatten().collect::<Vec<_>>()).sum()
}

#[test]
fn nothing_ticks_while_the_worker_is_idle_or_all_requests_wait() {
    let server = server("coro", 8, &["promises:raw"]);
    let worker = server.wait_for_workers(1)[0];
    server.connect().get("/");
    let mut waiting = ask(&server, "/sleep?s=2.5");
    std::thread::sleep(Duration::from_millis(500));
    let before = switches_of(worker);
    std::thread::sleep(Duration::from_millis(1500));
    let ticks = switches_of(worker) - before;
    assert!(ticks <= 6, "{ticks} switches in 1.5 s");
    assert_eq!(waiting.response().text(), "slept\n");
}
