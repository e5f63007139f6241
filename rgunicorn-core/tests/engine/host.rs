//! An engine turning in a thread of its own, until it is dropped.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rgunicorn_core::config::{BindAddress, Config};
use rgunicorn_core::engine::{Engine, EngineConfig};
use rgunicorn_core::socket::Listener;

use crate::site::Site;

pub struct Host {
    port: u16,
    stop: Arc<AtomicBool>,
    called: Arc<AtomicUsize>,
    held: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    pub fn start(adjust: impl FnOnce(&mut EngineConfig)) -> Host {
        let bind = vec![BindAddress::Tcp { host: "127.0.0.1".into(), port: 0 }];
        let config = Config { bind, ..Config::default() };
        let listeners = Listener::bind(&config).unwrap();
        let rgunicorn_core::app::ServerAddress::Tcp(address) = listeners[0].server_address() else {
            unreachable!()
        };
        let port = address.port();
        let mut engine_config = EngineConfig::new(&config);
        adjust(&mut engine_config);
        let engine = Engine::new(listeners, engine_config, None).unwrap();
        let site = Site::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (called, held, dropped) =
            (Arc::clone(&site.called), Arc::clone(&site.held), Arc::clone(&site.dropped));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || turn(engine, &site, &stopped));
        Host { port, stop, called, held, dropped, thread: Some(thread) }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// Asks on a connection of its own, and reads the whole answer.
    pub fn ask(&self, target: &str) -> Vec<u8> {
        self.exchange(format!("GET {target} HTTP/1.0\r\n\r\n"))
    }

    /// Sends bytes on a connection of their own, and reads all that comes back.
    pub fn exchange(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes.as_ref()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    /// How often the application was called.
    pub fn calls(&self) -> usize {
        self.called.load(Ordering::Relaxed)
    }

    /// How many things of the application's the engine holds.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub fn wait_for_drops(&self, count: usize) {
        let start = Instant::now();
        while self.dropped.load(Ordering::Relaxed) < count {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "what the application gave was not given back"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Has the engine drain.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// How long the engine takes until it is drained.
    pub fn stopped(mut self) -> Duration {
        let start = Instant::now();
        self.stop();
        self.thread.take().unwrap().join().unwrap();
        start.elapsed()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

fn turn(mut engine: Engine, site: &Site, stopped: &AtomicBool) {
    let mut hold = false;
    while !engine.is_drained() {
        if stopped.load(Ordering::Relaxed) {
            engine.drain(true);
        }
        engine.wait(Some(Duration::from_millis(20))).unwrap();
        engine.process();
        for _ in 0..engine.queued() {
            if let Some(mut exchange) = engine.next() {
                // Every other one, so that each test meets both.
                hold = !hold;
                if hold {
                    exchange.hold();
                }
                exchange.advance(site).unwrap();
                engine.give_back(exchange);
            }
        }
        engine.send_held();
    }
}

/// The body of an answer.
pub fn body(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    &answer[end + 4..]
}

/// Sends a request for a connection that is kept, with an answer that says how long it is, and reads that.
pub fn ask_on(stream: &mut TcpStream, target: &str) -> String {
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes()).unwrap();
    read_answer(stream).unwrap()
}

/// Reads one answer that says how long it is, head and body.
pub fn read_answer(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer).unwrap();
    let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body)?;
    Ok(head + &String::from_utf8(body).unwrap())
}

/// Reads the rest of a chunked answer up to its last chunk.
pub fn skip_chunked(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut end = Vec::new();
    while !end.ends_with(b"\r\n0\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        end.push(byte[0]);
    }
    Ok(())
}
