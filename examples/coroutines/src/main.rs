//! A Rust application that blocks as it likes: plain `std`, thousands of requests at a time on one thread a worker, no `async`
//! and no Python.
//!
//! ```sh
//! cargo run -p rgunicorn-example-coroutines -- 127.0.0.1:8000
//! ```

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rgunicorn_core::app::{AppError, Application, Request, Response, SharedLoader};
use rgunicorn_core::arbiter::Arbiter;
use rgunicorn_core::config::Config;
use rgunicorn_core::worker::{BootError, WorkerContext};
use rgunicorn_workers::Coro;
use rgunicorn_workers::coro::Bare;

/// How many have been behind the lock.
static COUNT: Mutex<u32> = Mutex::new(0);

/// `/sleep` waits for a second, `/lock` for a lock that is held for a while, and `/again` for this very server.
struct Site;

impl Application for Site {
    fn call(&self, request: Request<'_>, response: &mut Response) -> Result<(), AppError> {
        let text = match request.path() {
            b"/" => format!("Hello from process {}\n", std::process::id()),
            b"/sleep" => {
                std::thread::sleep(Duration::from_secs(1));
                "slept\n".to_string()
            }
            b"/lock" => {
                let mut count = COUNT.lock().unwrap_or_else(PoisonError::into_inner);
                let before = *count;
                std::thread::sleep(Duration::from_millis(5));
                *count = before + 1;
                format!("{count}\n")
            }
            b"/again" => {
                let host = String::from_utf8_lossy(request.header("host").unwrap_or_default()).into_owned();
                ask(&host)
                    .map_err(|error| AppError::Failed { report: format!("cannot ask {host}: {error}") })?
            }
            _ => {
                response.start(b"404 Not Found")?;
                return Ok(response.send(b"There is nothing here\n")?);
            }
        };
        response.start(b"200 OK")?;
        response.header(b"Content-Type", b"text/plain")?;
        Ok(response.send(text.as_bytes())?)
    }
}

/// Asks a server for `/`: a worker that blocked here could never answer itself.
fn ask(host: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(host)?;
    write!(stream, "GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_string())
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut config = Config { threads: 1000, worker_class: "coro".into(), ..Config::default() };
    if let Some(address) = std::env::args().nth(1) {
        config.bind = vec![address.parse()?];
    }
    let loader: SharedLoader =
        Arc::new(|_: &WorkerContext| -> Result<Box<dyn Application>, BootError> { Ok(Box::new(Site)) });
    let status = Arbiter::with_class(config, Arc::new(Coro::new(loader, Arc::new(Bare)))).run();
    Ok(ExitCode::from(u8::try_from(status)?))
}
