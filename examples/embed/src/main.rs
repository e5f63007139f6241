//! A Rust application served by rgunicorn's arbiter and engine: workers, reloads, time-outs and logs, no Python.
//!
//! ```sh
//! cargo run -p rgunicorn-example-embed -- 127.0.0.1:8000
//! ```

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use rgunicorn_core::app::{AppError, Application, BodyStream, Flow, Request, Response, SharedLoader, Sink};
use rgunicorn_core::arbiter::Arbiter;
use rgunicorn_core::config::Config;
use rgunicorn_core::worker::{BootError, WorkerContext};
use rgunicorn_workers::Event;

/// Answers `/` in one piece, `/count` piece by piece, and echoes what is posted.
struct Site;

impl Application for Site {
    fn call(&self, mut request: Request<'_>, response: &mut Response) -> Result<(), AppError> {
        match (request.method(), request.path()) {
            (b"GET", b"/") => {
                response.start(b"200 OK")?;
                response.header(b"Content-Type", b"text/plain")?;
                response.send(
                    format!("Hello, {}, from process {}\n", request.peer().address(), std::process::id())
                        .as_bytes(),
                )?;
            }
            (b"GET", b"/count") => {
                response.start(b"200 OK")?;
                response.stream(Box::new(Count(0)))?;
            }
            (b"POST", b"/") => {
                let mut body = Vec::new();
                std::io::Read::read_to_end(request.body(), &mut body)
                    .map_err(|error| AppError::Failed { report: format!("cannot read the body: {error}") })?;
                response.start(b"200 OK")?;
                response.send(&body)?;
            }
            (b"GET", b"/panic") => panic!("a handler has a bug"),
            _ => {
                response.start(b"404 Not Found")?;
                response.send(b"There is nothing here\n")?;
            }
        }
        Ok(())
    }
}

/// A body that is pulled: ten lines, one at a time.
struct Count(u32);

impl BodyStream for Count {
    fn next(&mut self, sink: &mut Sink<'_>) -> Result<Flow, AppError> {
        self.0 += 1;
        sink.write(format!("{}\n", self.0).as_bytes())?;
        Ok(if self.0 < 10 { Flow::More } else { Flow::Done })
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut config = Config { workers: 2, worker_class: "event".into(), ..Config::default() };
    if let Some(address) = std::env::args().nth(1) {
        config.bind = vec![address.parse()?];
    }
    let loader: SharedLoader =
        Arc::new(|_: &WorkerContext| -> Result<Box<dyn Application>, BootError> { Ok(Box::new(Site)) });
    let status = Arbiter::with_class(config, Arc::new(Event::new(loader))).run();
    Ok(ExitCode::from(u8::try_from(status)?))
}
