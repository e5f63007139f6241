//! The other end of the control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a command came to nothing.
#[derive(Debug, Error)]
pub(super) enum CtlError {
    #[error("neither XDG_RUNTIME_DIR nor HOME says where the control socket is; --socket can")]
    NoSocket,
    #[error(
        "no server answers at {path:?}: {source}; is it running, as this user, with this control_socket?"
    )]
    Nobody { path: PathBuf, source: io::Error },
    #[error("the server has closed the connection")]
    Closed,
    #[error("the control socket failed: {0}")]
    Io(#[from] io::Error),
    #[error("the server has answered with something else than JSON: {0}")]
    Nonsense(#[from] serde_json::Error),
    #[error("{0}")]
    Refused(String),
}

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    pub(super) fn connect(path: &Path) -> Result<Client, CtlError> {
        let stream =
            UnixStream::connect(path).map_err(|source| CtlError::Nobody { path: path.to_owned(), source })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Gives a command, and waits for what comes of it.
    pub(super) fn ask(&mut self, command: &str, arguments: &[&str]) -> Result<Value, CtlError> {
        let question = json!({"command": command, "args": arguments});
        let mut line = String::new();
        if self.stream.get_mut().write_all(format!("{question}\n").as_bytes()).is_err()
            || self.stream.read_line(&mut line)? == 0
        {
            return Err(CtlError::Closed);
        }
        let mut answer: Value = serde_json::from_str(&line)?;
        match answer["ok"].as_bool() {
            Some(true) => Ok(answer["data"].take()),
            _ => Err(CtlError::Refused(answer["error"].as_str().unwrap_or("refused").to_owned())),
        }
    }
}
