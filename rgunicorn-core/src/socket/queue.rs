//! How many connections wait to be accepted: what `ss -l` shows, asked of the kernel in the same way (`sock_diag(7)`) where a
//! socket can't say it itself.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::unix::nlas::Nla;
use netlink_packet_sock_diag::unix::{self, ShowFlags, UnixRequest};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use socket2::Socket;

use crate::app::ServerAddress;
use crate::sys::net;

/// A queue's length and its limit.
type Queue = (u32, u32);

/// The queue of a listening socket, or of all sockets that listen at its address together; none if the kernel doesn't tell.
pub(super) fn of(listener: &Socket, address: &ServerAddress) -> Option<Queue> {
    match address {
        ServerAddress::Tcp(address) if listener.reuse_port().unwrap_or(false) => of_all_at(*address).ok()?,
        ServerAddress::Tcp(_) => net::listen_queue(listener),
        ServerAddress::Unix(_) => of_unix_socket(listener).ok()?,
    }
}

fn of_unix_socket(listener: &Socket) -> io::Result<Option<Queue>> {
    let inode = nix::sys::stat::fstat(listener)?.st_ino;
    let request = UnixRequest {
        state_flags: unix::StateFlags::LISTEN,
        // The kernel numbers sockets in 32 bits.
        inode: u32::try_from(inode).map_err(io::Error::other)?,
        show_flags: ShowFlags::RQLEN,
        cookie: [0xff; 8],
    };
    let mut queue = None;
    ask(SockDiagMessage::UnixRequest(request), 0, |answer| {
        if let SockDiagMessage::UnixResponse(answer) = answer {
            queue = answer.nlas.iter().find_map(|nla| match nla {
                Nla::ReceiveQueueLength(waiting, room) => Some((*waiting, *room)),
                _ => None,
            });
        }
    })?;
    Ok(queue)
}

fn of_all_at(address: SocketAddr) -> io::Result<Option<Queue>> {
    let (family, id) = match address.ip() {
        IpAddr::V4(_) => (AF_INET, SocketId::new_v4()),
        IpAddr::V6(_) => (AF_INET6, SocketId::new_v6()),
    };
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::LISTEN,
        socket_id: SocketId { source_port: address.port(), ..id },
    };
    let mut queue = None;
    ask(SockDiagMessage::InetRequest(request), NLM_F_DUMP, |answer| {
        if let SockDiagMessage::InetResponse(answer) = answer
            && answer.header.socket_id.source_address == address.ip()
            && answer.header.socket_id.source_port == address.port()
        {
            let (waiting, room) = queue.unwrap_or((0, 0));
            queue = Some((waiting + answer.header.recv_queue, room + answer.header.send_queue));
        }
    })?;
    Ok(queue)
}

/// Asks the kernel, and calls `take` for each message of its answer.
fn ask(request: SockDiagMessage, flags: u16, mut take: impl FnMut(SockDiagMessage)) -> io::Result<()> {
    let kernel = connect()?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    send(kernel.as_raw_fd(), &bytes, MsgFlags::empty())?;
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let count = recv(kernel.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..count).unwrap_or_default();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => take(answer),
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
            // Each begins at a multiple of four.
            let length = message.header.length.next_multiple_of(4).max(4) as usize;
            rest = rest.get(length..).unwrap_or_default();
        }
        if flags & NLM_F_DUMP == 0 {
            return Ok(());
        }
    }
}

fn connect() -> io::Result<OwnedFd> {
    let protocol = SockProtocol::NetlinkSockDiag;
    let kernel = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    // It answers at once. Should it not, whoever has asked for a page must not wait for ever.
    setsockopt(&kernel, sockopt::ReceiveTimeout, &TimeVal::seconds(1))?;
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    use socket2::{Domain, Type};

    use super::*;

    #[test]
    fn unix_sockets_have_a_queue() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = Socket::from(UnixListener::bind(&path).unwrap());
        listener.listen(7).unwrap();
        let address = ServerAddress::Unix(path.clone());
        assert_eq!(of(&listener, &address), Some((0, 7)));
        let _clients: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
        assert_eq!(of(&listener, &address), Some((3, 7)));
        listener.accept().unwrap();
        assert_eq!(of(&listener, &address), Some((2, 7)));
    }

    #[test]
    fn sockets_that_share_a_port_have_one_together() {
        let listen = |at: SocketAddr| {
            let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&at.into()).unwrap();
            socket.listen(9).unwrap();
            socket
        };
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(_) = TcpListener::bind(any) else { continue };
            let first = listen(any.parse().unwrap());
            let at = first.local_addr().unwrap().as_socket().unwrap();
            let _second = listen(at);
            let _clients: Vec<_> = (0..5).map(|_| TcpStream::connect(at).unwrap()).collect();
            assert_eq!(of(&first, &ServerAddress::Tcp(at)), Some((5, 18)));
        }
    }

    #[test]
    fn one_socket_says_it_itself() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let listener = Socket::from(listener);
        let _client = TcpStream::connect(at).unwrap();
        assert_eq!(of(&listener, &ServerAddress::Tcp(at)).map(|(waiting, _)| waiting), Some(1));
    }
}
