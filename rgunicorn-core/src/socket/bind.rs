//! How listeners are made.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::stat::{Mode, umask};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{BindError, Listener, SocketFile, server_address};
use crate::config::{BindAddress, Config};
use crate::sys::net;
use crate::sys::opening::{self, Party};

/// How often an address that is taken is tried, a second apart.
const ATTEMPTS: u32 = 5;

impl Listener {
    /// Listens at every address of `config.bind`. One that is taken is tried five times, a second apart.
    ///
    /// # Errors
    /// A [`BindError`] with the first address that can't be had; those that could are closed again.
    pub fn bind(config: &Config) -> Result<Vec<Listener>, BindError> {
        bind(config)
    }

    /// The same, but where one of the sockets of `inherited` listens already, that is taken. Those that nobody wants are
    /// closed.
    ///
    /// # Errors
    /// As for [`bind`](Self::bind).
    pub fn bind_over(config: &Config, inherited: Vec<OwnedFd>) -> Result<Vec<Listener>, BindError> {
        let mut inherited: Vec<Socket> = inherited.into_iter().map(Socket::from).collect();
        let mut listeners: Vec<Listener> = Vec::new();
        for address in &config.bind {
            let sockets = inherited.extract_if(.., |socket| is_at(socket, address)).collect();
            let bound = match Listener::over(sockets, address, config)? {
                Some(listener) => Ok(listener),
                None => bind_patiently(address, config),
            };
            match bound {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    listeners.iter().for_each(Listener::unlink);
                    return Err(error);
                }
            }
        }
        Ok(listeners)
    }

    /// A listener that has these sockets, which all are at one address; none of none.
    fn over(
        sockets: Vec<Socket>,
        address: &BindAddress,
        config: &Config,
    ) -> Result<Option<Listener>, BindError> {
        let wrong = |why| BindError::Descriptor { address: address.clone(), why };
        let mut sockets = sockets.into_iter().map(|socket| prepare(socket, config).map_err(wrong));
        let Some(socket) = sockets.next().transpose()? else { return Ok(None) };
        let refused = |source| BindError::refused(address, source);
        let local = socket.local_addr().map_err(refused)?;
        let file = match address {
            BindAddress::Unix(path) => SocketFile::at(path).ok(),
            _ => None,
        };
        let shares = !local.is_unix() && socket.reuse_port().map_err(refused)?;
        let further = sockets.collect::<Result<Vec<_>, _>>()?;
        let further = (shares || !further.is_empty()).then(|| RefCell::new(further));
        Ok(Some(Listener {
            socket,
            address: server_address(&local),
            bound_to: address.clone(),
            file,
            further,
        }))
    }

    /// Listens at one address, trying once.
    ///
    /// # Errors
    /// A [`BindError`].
    pub fn bind_one(address: &BindAddress, config: &Config) -> Result<Listener, BindError> {
        let refused = |source| BindError::refused(address, source);
        let mut further = None;
        let mut file = None;
        let socket = match address {
            BindAddress::Tcp { host, port } => {
                let resolved = resolve(host, *port)
                    .map_err(|source| BindError::Unknown { address: address.clone(), source })?;
                further = config.reuse_port.then(RefCell::default);
                listen(&resolved.into(), config).map_err(|source| refused(source).held(resolved))?
            }
            BindAddress::Unix(path) => {
                remove_stale(path, address)?;
                let socket = listen_at_path(path, config).map_err(refused)?;
                file = SocketFile::at(path).ok();
                socket
            }
            BindAddress::Abstract(name) => {
                use std::os::unix::ffi::OsStrExt;
                let name = [b"\0", name.as_slice()].concat();
                SockAddr::unix(std::ffi::OsStr::from_bytes(&name))
                    .and_then(|name| listen(&name, config))
                    .map_err(refused)?
            }
            BindAddress::Fd(number) => inherit(*number, config)
                .map_err(|why| BindError::Descriptor { address: address.clone(), why })?,
        };
        let local = socket.local_addr().map_err(refused)?;
        Ok(Listener { socket, address: server_address(&local), bound_to: address.clone(), file, further })
    }
}

/// See [`Listener::bind`].
///
/// # Errors
/// As there.
pub fn bind(config: &Config) -> Result<Vec<Listener>, BindError> {
    Listener::bind_over(config, Vec::new())
}

/// Whether a socket listens where this address means.
fn is_at(socket: &Socket, address: &BindAddress) -> bool {
    let Ok(local) = socket.local_addr() else { return false };
    match address {
        BindAddress::Tcp { host, port } => match (local.as_socket(), resolve(host, *port)) {
            // Port 0 is any.
            (Some(local), Ok(wanted)) => {
                local.ip() == wanted.ip() && (*port == 0 || local.port() == wanted.port())
            }
            _ => false,
        },
        BindAddress::Unix(path) => {
            let absolute = |path: &Path| std::path::absolute(path).ok();
            local.as_pathname().is_some_and(|local| absolute(local) == absolute(path))
        }
        BindAddress::Abstract(name) => local.as_abstract_namespace() == Some(name.as_slice()),
        BindAddress::Fd(number) => socket.as_raw_fd() == *number,
    }
}

fn bind_patiently(address: &BindAddress, config: &Config) -> Result<Listener, BindError> {
    let mut attempt = 1;
    loop {
        let error = match Listener::bind_one(address, config) {
            Ok(listener) => return Ok(listener),
            Err(error) => error,
        };
        let Some(source) = error.passing() else { return Err(error) };
        match source.kind() {
            io::ErrorKind::AddrInUse => tracing::error!("Connection in use: {address}"),
            _ => tracing::error!("Invalid address: {address}"),
        }
        tracing::error!("connection to {address} failed: {source}{}", error.by_whom());
        if attempt == ATTEMPTS {
            return Err(error);
        }
        attempt += 1;
        tracing::debug!("Retrying in 1 second.");
        std::thread::sleep(Duration::from_secs(1));
    }
}

pub(super) fn backlog(config: &Config) -> i32 {
    i32::try_from(config.backlog).unwrap_or(i32::MAX)
}

/// Makes a socket that listens at `address`.
pub(super) fn listen(address: &SockAddr, config: &Config) -> io::Result<Socket> {
    let socket = Socket::new(Domain::from(i32::from(address.family())), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if !address.is_unix() {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(config.reuse_port)?;
        // Connections inherit it, so that it costs no call for each.
        socket.set_tcp_nodelay(true)?;
    }
    socket.bind(address)?;
    socket.listen(backlog(config))?;
    Ok(socket)
}

/// A host name means its first IPv4 address, as in gunicorn, or its first IPv6 address if it has no other.
fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    first.copied().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Removes a socket file that an earlier server left behind.
fn remove_stale(path: &Path, address: &BindAddress) -> Result<(), BindError> {
    let refused = |source| BindError::refused(address, source);
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(path).map_err(refused),
        Ok(_) => Err(BindError::NotASocket { address: address.clone() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

/// The socket file gets its mode from `umask`, and the owner that workers have.
fn listen_at_path(path: &Path, config: &Config) -> io::Result<Socket> {
    let address = SockAddr::unix(path)?;
    let before = umask(Mode::from_bits_truncate(config.umask));
    let bound = listen(&address, config);
    umask(before);
    let socket = bound?;
    if config.user.is_some() || config.group.is_some() {
        let party = Party { user: config.user, group: config.group, all_groups: false };
        opening::give_socket(path, party)?;
    }
    Ok(socket)
}

/// Takes over a socket that this process was started with, listening already or only bound.
fn inherit(number: i32, config: &Config) -> Result<Socket, String> {
    prepare(Socket::from(net::adopt(number).map_err(|error| error.to_string())?), config)
}

/// Makes a socket that was made elsewhere like one of ours.
fn prepare(socket: Socket, config: &Config) -> Result<Socket, String> {
    let describe = |error: io::Error| error.to_string();
    if socket.r#type().map_err(describe)? != Type::STREAM {
        return Err("it is not a stream socket".to_owned());
    }
    socket.set_nonblocking(true).map_err(describe)?;
    if !socket.local_addr().map_err(describe)?.is_unix() {
        socket.set_tcp_nodelay(true).map_err(describe)?;
    }
    if !socket.is_listener().map_err(describe)? {
        socket.listen(backlog(config)).map_err(describe)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::fd::{AsFd, IntoRawFd};
    use std::os::unix::net::UnixStream;

    use super::super::Share;
    use super::*;
    use crate::app::ServerAddress;

    fn tcp(host: &str, port: u16) -> BindAddress {
        BindAddress::Tcp { host: host.to_owned(), port }
    }

    fn one(address: BindAddress) -> Result<Listener, BindError> {
        Listener::bind_one(&address, &Config::default())
    }

    fn port(listener: &Listener) -> u16 {
        match listener.server_address() {
            ServerAddress::Tcp(address) => address.port(),
            ServerAddress::Unix(_) => 0,
        }
    }

    #[test]
    fn tcp_connections_are_accepted_without_waiting() {
        let listener = one(tcp("127.0.0.1", 0)).unwrap();
        assert_eq!(listener.to_string(), format!("http://127.0.0.1:{}", port(&listener)));
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut client = TcpStream::connect(("127.0.0.1", port(&listener))).unwrap();
        let accepted = listener.accept().unwrap();
        assert_eq!(accepted.peer.address(), "127.0.0.1");
        assert_eq!(accepted.peer.port(), Some(client.local_addr().unwrap().port()));
        assert!(accepted.stream.tcp_nodelay().unwrap());
        assert!(accepted.stream.nonblocking().unwrap());
        (&accepted.stream).write_all(b"hi").unwrap();
        let mut two = [0; 2];
        client.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"hi");
    }

    #[test]
    fn names_mean_ipv4_first() {
        let listener = one(tcp("localhost", 0)).unwrap();
        assert!(listener.to_string().starts_with("http://127.0.0.1:"), "{listener}");
        let error = one(tcp("no.such.host.invalid", 0)).unwrap_err();
        assert!(matches!(error, BindError::Unknown { .. }), "{error}");
    }

    #[test]
    fn a_taken_port_is_an_error() {
        let listener = one(tcp("127.0.0.1", 0)).unwrap();
        let error = one(tcp("127.0.0.1", port(&listener))).unwrap_err();
        assert_eq!(error.passing().map(io::Error::kind), Some(io::ErrorKind::AddrInUse), "{error}");
        let holder = format!("; process {} (", std::process::id());
        assert!(error.to_string().contains(&holder), "{error}");
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_another_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        drop(one(BindAddress::Unix(path.clone())).unwrap());
        assert!(path.exists());
        let listener = one(BindAddress::Unix(path.clone())).unwrap();
        assert_eq!(listener.to_string(), format!("unix:{}", path.display()));
        let _client = UnixStream::connect(&path).unwrap();
        assert_eq!(listener.accept().unwrap().peer.address(), "");
        listener.try_clone().unwrap().unlink();
        assert!(path.exists(), "a worker's handle leaves the file alone");
        listener.unlink();
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(one(BindAddress::Unix(path.clone())), Err(BindError::NotASocket { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_socket_file_of_another_server_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let first = one(BindAddress::Unix(path.clone())).unwrap();
        let _second = one(BindAddress::Unix(path.clone())).unwrap();
        first.unlink();
        assert!(path.exists());
    }

    #[test]
    fn the_umask_is_that_of_the_setting() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let config = Config { umask: 0o117, ..Config::default() };
        let _listener = Listener::bind_one(&BindAddress::Unix(path.clone()), &config).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    }

    #[test]
    fn abstract_names_leave_no_file() {
        let name = format!("rgunicorn-test-{}", std::process::id());
        let listener = one(BindAddress::Abstract(name.clone().into_bytes())).unwrap();
        assert_eq!(listener.to_string(), format!("unix:@{name}"));
    }

    #[test]
    fn descriptors_are_inherited_whatever_their_kind() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let bound = socket.local_addr().unwrap().port();
        let listener = one(BindAddress::Fd(socket.into_raw_fd())).unwrap();
        assert_eq!(port(&listener), bound);
        let _client = TcpStream::connect(("127.0.0.1", bound)).unwrap();
        assert!(listener.accept().is_ok());
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for wrong in [datagrams.into_raw_fd(), 0, 9999] {
            let error = one(BindAddress::Fd(wrong)).unwrap_err();
            assert!(matches!(error, BindError::Descriptor { .. }), "{error}");
        }
    }

    #[test]
    fn with_reuse_port_the_sockets_are_shared_out() {
        let config = Config { reuse_port: true, ..Config::default() };
        let listener = Listener::bind_one(&tcp("127.0.0.1", 0), &config).unwrap();
        assert_eq!(listener.shared_out(), Some(1));
        for workers in [3, 2] {
            listener.provide_for(workers, &config).unwrap();
            assert_eq!(listener.shared_out(), Some(3), "none is ever closed");
        }
        let share = |seat, of| listener.for_worker(Share { seat, of }).unwrap();
        assert_eq!([0, 1, 2].map(|seat| share(seat, 3).len()), [1, 1, 1]);
        // With fewer workers one has two.
        let workers = [share(0, 2), share(1, 2)];
        assert_eq!(workers.each_ref().map(Vec::len), [2, 1]);
        let sockets: Vec<&Listener> = workers.iter().flatten().collect();
        assert!(sockets.iter().all(|socket| port(socket) == port(&listener)));
        let clients: Vec<_> =
            (0..20).map(|_| TcpStream::connect(("127.0.0.1", port(&listener))).unwrap()).collect();
        let accepted: usize =
            sockets.iter().map(|socket| std::iter::from_fn(|| socket.accept().ok()).count()).sum();
        assert_eq!(accepted, clients.len());
    }

    #[test]
    fn sockets_that_listen_already_are_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let bind = vec![tcp("127.0.0.1", 0), BindAddress::Unix(path.clone())];
        let config = Config { bind, ..Config::default() };
        let old = Listener::bind(&config).unwrap();
        let handed_on = || -> Vec<OwnedFd> {
            old.iter().map(|listener| listener.as_fd().try_clone_to_owned().unwrap()).collect()
        };
        let new = Listener::bind_over(&config, handed_on()).unwrap();
        assert_eq!((port(&new[0]), port(&new[1])), (port(&old[0]), 0));
        let _client = UnixStream::connect(&path).unwrap();
        assert!(new[1].accept().is_ok(), "it is the same socket");
        // What the settings don't name any more is let go, and what is new is bound.
        let other = Config { bind: vec![tcp("127.0.0.1", 0), tcp("127.0.0.1", 0)], ..Config::default() };
        let new = Listener::bind_over(&other, handed_on()).unwrap();
        assert!(port(&new[0]) == port(&old[0]) && port(&new[1]) != port(&old[0]));
    }
}
