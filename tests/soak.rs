//! A server that is reloaded, resized and hurt under load for a long time: the arbiter neither grows nor keeps descriptors.
//!
//! `RGUNICORN_SOAK_SECONDS` says for how long; `tests/soak` sets it to 1800 and shows what it sees.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rgunicorn_harness::{Load, Server};

/// What the arbiter has of its own.
#[derive(Debug, Clone, Copy)]
struct Holdings {
    descriptors: usize,
    /// In KiB.
    memory: u64,
}

fn holdings(pid: i32) -> Holdings {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    // What workers don't share, or have stopped sharing, is the arbiter's.
    let memory =
        smaps.lines().filter(|line| line.starts_with("Private_") || line.starts_with("Shared_Dirty"));
    Holdings {
        descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        memory: memory.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum(),
    }
}

/// Waits until all is quiet, and looks.
fn at_rest(server: &Server) -> Holdings {
    server.wait_until("two workers at rest", || server.workers().len() == 2);
    holdings(server.pid())
}

#[test]
fn reloads_leave_nothing_behind_in_the_arbiter() {
    let given = std::env::var("RGUNICORN_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let (seconds, clients) = given.map_or((8, 2), |seconds: u64| (seconds, 4));
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .args(["-k", "event", "-w", "2", "--max-requests", "2000", "--max-requests-jitter", "500"])
        .args(["--reuse-port", "--graceful-timeout", "5", "promises:raw"])
        .start();
    let begin = Instant::now();
    let (mut first, mut last, mut round) = (None, None, 0);
    let (mut answered, mut lost) = (0, 0);
    while begin.elapsed() < Duration::from_secs(seconds) {
        round += 1;
        let load = Load::start(server.port(), clients);
        server.signal(Signal::SIGHUP);
        server.wait_for_log_times("finishes what it holds", round);
        server.signal(Signal::SIGTTIN);
        std::thread::sleep(Duration::from_millis(300));
        server.signal(Signal::SIGTTOU);
        std::thread::sleep(Duration::from_millis(200));
        let counts = load.stop();
        (answered, lost) = (answered + counts.answered, lost + counts.lost());
        assert_eq!(counts.lost(), 0, "in round {round}: {counts}");
        // One that is killed, at rest: it would lose what it runs.
        let workers = server.workers();
        kill(Pid::from_raw(workers[0]), Signal::SIGKILL).unwrap();
        // Unless it has just left by itself.
        let ends =
            [format!("(pid:{}) was sent SIGKILL!", workers[0]), format!("exiting (pid: {})", workers[0])];
        server.wait_until("its end", || ends.iter().any(|end| server.log().contains(end)));
        let now = at_rest(&server);
        if round == 3 {
            first = Some(now);
        }
        if given.is_some() && round % 50 == 0 {
            println!(
                "{:5.0} s, {round} rounds: {now:?}, {answered} answered, {lost} lost",
                begin.elapsed().as_secs_f64()
            );
        }
        last = Some(now);
    }
    let (first, last) = (first.expect("three rounds"), last.expect("three rounds"));
    println!("{round} rounds, {answered} answered, {lost} lost: {first:?} became {last:?}");
    assert_eq!(first.descriptors, last.descriptors, "after {round} rounds");
    assert!(last.memory <= first.memory + 512, "{first:?} became {last:?} in {round} rounds");
}
