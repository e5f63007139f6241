//! The tests' side: an arbiter in a process and a directory of its own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::tiny::SETTINGS;

/// For how long anything may take that is to happen.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    pub directory: TempDir,
    child: Child,
}

/// What a worker says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub pid: i32,
    pub generation: u64,
    pub tiny: String,
}

impl Server {
    pub fn start(settings: &str) -> Server {
        Server::start_by(&[], settings)
    }

    /// Starts one by a command, which becomes another user perhaps: it may read this program, and write to the directory.
    pub fn start_by(wrap: &[String], settings: &str) -> Server {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("settings"), settings).unwrap();
        let mut program = std::env::current_exe().unwrap();
        if !wrap.is_empty() {
            let everybody = std::fs::Permissions::from_mode(0o777);
            std::fs::set_permissions(directory.path(), everybody).unwrap();
            let linked = directory.path().join("program");
            // A copy can't be executed while another test's new process has it open for writing, if only for a moment.
            std::fs::hard_link(&program, &linked)
                .or_else(|_| std::fs::copy(&program, &linked).map(drop))
                .unwrap();
            program = linked;
        }
        let mut words = wrap.iter().map(Into::into).chain([program.into_os_string()]);
        let child = Command::new(words.next().unwrap())
            .args(words)
            .env(SETTINGS, directory.path().join("settings"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Server { directory, child }
    }

    /// Starts one and waits until `workers` serve.
    pub fn serving(settings: &str, workers: usize) -> Server {
        let server = Server::start(&format!("workers={workers}\n{settings}"));
        server.until_serving(1, workers);
        server
    }

    /// Waits until the children are `workers` of this generation, and each has answered.
    #[track_caller]
    pub fn until_serving(&self, generation: u64, workers: usize) -> Vec<i32> {
        let mut seen = std::collections::BTreeSet::new();
        self.until(&format!("{workers} workers of generation {generation}"), || {
            seen.extend(
                self.ask("hello").filter(|answer| answer.generation == generation).map(|answer| answer.pid),
            );
            let children = self.children();
            seen.retain(|pid| children.contains(pid));
            children.len() == workers && seen.len() == workers
        });
        seen.into_iter().collect()
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn change(&self, settings: &str) {
        std::fs::write(self.path("settings"), settings).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    #[track_caller]
    pub fn until_logged(&self, text: &str) {
        self.until(text, || self.log().contains(text));
    }

    #[track_caller]
    pub fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < PATIENCE, "never: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a line to whichever worker takes it.
    pub fn ask(&self, line: &str) -> Option<Answer> {
        let mut stream = UnixStream::connect(self.path("socket")).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        writeln!(stream, "{line}").ok()?;
        read_answer(stream)
    }

    /// Sends a line and lets it be answered later.
    pub fn ask_later(&self, line: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.path("socket")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        writeln!(stream, "{line}").unwrap();
        stream
    }

    /// The arbiter's children, zombies not counted.
    pub fn children(&self) -> Vec<i32> {
        children_of(self.pid())
    }

    #[track_caller]
    pub fn until_exit(&mut self) -> i32 {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(start.elapsed() < PATIENCE, "still running\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let children = self.children();
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Those that hang on purpose.
        for pid in children.into_iter().filter(|pid| alive(*pid)) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

pub fn read_answer(stream: UnixStream) -> Option<Answer> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    let mut words = line.trim_end().splitn(3, ' ');
    Some(Answer {
        pid: words.next()?.parse().ok()?,
        generation: words.next()?.parse().ok()?,
        tiny: words.next().unwrap_or_default().to_owned(),
    })
}

pub fn children_of(pid: i32) -> Vec<i32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .filter(|pid| alive(*pid))
        .collect()
}

pub fn alive(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}
