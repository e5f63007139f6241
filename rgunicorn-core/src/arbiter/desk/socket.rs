//! The control socket: a file that its owner alone may open.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::stat::{Mode, fchmod, umask};
use nix::unistd::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

/// How many may wait to be let in.
const BACKLOG: i32 = 128;

/// Why there is no control socket.
#[derive(Debug, Error)]
pub(super) enum SocketError {
    #[error("control_socket {0:?}: another server listens there; --control-socket names another one")]
    InUse(PathBuf),
    #[error("control_socket {0:?}: there is a file of that name, and it is not a socket")]
    NotASocket(PathBuf),
    #[error("control_socket {path:?}: {source}")]
    Refused { path: PathBuf, source: io::Error },
}

/// The listening socket, and its file.
#[derive(Debug)]
pub(super) struct ControlSocket {
    listener: UnixListener,
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    file: (u64, u64),
}

impl ControlSocket {
    /// Listens. A file that a server has left behind is replaced.
    pub(super) fn open(path: &Path, mode: u32) -> Result<ControlSocket, SocketError> {
        let refused = |source| SocketError::Refused { path: path.to_owned(), source };
        let path = std::path::absolute(path).map_err(refused)?;
        if let Some(directory) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(refused)?;
        }
        match std::fs::symlink_metadata(&path) {
            Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path)),
            Ok(_) if UnixStream::connect(&path).is_ok() => return Err(SocketError::InUse(path)),
            Ok(_) => std::fs::remove_file(&path).map_err(refused)?,
            Err(_) => {}
        }
        let listener = listen(&path, mode).map_err(refused)?;
        let found = std::fs::symlink_metadata(&path).map_err(refused)?;
        let file = (found.dev(), found.ino());
        Ok(ControlSocket { listener, path, mode, file })
    }

    /// Takes the next who waits; none if nobody does. Where the file is its owner's alone, so is what is behind it.
    pub(super) fn accept(&self) -> Option<Socket> {
        loop {
            let (stream, _) = self.listener.accept().ok()?;
            let user = getsockopt(&stream, PeerCredentials).map(|peer| peer.uid());
            let ours = user.is_ok_and(|user| user == 0 || user == geteuid().as_raw());
            if !ours && self.mode & 0o077 == 0 {
                tracing::warn!("Control: user {user:?} was turned away");
                continue;
            }
            let stream = Socket::from(OwnedFd::from(stream));
            if stream.set_nonblocking(true).is_ok() {
                return Some(stream);
            }
        }
    }

    /// Removes the file, if it is still ours.
    pub(super) fn unlink(&self) {
        let same = std::fs::symlink_metadata(&self.path).is_ok_and(|it| (it.dev(), it.ino()) == self.file);
        if same {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The file has its mode from its first moment on, and from the socket: its name may be somebody else's by now.
fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    fchmod(&socket, Mode::from_bits_truncate(mode))?;
    // The arbiter has no other thread that could make files meanwhile.
    let before = umask(Mode::empty());
    let bound = socket.bind(&SockAddr::unix(path)?);
    umask(before);
    bound?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(OwnedFd::from(socket).into())
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
