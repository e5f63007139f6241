//! With another allocator preloaded, as many production images have it, every class starts, serves and stops. Allocators call
//! what the binary exports in place of the C library's functions before `main`, and in the midst of their work.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rgunicorn_harness::{Builder, Server, application, on_every_class};

/// The libraries of `tests/packages`, or how their names begin.
const ALLOCATORS: [&str; 3] = ["libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so."];

fn library(name: &str) -> PathBuf {
    let list = |directory: &Path| {
        std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
    };
    let mut all = list(Path::new("/usr/lib")).flat_map(|directory| list(&directory).collect::<Vec<_>>());
    let is_it =
        |path: &PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
    all.find(is_it).unwrap_or_else(|| panic!("{name} is missing: tests/install-packages installs it"))
}

fn build(allocator: &str) -> Builder {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).env("LD_PRELOAD", library(allocator))
}

/// An application whose requests allocate in their own thread and in others at the same time, without Python's lock.
fn allocating() -> String {
    let work = "\
import zlib
from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor(4)
texts = [bytes(range(256)) * 40, b'abc' * 7000, bytes(50000)]


def length(text):
    return len(zlib.decompress(zlib.compress(text, 1)))


def work():
    others = [pool.submit(length, text) for text in texts]
    mine = [length(text) for text in texts]
    assert [other.result() for other in others] == mine
    return str(sum(mine)).encode()


";
    format!("{work}{}", application("work()"))
}

const ANSWER: &str = "81240";

/// Asks so many at a time, so often; all must be answered.
fn ask(server: &Server, at_once: usize, times: usize, what: &str) {
    for _ in 0..times {
        let mut clients: Vec<_> = (0..at_once).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.set_timeout(Duration::from_secs(120));
            client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        }
        for client in &mut clients {
            let answer = client.read_response(false).map(|response| response.text());
            let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}\n{}", server.log()));
            assert_eq!(answer, ANSWER, "{what}\n{}", server.log());
        }
    }
}

/// A server of the application above, asked; it must stop as well.
fn serve(class: &str, allocator: &str, at_once: usize, times: usize) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("allocating.py"), allocating()).unwrap();
    let builder = build(allocator).directory(directory.path());
    let mut server = builder.args(["-w", "1", "-k", class, "--timeout", "120", "allocating:app"]).start();
    let what = format!("{class}, {allocator}");
    ask(&server, at_once, times, &what);
    server.signal(Signal::SIGTERM);
    assert!(server.wait().success(), "{what}\n{}", server.log());
    assert!(!server.log().contains("ERROR"), "{what}\n{}", server.log());
}

#[test]
fn a_command_that_only_says_something_ends_with_each() {
    for allocator in ALLOCATORS {
        let mut command = build(allocator).no_bind().args(["--version"]).command();
        let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if begun.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(status.is_some_and(|status| status.success()), "{allocator}: {status:?}");
    }
}

on_every_class! {
    fn it_serves_with_each_of_them_preloaded(class: &str) {
        for allocator in ALLOCATORS {
            serve(class, allocator, 10, 10);
        }
    }
}

/// What showed its deadlock after some thousand requests.
#[test]
fn coroutines_and_threads_that_allocate_at_once_do_not_wait_for_ever() {
    for allocator in ALLOCATORS {
        serve("coro", allocator, 200, 15);
    }
}
