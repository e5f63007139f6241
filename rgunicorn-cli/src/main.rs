//! The `rgunicorn` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    rgunicorn_cli::Cli::new().run()
}
