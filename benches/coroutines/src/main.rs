//! What coroutines cost on corosensei, with a scheduler like that of rgunicorn's class `coro`, and on may with one worker thread.
//!
//! ```sh
//! cargo run --release --manifest-path benches/coroutines/Cargo.toml
//! ```
//!
//! Two things that requests do: they make way (`yields`), and they wait for a time (`sleeps`, as a handler that sleeps 10 ms, 2,000
//! at a time). Told are processor time for each, all threads of the process together, since a machine may have other work; and
//! on how many threads the coroutines were seen. docs/coro.md says what follows from that.

mod on_corosensei;
mod on_may;

use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How often all is measured; the median is told.
const ROUNDS: usize = 7;
/// How many times each coroutine looks on which thread it is, before and after: that is a system call.
const LOOKS: usize = 8;
const STACK: usize = 64 * 1024;

/// So many coroutines that each do something so often.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    coroutines: usize,
    times: usize,
    /// How long each waits; none just makes way.
    wait: Option<Duration>,
}

const LOADS: [Load; 2] = [
    Load { name: "yields", coroutines: 100, times: 20_000, wait: None },
    Load { name: "sleeps", coroutines: 2_000, times: 50, wait: Some(Duration::from_millis(10)) },
];

/// The threads that coroutines were seen on.
type Threads = HashSet<i64>;

/// The thread that this is, asked for anew: a coroutine may have gone on in another.
fn thread() -> i64 {
    // SAFETY: has no conditions.
    unsafe { libc::syscall(libc::SYS_gettid) }
}

/// Whether that is the process's first, in which alone Python handles signals.
fn is_first(threads: &Threads) -> bool {
    threads.iter().all(|thread| *thread == i64::from(std::process::id()))
}

/// The processor time of this process.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place for the time.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

struct Measured {
    each: f64,
    took: Duration,
    threads: usize,
    first: bool,
}

fn measure(load: Load, run: fn(Load) -> Threads) -> Measured {
    let (before, begun) = (processor_time(), Instant::now());
    let threads = run(load);
    let used = processor_time() - before;
    let count = (load.coroutines * load.times) as f64;
    Measured {
        each: used.as_secs_f64() * 1e9 / count,
        took: begun.elapsed(),
        threads: threads.len(),
        first: is_first(&threads),
    }
}

fn main() {
    type Run = fn(Load) -> Threads;
    let kinds: [(&str, Run); 2] = [("corosensei", on_corosensei::run), ("may", on_may::run)];
    println!(
        "{:8}{:12}{:>22}{:>10}{:>10}{:>24}",
        "", "", "processor ns for each", "took ms", "threads", "the process's first only"
    );
    for load in LOADS {
        let mut all = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (measured, (_, run)) in all.iter_mut().zip(kinds) {
                measured.push(measure(load, run));
            }
        }
        let mut medians = Vec::new();
        for (mut measured, (kind, _)) in all.into_iter().zip(kinds) {
            measured.sort_by(|a, b| a.each.total_cmp(&b.each));
            let most = measured.iter().map(|measured| measured.threads).max().unwrap_or(0);
            let Measured { each, took, first, .. } = measured[ROUNDS / 2];
            let first = if first { "yes" } else { "no" };
            println!("{:8}{kind:12}{each:>22.0}{:>10}{most:>10}{first:>28}", load.name, took.as_millis());
            medians.push(each);
        }
        println!("{:8}may / corosensei: {:.1}", "", medians[1] / medians[0]);
    }
}
