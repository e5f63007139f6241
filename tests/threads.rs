//! `-k threads` answers several requests at a time, each in a thread of its own.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rgunicorn_harness::{Client, Server};

fn server(threads: usize, arguments: &[&str]) -> Server {
    server_of("threads", threads, arguments)
}

fn server_of(class: &str, threads: usize, arguments: &[&str]) -> Server {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .args(["-w", "1", "-k", class, "--threads", &threads.to_string(), "promises:raw"])
        .args(arguments)
        .start()
}

fn ask(server: &Server, target: &str) -> Client {
    let mut client = server.connect();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n"));
    client
}

#[test]
fn as_many_requests_wait_at_a_time_as_there_are_threads() {
    let server = server(20, &[]);
    server.connect().get("/");
    let start = Instant::now();
    let mut clients: Vec<_> = (0..40).map(|_| ask(&server, "/sleep?s=0.5")).collect();
    for client in &mut clients {
        assert_eq!(client.response().text(), "slept\n");
    }
    let taken = start.elapsed();
    assert!(taken >= Duration::from_millis(990), "more than 20 at a time: {taken:?}");
    assert!(taken < Duration::from_millis(1900), "fewer than 20 at a time: {taken:?}");
}

#[test]
fn slow_uploads_leave_threads_to_others() {
    for threads in 1..=3 {
        let server = server(threads, &[]);
        let mut slow: Vec<_> = (0..6).map(|_| server.connect()).collect();
        for client in &mut slow {
            client.send("POST /digest HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\nx");
        }
        std::thread::sleep(Duration::from_millis(200));
        for _ in 0..10 {
            assert_eq!(server.connect().get("/").status, 200);
        }
        for client in &mut slow {
            assert!(client.send(vec![b'x'; 999_999]).response().text().starts_with("1000000 "));
        }
    }
}

#[test]
fn gthread_and_sync_with_threads_are_this_class() {
    for class in ["gthread", "sync", "gunicorn.workers.gthread.ThreadWorker"] {
        let arguments = ["-k", class, "--threads", "2", "promises:raw"];
        let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(arguments).start();
        let start = Instant::now();
        let mut clients: Vec<_> = (0..2).map(|_| ask(&server, "/sleep?s=2")).collect();
        for client in &mut clients {
            assert_eq!(client.response().text(), "slept\n");
        }
        assert!(start.elapsed() < Duration::from_millis(3900), "{class}: {:?}", start.elapsed());
        assert!(server.log().contains("Using worker: threads"), "{}", server.log());
    }
}

#[test]
fn threads_are_started_only_as_they_are_needed() {
    let server = server(50, &[]);
    let worker = server.wait_for_workers(1)[0];
    let threads = || std::fs::read_dir(format!("/proc/{worker}/task")).unwrap().count();
    for _ in 0..100 {
        server.connect().get("/");
    }
    assert!(threads() <= 5, "{} threads for one request at a time", threads());
    let mut clients: Vec<_> = (0..30).map(|_| ask(&server, "/sleep?s=0.5")).collect();
    for client in &mut clients {
        client.response();
    }
    assert!((30..=52).contains(&threads()), "{} threads for 30 at a time", threads());
}

#[test]
fn five_hundred_threads_that_come_back_at_a_time_are_all_answered_again_and_again() {
    let server = server(500, &[]);
    let mut clients: Vec<_> = (0..500).map(|_| server.connect()).collect();
    for _ in 0..5 {
        for client in &mut clients {
            client.send("GET /sleep?s=0.01 HTTP/1.1\r\nHost: t\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.response().text(), "slept\n");
        }
    }
}

/// Of threads that wait for CPython's lock each wakes up once a switch interval.
#[test]
fn the_switch_interval_grows_with_the_threads_that_run_unless_the_application_has_set_it() {
    let server = server(400, &[]);
    let interval = |target| server.connect().get(target).text();
    let crowd = || -> Vec<_> { (0..300).map(|_| ask(&server, "/sleep?s=3")).collect() };
    let go = |crowd: Vec<Client>| {
        crowd.into_iter().for_each(|mut client| assert_eq!(client.response().status, 200))
    };
    let threads = |worker: i32| std::fs::read_dir(format!("/proc/{worker}/task")).unwrap().count();
    let worker = server.wait_for_workers(1)[0];

    assert_eq!(interval("/switch-interval"), "0.005");
    let first = crowd();
    let deadline = Instant::now() + Duration::from_secs(10);
    while threads(worker) < 300 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(interval("/switch-interval"), "0.02");
    go(first);
    assert_eq!(interval("/switch-interval"), "0.005");

    assert_eq!(interval("/switch-interval?s=0.001"), "0.001");
    let second = crowd();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(interval("/switch-interval"), "0.001");
    go(second);
    assert_eq!(interval("/switch-interval"), "0.001");
}

#[test]
fn one_long_stream_holds_up_nobody() {
    let server = server(2, &[]);
    let mut stream = ask(&server, "/stream?n=20&pause=0.1&size=1");
    for _ in 0..20 {
        let start = Instant::now();
        assert_eq!(server.connect().get("/").status, 200);
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    }
    assert_eq!(stream.response().body.len(), 20);
}

#[test]
fn quick_requests_get_their_turn_beside_busy_ones() {
    let server = server(8, &[]);
    server.connect().get("/");
    let mut busy: Vec<_> = (0..2).map(|_| ask(&server, "/compute?s=1.5")).collect();
    std::thread::sleep(Duration::from_millis(100));
    for _ in 0..20 {
        let start = Instant::now();
        assert_eq!(server.connect().get("/").status, 200);
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    }
    for client in &mut busy {
        assert_eq!(client.response().status, 200);
    }
}

/// Answers that wait together are sent together, but not with one that keeps the last of the threads, or of the coroutines.
#[test]
fn quick_answers_are_sent_before_all_threads_wait() {
    for (class, threads) in [("threads", 2), ("threads", 4), ("coro", 2)] {
        let server = server_of(class, threads, &[]);
        for _ in 0..2 {
            let mut others: Vec<_> = (1..threads).map(|_| ask(&server, "/sleep?s=1.5")).collect();
            // Behind this one the others are queued, so that they are one batch.
            let mut first = ask(&server, "/sleep?s=0.2");
            std::thread::sleep(Duration::from_millis(50));
            let mut quick: Vec<_> = (0..8).map(|_| ask(&server, "/")).collect();
            let mut last = ask(&server, "/sleep?s=1");
            let start = Instant::now();
            quick.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
            let taken = start.elapsed();
            assert!(taken < Duration::from_millis(900), "{class}, {threads} threads: {taken:?}");
            for client in others.iter_mut().chain([&mut first, &mut last]) {
                assert_eq!(client.response().status, 200);
            }
        }
    }
}

#[test]
fn a_thread_keeps_its_thread_local_values_and_its_identity() {
    let server = server(1, &[]);
    let mut client = server.connect();
    for count in 1..=5 {
        assert_eq!(client.get("/thread-local").text(), count.to_string());
    }
}

#[test]
fn a_thread_has_a_name_for_profilers_and_for_python() {
    let server = server(2, &[]);
    let answer = server.connect().get("/thread-name").text();
    let (python, system) = answer.split_once(' ').unwrap();
    assert!(python.starts_with("rgunicorn-"), "{answer}");
    assert_eq!(python, system);
}

#[test]
fn clients_that_take_their_time_hold_no_thread() {
    let server = server(1, &[]);
    let mut slow: Vec<_> = ["/stream?n=2000&size=10000", "/write-much?mib=20", "/stream?n=2000&size=10000"]
        .map(|target| ask(&server, target))
        .into();
    for _ in 0..5 {
        assert_eq!(server.connect().get("/").status, 200);
    }
    for client in &mut slow {
        assert!(client.response().whole);
    }
}

#[test]
fn quick_requests_among_many_threads_don_t_wait_for_each_other() {
    let server = server(100, &[]);
    // All threads there are.
    let mut clients: Vec<_> = (0..100).map(|_| ask(&server, "/sleep?s=0.3")).collect();
    for client in &mut clients {
        client.response();
    }
    let answers: Vec<_> = clients
        .into_iter()
        .map(|mut client| std::thread::spawn(move || (0..50).all(|_| client.get("/").status == 200)))
        .collect();
    assert!(answers.into_iter().all(|thread| thread.join().unwrap()));
}

#[test]
fn what_a_request_gave_may_be_used_and_dropped_in_another_thread() {
    let server = server(4, &[]);
    let body = "b".repeat(300_000);
    for _ in 0..20 {
        let request =
            format!("POST /keep HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let answer = server.connect().send(request).response();
        assert_eq!((answer.status, answer.text().as_str()), (200, "300000"));
    }
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn more_requests_than_threads_are_answered_in_the_order_of_their_arrival() {
    let server = server(1, &[]);
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(ask(&server, "/stamp?s=0.1"));
        std::thread::sleep(Duration::from_millis(10));
    }
    let stamps: Vec<f64> =
        clients.iter_mut().map(|client| client.response().text().parse().unwrap()).collect();
    assert!(stamps.is_sorted(), "{stamps:?}");
    assert_eq!(stamps.iter().map(|stamp| stamp.to_string()).collect::<HashSet<_>>().len(), 5);
}

#[test]
fn an_idle_connection_is_closed_in_time() {
    let server = server(4, &["--keep-alive", "1"]);
    let mut client = server.connect();
    client.get("/");
    let start = Instant::now();
    assert!(client.is_closed());
    assert!(
        (Duration::from_millis(700)..Duration::from_secs(4)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

/// Asks for the stack of the thread that answers, and of one that the application starts.
const STACKS: &str = "
import ctypes, json, sys, threading

libc = ctypes.CDLL(None)

def size():
    libc.pthread_self.restype = ctypes.c_ulong
    attributes, address, size = ctypes.create_string_buffer(128), ctypes.c_void_p(), ctypes.c_size_t()
    libc.pthread_getattr_np(ctypes.c_ulong(libc.pthread_self()), attributes)
    libc.pthread_attr_getstack(attributes, ctypes.byref(address), ctypes.byref(size))
    return size.value

def own():
    sizes = []
    thread = threading.Thread(target=lambda: sizes.append(size()))
    thread.start()
    thread.join()
    return sizes[0]

def app(environ, start_response):
    start_response('200 OK', [])
    return [json.dumps([size(), own()]).encode()]
";

#[test]
fn a_thread_has_the_stack_that_python_would_give_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    file("stacks.py", STACKS);
    file("large.py", &format!("{STACKS}\nthreading.stack_size(48 << 20)\n"));
    for (application, wanted) in [("stacks:app", 12 << 20), ("large:app", 48 << 20)] {
        let binary = env!("CARGO_BIN_EXE_rgunicorn");
        let server = Server::build("bash")
            .no_bind()
            .directory(directory.path())
            .args(["-c", "ulimit -s 12288; exec \"$@\"", "bash", binary, "-b", "127.0.0.1:0"])
            .args(["-k", "threads", "--threads", "3", application])
            .start();
        // By more than one of them.
        let mut clients: Vec<_> = (0..6).map(|_| ask(&server, "/")).collect();
        for client in &mut clients {
            let answer = client.response().text();
            let sizes: [usize; 2] = serde_json::from_str(&answer).unwrap();
            assert_eq!(sizes[0], sizes[1], "{application}: {answer}");
            assert!((wanted..wanted + (1 << 20)).contains(&sizes[0]), "{application}: {answer}");
        }
    }
}

#[test]
fn who_traces_or_profiles_threads_sees_these() {
    let directory = tempfile::tempdir().unwrap();
    let traced = "
import sys, threading

seen = set()

def trace(frame, event, argument):
    seen.add(('traced', frame.f_code.co_name))

def profile(frame, event, argument):
    seen.add(('profiled', frame.f_code.co_name))

threading.settrace(trace)
threading.setprofile(profile)

def app(environ, start_response):
    start_response('200 OK', [])
    found = sys.gettrace() is trace, sys.getprofile() is profile, ('traced', 'app') in seen, ('profiled', 'app') in seen
    return [repr(found).encode()]
";
    std::fs::write(directory.path().join("traced.py"), traced).unwrap();
    for class in ["threads", "coro"] {
        let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
            .directory(directory.path())
            .args(["-k", class, "--threads", "2", "traced:app"])
            .start();
        for _ in 0..2 {
            assert_eq!(server.connect().get("/").text(), "(True, True, True, True)", "{class}");
        }
    }
}
