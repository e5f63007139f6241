//! A running rgunicorn.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Client;

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the harness lies two levels deep")
}

/// The directory of the examples.
pub fn examples() -> PathBuf {
    repository().join("examples")
}

/// The virtual environment of the tests, made by `tests/run`.
fn environment() -> PathBuf {
    let made = std::env::var_os("RGUNICORN_TEST_VENV").map(PathBuf::from);
    let path = made.unwrap_or_else(|| repository().join("target/test-venv"));
    assert!(path.join("bin/python3").exists(), "{} is missing: tests/run makes it", path.display());
    path
}

/// The Python of the tests' virtual environment.
pub fn python() -> PathBuf {
    environment().join("bin/python3")
}

/// A directory with the real gunicorn, for `PYTHONPATH`: it isn't in the virtual environment itself.
pub fn gunicorn() -> PathBuf {
    environment().join("gunicorn")
}

/// A server that is about to be started.
#[derive(Debug)]
pub struct Builder {
    binary: PathBuf,
    directory: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    bind: bool,
}

impl Builder {
    /// Adds arguments.
    pub fn args<S: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Sets the directory that it runs in; `tests/apps` otherwise.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Leaves `--bind` to the test.
    pub fn no_bind(mut self) -> Self {
        self.bind = false;
        self
    }

    /// The command, not started.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(&self.directory);
        for name in
            ["PORT", "WEB_CONCURRENCY", "GUNICORN_CMD_ARGS", "RGUNICORN_CMD_ARGS", "FORWARDED_ALLOW_IPS"]
        {
            command.env_remove(name);
        }
        command.env("VIRTUAL_ENV", environment());
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        // Servers that run side by side would fight for one control socket.
        command.env("XDG_RUNTIME_DIR", "/proc/nowhere");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if self.bind {
            command.args(["--bind", "127.0.0.1:0"]);
        }
        command.args(&self.arguments);
        let has = |argument: &str| self.arguments.iter().any(|other| other == argument);
        if has("threads") && !has("--threads") {
            // With one thread, which is the default, the class would not be itself.
            command.args(["--threads", "4"]);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end, which must come by itself: exit status, standard output, standard error.
    pub fn run(&self) -> (Option<i32>, String, String) {
        let output = self.command().output().expect("rgunicorn can be started");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> Server {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let log = std::fs::File::create(directory.path().join("log")).expect("a log file can be made");
        let mut command = self.command();
        command.stdout(log.try_clone().expect("a descriptor can be copied")).stderr(log);
        let child = command.spawn().expect("rgunicorn can be started");
        let mut server = Server { child, directory, port: 0, exited: None };
        server.wait_for_log("Listening at: ");
        let listening = server.log();
        let port = listening.split("Listening at: ").nth(1).and_then(|rest| {
            let address = rest.split([' ', ',']).next()?;
            address.rsplit(':').next()?.parse().ok()
        });
        server.port = port.unwrap_or(0);
        server
    }
}

/// A running arbiter and its workers; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    directory: tempfile::TempDir,
    port: u16,
    exited: Option<ExitStatus>,
}

impl Server {
    /// A server that `binary` runs, which tests have by `env!("CARGO_BIN_EXE_rgunicorn")`.
    pub fn build(binary: &str) -> Builder {
        Builder {
            binary: binary.into(),
            directory: repository().join("tests/apps"),
            arguments: Vec::new(),
            variables: Vec::new(),
            bind: true,
        }
    }

    /// The TCP port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A new connection to it.
    pub fn connect(&self) -> Client {
        Client::connect(self.port)
    }

    /// Where it can be reached, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The arbiter's process.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process number is an i32")
    }

    /// The workers' processes, oldest first.
    pub fn workers(&self) -> Vec<i32> {
        let children = format!("/proc/{0}/task/{0}/children", self.pid());
        let children = std::fs::read_to_string(children).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Waits until there are so many workers.
    pub fn wait_for_workers(&self, count: usize) -> Vec<i32> {
        self.wait_until(&format!("{count} workers"), || self.workers().len() == count);
        self.workers()
    }

    /// A directory of this server's own, gone when it is dropped.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// All that it has logged so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.directory.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the log says something.
    pub fn wait_for_log(&self, text: &str) {
        self.wait_until(&format!("{text:?} in the log"), || self.log().contains(text));
    }

    /// Waits until the log says something so many times.
    pub fn wait_for_log_times(&self, text: &str, times: usize) {
        self.wait_until(&format!("{text:?} {times} times in the log"), || {
            self.log().matches(text).count() >= times
        });
    }

    /// Waits until something has come true.
    pub fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}; the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends the arbiter a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the arbiter lives");
    }

    /// Waits until the arbiter has exited by itself, and says with which status.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.exited {
                return status;
            }
            self.exited = self.child.try_wait().expect("the arbiter can be waited for");
            assert!(start.elapsed() < PATIENCE, "the arbiter goes on; the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The greatest resident memory that a process ever had, in bytes.
    pub fn peak_memory(pid: i32) -> u64 {
        status_line(pid, "VmHWM:")
    }

    /// The resident memory of a process, in bytes.
    pub fn memory(pid: i32) -> u64 {
        status_line(pid, "VmRSS:")
    }
}

fn status_line(pid: i32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server's log:\n{}---", self.log());
        }
        if self.exited.is_none() {
            let workers = self.workers();
            // It may have exited in the meantime: then there is nothing to kill.
            let _ = self.child.kill();
            let _ = self.child.wait();
            for worker in workers {
                let _ = kill(Pid::from_raw(worker), Signal::SIGKILL);
            }
        }
    }
}
