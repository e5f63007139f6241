//! The `rgunicorn` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // They are to end a worker as they would end `python3`.
    rgunicorn_core::sys::faults::take_their_default();
    rgunicorn_cli::Cli::new().run()
}
