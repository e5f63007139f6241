//! How listeners are made.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::stat::{Mode, umask};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{BindError, Listener, SocketFile, server_address};
use crate::config::{BindAddress, Config};
use crate::sys::net;

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

    /// Listens at one address, trying once.
    ///
    /// # Errors
    /// A [`BindError`].
    pub fn bind_one(address: &BindAddress, config: &Config) -> Result<Listener, BindError> {
        let refused = |source| BindError::refused(address, source);
        let mut reserved = false;
        let mut file = None;
        let socket = match address {
            BindAddress::Tcp { host, port } => {
                let resolved = resolve(host, *port)
                    .map_err(|source| BindError::Unknown { address: address.clone(), source })?;
                reserved = config.reuse_port;
                if reserved { reserve(&resolved.into(), config) } else { listen(&resolved.into(), config) }
                    .map_err(|source| refused(source).held(resolved))?
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
        Ok(Listener { socket, address: server_address(&local), bound_to: address.clone(), file, reserved })
    }
}

/// See [`Listener::bind`].
///
/// # Errors
/// As there.
pub fn bind(config: &Config) -> Result<Vec<Listener>, BindError> {
    let mut listeners: Vec<Listener> = Vec::new();
    for address in &config.bind {
        match bind_patiently(address, config) {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                listeners.iter().for_each(Listener::unlink);
                return Err(error);
            }
        }
    }
    Ok(listeners)
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

/// Makes a socket that listens at `address`.
pub(super) fn listen(address: &SockAddr, config: &Config) -> io::Result<Socket> {
    let socket = reserve(address, config)?;
    socket.listen(backlog(config))?;
    Ok(socket)
}

pub(super) fn backlog(config: &Config) -> i32 {
    i32::try_from(config.backlog).unwrap_or(i32::MAX)
}

/// Makes a socket that is bound to `address` and does not listen: the kernel gives it no connections.
fn reserve(address: &SockAddr, config: &Config) -> io::Result<Socket> {
    let socket = Socket::new(Domain::from(i32::from(address.family())), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if !address.is_unix() {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(config.reuse_port)?;
        // Connections inherit it, so that it costs no call for each.
        socket.set_tcp_nodelay(true)?;
    }
    socket.bind(address)?;
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
        std::os::unix::fs::lchown(path, config.user, config.group)?;
    }
    Ok(socket)
}

/// Takes over a socket that this process was started with, listening already or only bound.
fn inherit(number: i32, config: &Config) -> Result<Socket, String> {
    let socket = Socket::from(net::adopt(number).map_err(|error| error.to_string())?);
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
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::UnixStream;

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
    fn with_reuse_port_each_worker_listens_for_itself() {
        let config = Config { reuse_port: true, ..Config::default() };
        let reservation = Listener::bind_one(&tcp("127.0.0.1", 0), &config).unwrap();
        let address = ("127.0.0.1", port(&reservation));
        assert!(TcpStream::connect(address).is_err(), "the reservation takes no connections");
        let first = reservation.for_worker(&config).unwrap();
        let second = reservation.for_worker(&config).unwrap();
        assert_eq!((port(&first), port(&second)), (address.1, address.1));
        let _client = TcpStream::connect(address).unwrap();
        assert!(first.accept().is_ok() ^ second.accept().is_ok());
    }
}
