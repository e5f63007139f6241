//! The arbiter's side: settings from a file of `name=value` lines, and a worker class that answers one line a connection.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rgunicorn_core::arbiter::Arbiter;
use rgunicorn_core::config::{BindAddress, Config, LogLevel, LogTarget};
use rgunicorn_core::hooks::NoHooks;
use rgunicorn_core::socket::Accepted;
use rgunicorn_core::worker::{BootError, Exit, Stop, Worker, WorkerClass, WorkerContext, WorkerError};

/// Names the file of settings.
pub const SETTINGS: &str = "RGUNICORN_TEST_SETTINGS";

pub fn run(settings: PathBuf) -> ExitCode {
    let (config, class) = read(&settings);
    let reload = Box::new(move || Ok(read(&settings)));
    let status = Arbiter::new(config, class, Arc::new(NoHooks), reload).run();
    ExitCode::from(status as u8)
}

fn read(settings: &Path) -> (Config, Arc<dyn WorkerClass>) {
    let directory = settings.parent().unwrap();
    let mut config = Config {
        bind: vec![BindAddress::Unix(directory.join("socket"))],
        errorlog: LogTarget::File(directory.join("log")),
        loglevel: LogLevel::Debug,
        ..Config::default()
    };
    let mut class = Tiny { behaviour: String::new() };
    for line in std::fs::read_to_string(settings).unwrap().lines() {
        let (name, value) = line.split_once('=').unwrap();
        let seconds = || Duration::from_secs_f64(value.parse().unwrap());
        match name {
            "workers" => config.workers = value.parse().unwrap(),
            "timeout" => config.timeout = seconds(),
            "graceful" => config.graceful_timeout = seconds(),
            "stop_delay" => config.stop_delay = seconds(),
            "max_rss" => config.worker_max_rss = value.parse().unwrap(),
            "pidfile" => config.pidfile = Some(directory.join(value)),
            "capture" => config.capture_output = true,
            "user" => (config.user, config.group) = (value.parse().ok(), value.parse().ok()),
            "daemon" => config.daemon = true,
            "reuse_port" => config.reuse_port = true,
            "env" => config.raw_env = vec![("TINY".to_owned(), Some(value.to_owned()))],
            "log" => config.errorlog = LogTarget::File(value.into()),
            "tcp" => {
                let (host, port) = value.split_once(':').unwrap();
                config.bind = vec![BindAddress::Tcp { host: host.to_owned(), port: port.parse().unwrap() }];
            }
            "unix" => config.bind = vec![BindAddress::Unix(directory.join(value))],
            "behaviour" => class.behaviour = value.to_owned(),
            _ => panic!("unknown setting {name}"),
        }
    }
    (config, Arc::new(class))
}

struct Tiny {
    behaviour: String,
}

impl WorkerClass for Tiny {
    fn name(&self) -> &str {
        "tiny"
    }

    fn boot(&self, context: WorkerContext) -> Result<Box<dyn Worker>, BootError> {
        match self.behaviour.as_str() {
            "fails to load" => Err(BootError::Load("no module named 'tiny'".to_owned())),
            "fails to boot" => Err(BootError::Boot("out of luck".to_owned())),
            "takes its time" => {
                std::thread::sleep(Duration::from_millis(700));
                Ok(Box::new(TinyWorker { context, hoard: Vec::new() }))
            }
            "fails to load later" if context.age > 0 => Err(BootError::Load("gone by now".to_owned())),
            "dies at birth" => std::process::exit(9),
            "hangs at birth" => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            _ => Ok(Box::new(TinyWorker { context, hoard: Vec::new() })),
        }
    }
}

struct TinyWorker {
    context: WorkerContext,
    hoard: Vec<u8>,
}

impl Worker for TinyWorker {
    fn run(&mut self) -> Result<Exit, WorkerError> {
        loop {
            self.context.slot.notify();
            match self.context.control.poll() {
                Some(Stop::Graceful | Stop::Quick) => return Ok(Exit::Stopped),
                None => {}
            }
            let mut watched = vec![PollFd::new(self.context.control.as_fd(), PollFlags::POLLIN)];
            watched
                .extend(self.context.listeners.iter().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)));
            let _ = poll(&mut watched, PollTimeout::from(100_u16));
            let accepted: Vec<Accepted> =
                self.context.listeners.iter().filter_map(|it| it.accept().ok()).collect();
            for connection in accepted {
                if let Some(exit) = self.answer(connection)? {
                    return Ok(exit);
                }
            }
        }
    }
}

impl TinyWorker {
    fn answer(&mut self, connection: Accepted) -> Result<Option<Exit>, WorkerError> {
        connection.stream.set_nonblocking(false)?;
        let mut tiny = std::env::var("TINY").unwrap_or_default();
        let mut line = String::new();
        BufReader::new(&connection.stream).read_line(&mut line)?;
        match line.trim_end().split_once(' ').unwrap_or((line.trim_end(), "")) {
            ("sleep", seconds) => std::thread::sleep(Duration::from_secs_f64(seconds.parse().unwrap_or(1.0))),
            ("exit", status) => return Ok(Some(Exit::Application(status.parse().unwrap_or(1)))),
            ("fail", reason) => return Err(WorkerError::Failed(reason.to_owned())),
            ("relieve", _) => assert!(self.context.slot.ask_for_relief()),
            ("hoard", bytes) => self.hoard = vec![1; bytes.parse().unwrap_or(0)],
            ("recycle", _) => return Ok(Some(Exit::Recycled)),
            ("print", text) => println!("{text}"),
            ("self", name) => tiny = format!("{:?} {:?}", std::env::args_os().next(), std::env::var_os(name)),
            ("fork", _) => tiny = helper().to_string(),
            ("panic", reason) => panic!("{reason}"),
            _ => {}
        }
        let (pid, generation) = (std::process::id(), self.context.generation);
        let _ = writeln!(&connection.stream, "{pid} {generation} {tiny}");
        self.context.slot.add_request();
        Ok(None)
    }
}

/// A process of the application's own, which sleeps.
fn helper() -> i32 {
    // SAFETY: this process has one thread.
    match unsafe { nix::unistd::fork() } {
        Ok(nix::unistd::ForkResult::Parent { child }) => child.as_raw(),
        Ok(nix::unistd::ForkResult::Child) => {
            std::thread::sleep(Duration::from_secs(30));
            std::process::exit(0)
        }
        Err(error) => panic!("{error}"),
    }
}
