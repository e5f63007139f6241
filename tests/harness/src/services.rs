//! Real servers that applications talk to: PostgreSQL, Redis, MariaDB and a slow HTTPS server.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::{python, repository};

/// The addresses of servers that are started once for the process, as `tests/services.py` writes them: a line of JSON, for
/// the variable SERVICES of the applications that use them. They end with the process: their script waits for the end of
/// a pipe.
pub fn services() -> &'static str {
    static SERVICES: OnceLock<(Child, String)> = OnceLock::new();
    let (_, addresses) = SERVICES.get_or_init(|| {
        let mut child = Command::new(python())
            .arg(repository().join("tests/services.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/services.py can be started");
        let mut addresses = String::new();
        let output = child.stdout.take().expect("it has an output");
        BufReader::new(output).read_line(&mut addresses).expect("it writes text");
        assert!(addresses.starts_with('{'), "tests/services.py has failed; what it says is above");
        (child, addresses.trim_end().to_string())
    });
    addresses
}
