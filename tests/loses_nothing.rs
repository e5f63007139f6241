//! Under load, reloads and recycling lose no request: none refused, reset or cut, on any worker class.
//!
//! `RGUNICORN_LOAD_SECONDS` says for how long each of them is tried; `tests/lossless` sets it to 30 and shows the counts.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rgunicorn_harness::{Load, Server, on_every_class};

/// How many clients ask at a time, half of them on connections that are kept.
const CLIENTS: usize = 16;

fn seconds() -> u64 {
    let given = std::env::var("RGUNICORN_LOAD_SECONDS").ok().and_then(|text| text.parse().ok());
    given.unwrap_or(2)
}

/// A load, and a SIGHUP a second if `reloads`.
fn try_it(class: &str, what: &str, arguments: &[&str], reloads: bool) {
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        // A client that gets no processor for as long as the default allows would find its connection closed for that.
        .args(["-k", class, "-w", "2", "--keep-alive", "75", "promises:raw"])
        .args(arguments)
        .start();
    server.wait_for_log_times("is ready", 2);
    let load = Load::start(server.port(), CLIENTS);
    let begin = Instant::now();
    for second in 1..=seconds() {
        let until = Duration::from_secs(second).saturating_sub(begin.elapsed());
        std::thread::sleep(until);
        if reloads {
            server.signal(Signal::SIGHUP);
        }
    }
    if reloads {
        server.wait_for_log("finishes what it holds");
    }
    server.wait_until("a while more", || {
        begin.elapsed() > Duration::from_secs(seconds()) + Duration::from_millis(500)
    });
    let counts = load.stop();
    let log = server.log();
    let (born, generations) =
        (log.matches("is ready").count(), log.matches("finishes what it holds").count());
    println!("{class}, {what}: {counts}; {born} workers, {generations} reloads went through");
    assert_eq!(counts.lost(), 0, "{class}, {what}: {counts}");
    assert!(!log.contains("[ERROR]") && !log.contains("[CRITICAL]"), "{log}");
    assert!(counts.answered > 100 && born > 2, "{class}, {what}: {counts}; {born} workers");
}

on_every_class! {
    fn reloads_and_recycling(class: &str) {
        try_it(class, "SIGHUP and max_requests", &["--max-requests", "200", "--max-requests-jitter", "50"], true);
    }

    fn reloads_with_reuse_port(class: &str) {
        try_it(class, "SIGHUP with reuse_port", &["--reuse-port"], true);
    }
}
