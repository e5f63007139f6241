//! An engine without an arbiter, a worker class or a process of its own: what a host program drives itself.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rgunicorn_core::app::{AppError, Application, BodyStream, Flow, Request, Response, Sink};
use rgunicorn_core::config::{BindAddress, Config};
use rgunicorn_core::engine::{Accept, Engine, EngineConfig};
use rgunicorn_core::socket::Listener;

#[derive(Default)]
struct Site {
    dropped: Arc<AtomicUsize>,
}

impl Application for Site {
    fn call(&self, mut request: Request<'_>, response: &mut Response) -> Result<(), AppError> {
        response.start(b"200 OK")?;
        match request.path() {
            b"/pull" => {
                response.stream(Box::new(Pieces { left: 1000, dropped: Arc::clone(&self.dropped) }))?
            }
            b"/endless" => {
                response.stream(Box::new(Pieces { left: u64::MAX, dropped: Arc::clone(&self.dropped) }))?
            }
            b"/given" => response.send_owned(Box::new(vec![b'g'; 5_000_000]))?,
            b"/push" => {
                for _ in 0..64 {
                    response.write(&[b'p'; 100_000])?;
                }
            }
            b"/file" => {
                let mut file =
                    tempfile::tempfile().map_err(|error| AppError::Failed { report: error.to_string() })?;
                let wrote = file.write_all(&[b'f'; 3_000_000]);
                wrote.map_err(|error| AppError::Failed { report: error.to_string() })?;
                response.file(
                    file.into(),
                    1_000_000,
                    2_000_000,
                    Box::new(Owner(Arc::clone(&self.dropped))),
                )?;
            }
            b"/echo" => {
                let mut body = Vec::new();
                let read = request.body().read_to_end(&mut body);
                read.map_err(|error| AppError::Failed { report: error.to_string() })?;
                response.send(&body)?;
            }
            _ => response.send(b"hello")?,
        }
        Ok(())
    }
}

struct Owner(Arc<AtomicUsize>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Pieces {
    left: u64,
    dropped: Arc<AtomicUsize>,
}

impl BodyStream for Pieces {
    fn next(&mut self, sink: &mut Sink<'_>) -> Result<Flow, AppError> {
        sink.write(&[b'x'; 10_000])?;
        self.left -= 1;
        Ok(if self.left > 0 { Flow::More } else { Flow::Done })
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// An engine turning in a thread of its own, until it is dropped.
struct Host {
    port: u16,
    stop: Arc<AtomicBool>,
    dropped: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Host {
    fn start(adjust: impl FnOnce(&mut EngineConfig)) -> Host {
        let bind = vec![BindAddress::Tcp { host: "127.0.0.1".into(), port: 0 }];
        let config = Config { bind, ..Config::default() };
        let listeners = Listener::bind(&config).unwrap();
        let rgunicorn_core::app::ServerAddress::Tcp(address) = listeners[0].server_address() else {
            unreachable!()
        };
        let port = address.port();
        let mut engine_config = EngineConfig::new(&config);
        adjust(&mut engine_config);
        let mut engine = Engine::new(listeners, engine_config, None).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let site = Site::default();
        let dropped = Arc::clone(&site.dropped);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !engine.is_drained() {
                if stopped.load(Ordering::Relaxed) {
                    engine.drain(true);
                }
                engine.wait(Some(Duration::from_millis(20))).unwrap();
                engine.process();
                for _ in 0..engine.queued() {
                    if let Some(mut exchange) = engine.next() {
                        exchange.advance(&site).unwrap();
                        engine.give_back(exchange);
                    }
                }
            }
        });
        Host { port, stop, dropped, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn ask(&self, target: &str) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    fn wait_for_drops(&self, count: usize) {
        let start = std::time::Instant::now();
        while self.dropped.load(Ordering::Relaxed) < count {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "what the application gave was not given back"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

fn body(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    &answer[end + 4..]
}

#[test]
fn every_kind_of_body_arrives_whole() {
    let host = Host::start(|_| {});
    assert_eq!(body(&host.ask("/")), b"hello");
    assert!(body(&host.ask("/pull")) == vec![b'x'; 10_000_000]);
    assert!(body(&host.ask("/given")) == vec![b'g'; 5_000_000]);
    assert!(body(&host.ask("/push")) == vec![b'p'; 6_400_000]);
    assert!(body(&host.ask("/file")) == vec![b'f'; 2_000_000]);
    host.wait_for_drops(2);
}

#[test]
fn a_slow_reader_gets_all_of_it_too() {
    let host = Host::start(|_| {});
    for (target, length) in
        [("/pull", 10_000_000), ("/given", 5_000_000), ("/push", 6_400_000), ("/file", 2_000_000)]
    {
        let mut stream = host.connect();
        stream.write_all(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(body(&host.ask("/")), b"hello", "while {target} waits");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(body(&answer).len(), length, "{target}");
    }
}

#[test]
fn a_client_that_leaves_frees_what_it_held() {
    let host = Host::start(|_| {});
    for target in ["/endless", "/endless"] {
        let mut stream = host.connect();
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes()).unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
    }
    host.wait_for_drops(2);
}

#[test]
fn a_client_that_stops_reading_is_given_up() {
    let host = Host::start(|config| config.send_timeout = Duration::from_millis(300));
    let mut stream = host.connect();
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    host.wait_for_drops(1);
}

#[test]
fn pipelined_requests_are_answered_in_order_and_together() {
    let host = Host::start(|_| {});
    let mut stream = host.connect();
    let mut requests = Vec::new();
    for number in 0..100 {
        let body = format!("request {number}");
        let head = format!("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        requests.extend_from_slice(head.as_bytes());
    }
    requests.extend_from_slice(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    stream.write_all(&requests).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let mut rest = answers.as_str();
    for number in 0..100 {
        let expected = format!("request {number}");
        let at = rest.find(&expected).unwrap_or_else(|| panic!("{expected} is missing"));
        rest = &rest[at + expected.len()..];
    }
    assert!(rest.ends_with("hello"));
}

#[test]
fn more_connections_than_allowed_wait_for_their_turn() {
    let host = Host::start(|config| {
        config.worker_connections = 2;
        config.keepalive = Duration::from_millis(200);
    });
    let mut held: Vec<_> = (0..2).map(|_| host.connect()).collect();
    for stream in &mut held {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
    }
    // The third is answered once one of the two has been idle for too long.
    assert_eq!(body(&host.ask("/")), b"hello");
}

#[test]
fn accepting_while_idle_answers_everybody() {
    let host = Host::start(|config| {
        config.accept = Accept::WhileIdle;
        config.keepalive = Duration::ZERO;
    });
    let mut streams: Vec<_> = (0..20).map(|_| host.connect()).collect();
    for stream in &mut streams {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    }
    for stream in &mut streams {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(body(&answer), b"hello");
    }
}
