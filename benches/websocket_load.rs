//! Load for servers of WebSockets: `websocket-load PORT CONNECTIONS SECONDS`.
//!
//! Each connection sends a message of text, waits until it has come back, checks it, and sends it again. One thread, as wrk
//! has it here. Prints a line of figures as benches/compare/load.lua does: messages, microseconds, errors, and the 50th and
//! the 99th percentile of the time that a message took, in microseconds.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

/// What is sent, and must come back.
const MESSAGE: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
const OPENING: &str = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

struct Connection {
    stream: mio::net::TcpStream,
    received: Vec<u8>,
    sent: Instant,
}

impl Connection {
    fn open(port: u16, frame: &[u8], back: &[u8]) -> io::Result<Connection> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(OPENING.as_bytes())?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        if !head.starts_with(b"HTTP/1.1 101 ") {
            return Err(io::Error::other(format!("no WebSocket: {}", String::from_utf8_lossy(&head))));
        }
        // One message back and forth before anything is measured.
        stream.write_all(frame)?;
        let mut first = vec![0; back.len()];
        stream.read_exact(&mut first)?;
        if first != back {
            return Err(io::Error::other(format!("{first:?} came back")));
        }
        stream.set_nonblocking(true)?;
        let stream = mio::net::TcpStream::from_std(stream);
        Ok(Connection { stream, received: Vec::new(), sent: Instant::now() })
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.sent = Instant::now();
        // So small a frame fits into an empty socket whole.
        self.stream.write_all(frame)
    }

    /// Whether the whole message is there.
    fn receive(&mut self, back: &[u8]) -> io::Result<bool> {
        let mut piece = [0; 256];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.received.len() < back.len() {
            return Ok(false);
        }
        if self.received != back {
            return Err(io::Error::other("something else came back"));
        }
        self.received.clear();
        Ok(true)
    }
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let mut number = || match arguments.next() {
        Some(Ok(number)) => Ok(number),
        _ => Err(io::Error::other("websocket-load PORT CONNECTIONS SECONDS, all of them numbers")),
    };
    let (port, count, seconds) = (number()?, number()?, number()?);
    let port = u16::try_from(port).map_err(io::Error::other)?;
    let mask = [1, 2, 3, 4];
    let mut frame = vec![0x81, 0x80 | MESSAGE.len() as u8];
    frame.extend(mask);
    frame.extend(MESSAGE.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    let back = [&[0x81, MESSAGE.len() as u8], &MESSAGE[..]].concat();

    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    let mut connections = (0..count)
        .map(|_| Connection::open(port, &frame, &back).map(Some))
        .collect::<io::Result<Vec<_>>>()?;
    for (index, connection) in connections.iter_mut().flatten().enumerate() {
        poll.registry().register(&mut connection.stream, Token(index), Interest::READABLE)?;
    }
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds);
    let (mut took, mut errors) = (Vec::<u32>::new(), 0);
    for connection in connections.iter_mut().flatten() {
        connection.send(&frame)?;
    }
    while Instant::now() < end {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            let Some(slot) = connections.get_mut(event.token().0) else { continue };
            let Some(connection) = slot else { continue };
            let answered = connection.receive(&back).and_then(|whole| {
                if whole {
                    took.push(u32::try_from(connection.sent.elapsed().as_micros()).unwrap_or(u32::MAX));
                    connection.send(&frame)?;
                }
                Ok(())
            });
            if answered.is_err() {
                errors += 1;
                *slot = None;
            }
        }
    }
    let elapsed = start.elapsed().as_micros();
    took.sort_unstable();
    let at = |share: usize| took.get(took.len().saturating_sub(1).min(took.len() * share / 100)).copied();
    println!("figures {} {elapsed} {errors} {} {}", took.len(), at(50).unwrap_or(0), at(99).unwrap_or(0));
    Ok(())
}
