//! A real arbiter with a tiny worker class, in a process of its own, driven by signals and watched by its log.
//!
//! Started with `RGUNICORN_TEST_SETTINGS` this program is that arbiter (see `tiny`); otherwise it runs the tests, each
//! with an arbiter for itself, and takes a part of a test's name as its argument.

#![allow(clippy::unwrap_used)]

mod server;
mod tests;
mod tiny;

use std::panic::catch_unwind;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(settings) = std::env::var_os(tiny::SETTINGS) {
        return tiny::run(settings.into());
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let picked =
        tests::ALL.iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter.as_str())));
    let mut failed = 0;
    let running: Vec<_> =
        picked.map(|(name, test)| (name, std::thread::spawn(move || catch_unwind(test).is_ok()))).collect();
    let count = running.len();
    for (name, thread) in running {
        let passed = thread.join().unwrap_or(false);
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += u32::from(!passed);
    }
    println!("\ntest result: {count} tests, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
