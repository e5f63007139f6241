//! Clients that go on asking, and what became of what they asked.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::Client;

/// Clients that go on asking until they are told to stop: half of them each request on a connection of its own, half on
/// one connection for as long as the server keeps it.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Counts>>,
}

/// What became of the requests of a load.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Answered with 200 to the end.
    pub answered: usize,
    /// The server took no connection.
    pub refused: usize,
    /// The connection was reset before the answer, or in the middle of it.
    pub reset: usize,
    /// The connection was closed before the answer, or in the middle of it.
    pub cut: usize,
    /// Answered otherwise, or not at all.
    pub wrong: usize,
    /// The first of those that were lost, in words.
    pub first_loss: Option<String>,
}

impl Counts {
    /// How many were not answered as they should.
    pub fn lost(&self) -> usize {
        self.refused + self.reset + self.cut + self.wrong
    }

    fn add(mut self, other: Counts) -> Counts {
        self.answered += other.answered;
        self.refused += other.refused;
        self.reset += other.reset;
        self.cut += other.cut;
        self.wrong += other.wrong;
        self.first_loss = self.first_loss.or(other.first_loss);
        self
    }

    fn note(&mut self, loss: Loss, connection: &str) {
        let number = match &loss {
            Loss::Refused(_) => &mut self.refused,
            Loss::Broken(error) if error.kind() == ErrorKind::UnexpectedEof => &mut self.cut,
            Loss::Broken(error)
                if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) =>
            {
                &mut self.reset
            }
            Loss::Broken(_) | Loss::Wrong(_) => &mut self.wrong,
        };
        *number += 1;
        self.first_loss.get_or_insert_with(|| format!("Connection: {connection}: {loss:?}"));
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { answered, refused, reset, cut, wrong, first_loss } = self;
        write!(f, "{answered} answered, {refused} refused, {reset} reset, {cut} cut, {wrong} wrong")?;
        first_loss.as_ref().map_or(Ok(()), |loss| write!(f, "; the first: {loss}"))
    }
}

/// A request without its answer.
#[derive(Debug)]
#[expect(dead_code, reason = "what is in them is shown")]
enum Loss {
    Refused(io::Error),
    Broken(io::Error),
    Wrong(String),
}

impl Load {
    /// Lets so many clients ask for `/`.
    pub fn start(port: u16, clients: usize) -> Load {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = (0..clients)
            .map(|number| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                let connection = if number % 2 == 0 { "close" } else { "keep-alive" };
                std::thread::spawn(move || ask_until(&stop, &answered, port, connection))
            })
            .collect();
        Load { stop, answered, clients }
    }

    /// How many were answered so far.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub fn stop(self) -> Counts {
        self.stop.store(true, Ordering::Relaxed);
        let counts = self.clients.into_iter().map(|client| client.join().expect("a client lives"));
        counts.fold(Counts::default(), Counts::add)
    }
}

fn ask_until(stop: &AtomicBool, answered: &AtomicUsize, port: u16, connection: &str) -> Counts {
    let request = format!("GET / HTTP/1.1\r\nHost: t\r\nConnection: {connection}\r\n\r\n");
    let (mut counts, mut kept) = (Counts::default(), None);
    while !stop.load(Ordering::Relaxed) {
        match ask(kept.take(), port, &request) {
            Ok(client) => {
                answered.fetch_add(1, Ordering::Relaxed);
                counts.answered += 1;
                kept = client;
            }
            Err(loss) => counts.note(loss, connection),
        }
    }
    counts
}

/// Asks, on this connection or a new one; answers the connection if it is kept.
fn ask(kept: Option<Client>, port: u16, request: &str) -> Result<Option<Client>, Loss> {
    let mut client = match kept {
        Some(client) => client,
        None => Client::try_connect(port).map_err(Loss::Refused)?,
    };
    let response =
        client.try_send(request).and_then(|()| client.read_response(false)).map_err(Loss::Broken)?;
    if !response.whole {
        return Err(Loss::Broken(ErrorKind::UnexpectedEof.into()));
    }
    if response.status != 200 {
        return Err(Loss::Wrong(response.head));
    }
    Ok((response.header("Connection") == Some("keep-alive")).then_some(client))
}
