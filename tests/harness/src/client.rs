//! One connection: raw bytes out, whole responses in.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// A response, read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The status line and header lines as they came.
    pub head: String,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Whether the body ended as its framing said it would.
    pub whole: bool,
}

impl Response {
    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that bytes are sent and received on.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    /// A connection to a server on this machine.
    pub fn connect(port: u16) -> Client {
        Client::try_connect(port).expect("the server accepts connections")
    }

    /// A connection to a server on this machine, if it takes one.
    pub fn try_connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out can be set");
        stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a time-out can be set");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        Ok(Client { stream, unread: Vec::new() })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("the server takes what is sent");
        self
    }

    /// Sends bytes that the server may no longer want.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// A GET on this connection, and its response.
    pub fn get(&mut self, target: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")).response()
    }

    /// Reads one response to a request other than HEAD.
    pub fn response(&mut self) -> Response {
        self.read_response(false).expect("a response")
    }

    /// Reads one response, which has no body if the request was a HEAD; an error if the server closed or reset.
    pub fn read_response(&mut self, head_request: bool) -> io::Result<Response> {
        let end = loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                break end + 4;
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        self.unread.drain(..end);
        let status = head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0);
        let mut response = Response { status, head, body: Vec::new(), whole: true };
        if head_request || status < 200 || status == 204 || status == 304 {
            return Ok(response);
        }
        if let Some(length) = response.header("Content-Length") {
            let length = length.parse().map_err(io::Error::other)?;
            response.whole = self.take(length, &mut response.body)?;
        } else if response.header("Transfer-Encoding").is_some_and(|coding| coding == "chunked") {
            response.whole = self.chunks(&mut response.body)?;
        } else {
            while self.fill()? > 0 {}
            response.body.append(&mut self.unread);
        }
        Ok(response)
    }

    fn take(&mut self, length: usize, into: &mut Vec<u8>) -> io::Result<bool> {
        while self.unread.len() < length {
            if self.fill()? == 0 {
                into.append(&mut self.unread);
                return Ok(false);
            }
        }
        into.extend(self.unread.drain(..length));
        Ok(true)
    }

    fn chunks(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let end = loop {
                if let Some(end) = find(&self.unread, b"\r\n") {
                    break end;
                }
                if self.fill()? == 0 {
                    return Ok(false);
                }
            };
            let size = String::from_utf8_lossy(&self.unread[..end]).into_owned();
            let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
            self.unread.drain(..end + 2);
            let (mut chunk, mut line_end) = (Vec::new(), Vec::new());
            if !self.take(size, &mut chunk)? || !self.take(2, &mut line_end)? {
                return Ok(false);
            }
            assert_eq!(line_end, b"\r\n", "a chunk ends with CRLF");
            if size == 0 {
                return Ok(true);
            }
            into.append(&mut chunk);
        }
    }

    /// Reads some bytes as they are; empty at the end of the stream.
    pub fn read_some(&mut self) -> io::Result<Vec<u8>> {
        if self.unread.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.unread))
    }

    /// Whether the server has closed the connection, orderly or not, within the client's time-out.
    pub fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && matches!(self.fill(), Ok(0) | Err(_)) && self.unread.is_empty()
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) -> &mut Self {
        self.stream.shutdown(Shutdown::Write).expect("our side can be closed");
        self
    }

    /// How long reads wait.
    pub fn set_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.stream.set_read_timeout(Some(timeout)).expect("a time-out can be set");
        self
    }

    /// The socket itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 64 * 1024];
        let count = self.stream.read(&mut piece)?;
        self.unread.extend_from_slice(&piece[..count]);
        Ok(count)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
