//! An application with an answer of each kind.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rgunicorn_core::app::{AppError, Application, BodyStream, Flow, Request, Response, Sink};

#[derive(Default)]
pub struct Site {
    /// How many requests it was called for.
    pub called: Arc<AtomicUsize>,
    /// How many things of its own the engine holds.
    pub held: Arc<AtomicUsize>,
    /// How many of them it was given back.
    pub dropped: Arc<AtomicUsize>,
}

impl Application for Site {
    fn call(&self, mut request: Request<'_>, response: &mut Response) -> Result<(), AppError> {
        self.called.fetch_add(1, Ordering::Relaxed);
        response.start(b"200 OK")?;
        match request.path() {
            b"/pull" => response.stream(self.pieces(1000, Duration::ZERO))?,
            b"/endless" => response.stream(self.pieces(u64::MAX, Duration::ZERO))?,
            // Takes longer than the engine pulls in one go.
            b"/slowly" => response.stream(self.pieces(64, Duration::from_millis(5)))?,
            b"/until-it-panics" => response.stream(self.pieces(0, Duration::ZERO))?,
            b"/sleep" => {
                std::thread::sleep(Duration::from_millis(700));
                response.send(b"slept")?;
            }
            b"/given" => response.send_owned(Box::new(vec![b'g'; 5_000_000]))?,
            b"/push" => {
                for _ in 0..64 {
                    response.write(&[b'p'; 100_000])?;
                }
            }
            b"/file" => {
                let mut file = tempfile::tempfile().map_err(failed)?;
                file.write_all(&[b'f'; 3_000_000]).map_err(failed)?;
                response.file(file.into(), 1_000_000, 2_000_000, Box::new(self.owner()))?;
            }
            b"/echo" => {
                let mut body = Vec::new();
                request.body().read_to_end(&mut body).map_err(failed)?;
                response.send(&body)?;
            }
            b"/fail-behind-the-end" => {
                response.send(b"all of it")?;
                return Err(failed("too late to matter"));
            }
            _ => response.send(b"hello")?,
        }
        Ok(())
    }
}

impl Site {
    fn owner(&self) -> Owner {
        self.held.fetch_add(1, Ordering::Relaxed);
        Owner { held: Arc::clone(&self.held), dropped: Arc::clone(&self.dropped) }
    }

    fn pieces(&self, left: u64, pause: Duration) -> Box<Pieces> {
        Box::new(Pieces { left, pause, _owner: self.owner() })
    }
}

fn failed(error: impl ToString) -> AppError {
    AppError::Failed { report: error.to_string() }
}

struct Owner {
    held: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

struct Pieces {
    left: u64,
    pause: Duration,
    _owner: Owner,
}

impl BodyStream for Pieces {
    fn next(&mut self, sink: &mut Sink<'_>) -> Result<Flow, AppError> {
        assert!(self.left > 0, "nothing left to supply");
        std::thread::sleep(self.pause);
        sink.write(&[b'x'; 10_000])?;
        self.left -= 1;
        Ok(if self.left > 0 { Flow::More } else { Flow::Done })
    }
}
