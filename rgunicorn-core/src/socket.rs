//! Listeners: addresses, binding, inheritance.

mod bind;
mod queue;

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use socket2::{SockAddr, SockRef, Socket};
use thiserror::Error;

use crate::app::{Peer, ServerAddress};
use crate::config::{BindAddress, Config};
use crate::metrics::ListenQueue;
use crate::sys::{forks, net, processes};

pub use bind::bind;

/// A bound, listening, non-blocking socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: ServerAddress,
    /// What it was made from; tells a reload whether it can stay.
    bound_to: BindAddress,
    /// The socket file that this process made, if it made one.
    file: Option<SocketFile>,
    /// Further sockets that listen at the same address, with `reuse_port`: one for each worker, `socket` being the first.
    /// They are never closed before the arbiter ends, for a socket that is closed loses who waits in its queue; so many
    /// as there ever were workers.
    further: Option<RefCell<Vec<Socket>>>,
}

/// Which of several sockets a worker accepts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// Which of the workers it is, counted from 0.
    pub(crate) seat: usize,
    /// How many workers there are to be.
    pub(crate) of: usize,
}

impl Share {
    /// The sockets, by number: each has its worker, also where there are more sockets than workers.
    pub(crate) fn of(self, sockets: usize) -> impl Iterator<Item = usize> {
        (self.seat..sockets).step_by(self.of.max(1))
    }
}

/// A connection just accepted; non-blocking.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: Socket,
    /// Who is at its other end.
    pub peer: Peer,
    /// [How often](forks::count) this process had forked before.
    pub forks: u64,
}

/// An address that can't be listened at.
#[derive(Debug, Error)]
pub enum BindError {
    /// The system refused.
    #[error("Can't listen at {address}: {source}{}", self.by_whom())]
    Refused {
        /// The address as configured.
        address: BindAddress,
        /// Why.
        source: io::Error,
        /// Who listens there, where that is why and can be seen.
        holder: Option<String>,
    },
    /// A host name that nobody knows.
    #[error("Can't listen at {address}: the host name has no address ({source})")]
    Unknown {
        /// The address as configured.
        address: BindAddress,
        /// Why.
        source: io::Error,
    },
    /// Something else than a socket is at the path.
    #[error("Can't listen at {address}: there is a file of that name, and it is not a socket")]
    NotASocket {
        /// The address as configured.
        address: BindAddress,
    },
    /// The descriptor is none, or not a stream socket.
    #[error(
        "Can't listen at {address}: {why}; it must be a stream socket that this process was started with"
    )]
    Descriptor {
        /// The address as configured.
        address: BindAddress,
        /// Why.
        why: String,
    },
}

impl BindError {
    /// The end of a sentence about it that says who has the address; empty where that isn't known.
    fn by_whom(&self) -> String {
        match self {
            BindError::Refused { holder: Some(holder), .. } => format!("; {holder} listens there"),
            _ => String::new(),
        }
    }

    fn refused(address: &BindAddress, source: io::Error) -> BindError {
        BindError::Refused { address: address.clone(), source, holder: None }
    }

    /// With the name of whoever has the address, if it is taken.
    fn held(self, resolved: std::net::SocketAddr) -> BindError {
        match self {
            BindError::Refused { address, source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                BindError::Refused { address, source, holder: processes::listener_at(resolved) }
            }
            other => other,
        }
    }

    /// The system's error, where it refused an address that may be free, or there, in a moment.
    fn passing(&self) -> Option<&io::Error> {
        match self {
            BindError::Refused { source, .. } => Some(source).filter(|source| {
                matches!(source.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
            }),
            _ => None,
        }
    }
}

impl Listener {
    /// Accepts a connection, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when nobody waits; `ConnectionAborted` when the client has left again; EMFILE and its kin when there
    /// are no descriptors left.
    pub fn accept(&self) -> io::Result<Accepted> {
        let forks = forks::count();
        let (stream, peer) = net::accept(&self.socket)?;
        Ok(Accepted { stream, peer: peer.as_socket().map_or_else(Peer::unix, Peer::tcp), forks })
    }

    /// The connections that nobody has accepted yet; with `reuse_port` those at all sockets with this address.
    pub fn queue(&self) -> Option<ListenQueue> {
        let (waiting, room) = queue::of(&self.socket, &self.address)?;
        Some(ListenQueue { address: self.to_string(), waiting, room })
    }

    /// What it is bound to.
    pub fn server_address(&self) -> &ServerAddress {
        &self.address
    }

    /// Another handle for the same socket.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn try_clone(&self) -> io::Result<Listener> {
        Ok(Listener {
            socket: self.socket.try_clone()?,
            address: self.address.clone(),
            bound_to: self.bound_to.clone(),
            file: None,
            further: None,
        })
    }

    /// What a worker accepts from: another handle, or with `reuse_port` of the sockets those that `share` has.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(crate) fn for_worker(&self, share: Share) -> io::Result<Vec<Listener>> {
        let Some(further) = &self.further else { return Ok(vec![self.try_clone()?]) };
        let further = further.borrow();
        let sockets: Vec<&Socket> = std::iter::once(&self.socket).chain(further.iter()).collect();
        share
            .of(sockets.len())
            .filter_map(|index| sockets.get(index))
            .map(|socket| Ok(Listener { socket: socket.try_clone()?, ..self.try_clone()? }))
            .collect()
    }

    /// With `reuse_port`, makes as many sockets as there are workers.
    ///
    /// # Errors
    /// When there are no descriptors left, or the port was taken from us.
    pub(crate) fn provide_for(&self, workers: usize, config: &Config) -> io::Result<()> {
        if let Some(further) = &self.further {
            let mut further = further.borrow_mut();
            while further.len() + 1 < workers {
                further.push(bind::listen(&self.socket.local_addr()?, config)?);
            }
        }
        Ok(())
    }

    /// How many sockets it has for workers to share out; none if they all accept from one.
    pub(crate) fn shared_out(&self) -> Option<usize> {
        self.further.as_ref().map(|further| further.borrow().len() + 1)
    }

    /// Calls `with` for each socket that it listens with.
    pub(crate) fn for_each_socket<E>(
        &self,
        mut with: impl FnMut(BorrowedFd<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        with(self.socket.as_fd())?;
        let further = self.further.as_ref().map(RefCell::borrow);
        further.iter().flat_map(|further| further.iter()).try_for_each(|socket| with(socket.as_fd()))
    }

    /// Adapts it to settings that may have changed.
    pub(crate) fn readjust(&self, config: &Config) {
        // Listening again changes the backlog. That it listens already it does.
        let listen = |socket: BorrowedFd<'_>| {
            let _ = SockRef::from(&socket).listen(bind::backlog(config));
            Ok::<(), Infallible>(())
        };
        let _ = self.for_each_socket(listen);
    }

    /// Whether it can serve a configuration that wants `address`.
    pub(crate) fn fits(&self, address: &BindAddress, config: &Config) -> bool {
        let tcp = matches!(address, BindAddress::Tcp { .. });
        self.bound_to == *address && self.further.is_some() == (tcp && config.reuse_port)
    }

    /// Removes the socket file, if this process made it and it is still the same.
    pub(crate) fn unlink(&self) {
        if let Some(file) = &self.file
            && file.is_same()
        {
            let _ = std::fs::remove_file(&file.path);
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            // `SocketAddr` puts brackets around an IPv6 address.
            ServerAddress::Tcp(address) => write!(f, "http://{address}"),
            ServerAddress::Unix(path) => write!(f, "unix:{}", printable(path)),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A path, with the NUL that begins an abstract name shown as `@`.
fn printable(path: &Path) -> String {
    path.to_string_lossy().replacen('\0', "@", 1)
}

fn server_address(address: &SockAddr) -> ServerAddress {
    if let Some(address) = address.as_socket() {
        return ServerAddress::Tcp(address);
    }
    let path = match (address.as_pathname(), address.as_abstract_namespace()) {
        (Some(path), _) => path.to_owned(),
        (None, Some(name)) => {
            use std::os::unix::ffi::OsStringExt;
            PathBuf::from(std::ffi::OsString::from_vec([b"\0", name].concat()))
        }
        (None, None) => PathBuf::new(),
    };
    ServerAddress::Unix(path)
}

/// A socket file, as it was when it was made.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<SocketFile> {
        let path = std::path::absolute(path)?;
        let metadata = std::fs::symlink_metadata(&path)?;
        Ok(SocketFile { path, device: metadata.dev(), inode: metadata.ino() })
    }

    /// Whether the path still names it, and not one that another server has put there.
    fn is_same(&self) -> bool {
        std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (self.device, self.inode))
    }
}
