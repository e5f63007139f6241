//! What the workers of one arbiter know of each other, and the queue of connections between them.
//!
//! The queue is a Unix socket that the arbiter makes and all workers inherit, as they do listeners: a second listen queue,
//! of connections that some worker has had already. A [`Parcel`] in it is a connection's descriptor with what the next
//! worker must know, the bytes read so far included. It is taken out by whichever worker asks first, whole or not at all,
//! so that a connection always has one owner: the worker that holds it, or the queue. A worker that is killed loses
//! nothing of what it has sent, and the arbiter's copy of the descriptors keeps the queue while there is no worker.
//!
//! What is worth handing over, and to whom it goes, is said in `engine/handover.rs`.

mod parcel;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

pub(crate) use parcel::{Facts, Parcel};

use crate::scoreboard::Slot;
use crate::sys::passing;

/// The queue of connections from worker to worker.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    ends: Arc<(OwnedFd, OwnedFd)>,
}

impl Queue {
    pub(crate) fn new() -> io::Result<Queue> {
        Ok(Queue { ends: Arc::new(passing::queue()?) })
    }
}

/// A worker's view of the others, and its access to the queue.
#[derive(Debug, Clone)]
pub struct Siblings {
    queue: Queue,
    slot: Slot,
}

/// Why a connection was handed over. Also the first byte of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reason {
    /// Its worker has more than its share. Nothing waits yet: others had better look who has least.
    Surplus = b'S',
    /// Its client waits for an answer, or may soon: whoever is free takes it.
    Waits = b'W',
}

/// What connections are taken out of the queue with.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    /// What a message is received into; empty until there is one.
    buffer: Vec<u8>,
    /// A descriptor kept open so that there is one for the next connection: the kernel drops what it finds no room for.
    reserve: Option<OwnedFd>,
}

/// What came of asking the queue for a connection.
#[derive(Debug)]
pub(crate) enum Taken {
    /// From here on it is ours.
    Connection(Parcel, OwnedFd),
    /// Nothing is in the queue.
    Nothing,
    /// This process has no descriptor left for one: it stays where it is.
    NoRoom,
}

/// How many turns a worker may be ahead of one that waits for its turn.
const LEAD: u64 = 8;
/// How much a connection that is handed over may have in its buffer.
pub(crate) const LARGEST_INPUT: usize = 64 * 1024;
/// More than the largest message there can be.
const LARGEST: usize = LARGEST_INPUT + 8 * 1024;

impl Siblings {
    pub(crate) fn new(queue: Queue, slot: Slot) -> Siblings {
        Siblings { queue, slot }
    }

    /// Readable when there is something to be taken.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.queue.ends.1.as_raw_fd()
    }

    fn entry(&self) -> BorrowedFd<'_> {
        self.queue.ends.0.as_fd()
    }

    fn exit(&self) -> BorrowedFd<'_> {
        self.queue.ends.1.as_fd()
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Whether any other worker will take what is handed over.
    pub(crate) fn any_serves(&self) -> bool {
        self.slot.siblings().next().is_some()
    }

    /// How the connections are shared out, seen from a worker that holds `own`.
    pub(crate) fn share(&self, own: usize) -> Share {
        let mut share = Share { connections: own as u64, workers: 1 };
        for sibling in self.slot.siblings().filter(|sibling| !sibling.stuck) {
            // Whatever the other says of itself.
            share.connections = share.connections.saturating_add(sibling.connections);
            share.workers += 1;
        }
        if share.workers > 1 {
            share.connections = share.connections.saturating_add(self.under_way());
        }
        share
    }

    /// Whether another worker that holds no more than this one, which holds `own`, has had fewer turns: the next connection
    /// had better be left to it. Where each connection is but one request, what workers hold says little.
    pub(crate) fn is_ahead(&self, own: usize) -> bool {
        let (turns, own) = (self.slot.turns(), own as u64);
        self.slot.siblings().any(|sibling| {
            sibling.connections <= own && !sibling.stuck && sibling.turns.saturating_add(LEAD) < turns
        })
    }

    /// This worker takes a connection. One that took none for long is not to have all until it has caught up.
    pub(crate) fn take_turn(&self) {
        let most = self.slot.siblings().map(|sibling| sibling.turns).max().unwrap_or(0);
        self.slot.set_turns(self.slot.turns().saturating_add(1).max(most.saturating_sub(2 * LEAD)));
    }

    fn under_way(&self) -> u64 {
        self.slot.handed_over().map_or(0, |count| (count.load(Relaxed) as i64).max(0) as u64)
    }

    /// Adds to the number of connections under way; the greatest number takes one from it.
    fn count(&self, more: u64) {
        if let Some(count) = self.slot.handed_over() {
            count.fetch_add(more, Relaxed);
        }
    }

    /// Hands a connection over. Once this has succeeded it isn't ours any more.
    ///
    /// # Errors
    /// When the queue is full, or has too many descriptors under way: it stays ours.
    pub(crate) fn hand_over(
        &self,
        reason: Reason,
        facts: &Facts,
        input: &[u8],
        descriptor: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let head = parcel::encode(reason as u8, facts);
        self.count(1);
        let sent = passing::send(self.entry(), &[&head, input], descriptor);
        if sent.is_err() {
            self.count(u64::MAX);
        }
        sent
    }

    /// Why the next connection in the queue was handed over; none if there is none.
    pub(crate) fn next_reason(&self) -> Option<Reason> {
        match passing::peek(self.exit()) {
            Ok(Some(byte)) if byte == Reason::Surplus as u8 => Some(Reason::Surplus),
            Ok(Some(_)) => Some(Reason::Waits),
            Ok(None) | Err(_) => None,
        }
    }

    /// Takes the next connection out of the queue, if there is a descriptor for it.
    ///
    /// # Errors
    /// When the queue fails, or another thread has taken the last descriptor in the same moment: the connection is lost then.
    pub(crate) fn take_over(&self, intake: &mut Intake) -> io::Result<Taken> {
        // The place that it keeps is the connection's, and another one is looked for at once.
        let reserve = intake.reserve.take().map_or_else(|| self.exit().try_clone_to_owned(), Ok);
        let Ok(reserve) = reserve else { return Ok(Taken::NoRoom) };
        drop(reserve);
        intake.buffer.resize(LARGEST, 0);
        let received = passing::receive(self.exit(), &mut intake.buffer);
        intake.reserve = self.exit().try_clone_to_owned().ok();
        let Some((length, descriptor)) = received? else {
            // Whatever the count has come to by workers that died in the middle: there is none.
            if let Some(count) = self.slot.handed_over().filter(|count| count.load(Relaxed) != 0) {
                count.store(0, Relaxed);
            }
            return Ok(Taken::Nothing);
        };
        self.count(u64::MAX);
        let descriptor = descriptor
            .ok_or_else(|| io::Error::other("no descriptor is left for a connection handed over"))?;
        let parcel = parcel::decode(intake.buffer.get(..length).unwrap_or(&[]))
            .ok_or_else(|| io::Error::other("a connection was handed over in an unknown way"))?;
        Ok(Taken::Connection(parcel, descriptor))
    }
}

/// How many connections there are, and how many workers to hold them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    connections: u64,
    workers: u64,
}

impl Share {
    /// The most that one of the workers should hold: its share, and a little more, so that connections that come and go
    /// aren't handed around.
    pub(crate) fn most(self) -> usize {
        if self.workers < 2 {
            return usize::MAX;
        }
        let share = self.connections.div_ceil(self.workers);
        share.saturating_add(share / 64) as usize
    }

    /// Whether other workers can hold more connections, of which each worker may have so many.
    pub(crate) fn leaves_room(self, each: usize) -> bool {
        self.workers > 1 && self.connections < self.workers.saturating_mul(each as u64)
    }

    /// One more connection has come.
    pub(crate) fn one_more(&mut self) {
        self.connections = self.connections.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::app::{Peer, ServerAddress};
    use crate::scoreboard::{Scoreboard, WorkerState};

    /// The views of so many booted workers of one arbiter.
    fn workers(count: usize) -> Vec<Siblings> {
        let (board, queue) = (Scoreboard::new().unwrap(), Queue::new().unwrap());
        let worker = |_| {
            let slot = board.slot(board.claim(1).unwrap());
            slot.take_part(false);
            slot.booted();
            Siblings::new(queue.clone(), slot)
        };
        (0..count).map(worker).collect()
    }

    fn facts() -> Facts {
        Facts::new(Peer::unix(), ServerAddress::Unix("".into()))
    }

    #[test]
    fn a_connection_is_the_same_on_the_other_side() {
        let workers = workers(2);
        let (giver, taker) = (&workers[0], &workers[1]);
        let (_near, far) = UnixStream::pair().unwrap();
        let mut intake = Intake::default();
        for size in [0, 1, LARGEST_INPUT] {
            let input = vec![7; size];
            giver.hand_over(Reason::Waits, &facts(), &input, far.as_fd()).unwrap();
            assert_eq!(taker.next_reason(), Some(Reason::Waits));
            let Taken::Connection(parcel, _) = taker.take_over(&mut intake).unwrap() else { panic!() };
            assert_eq!(parcel, Parcel { facts: facts(), input });
            assert!(matches!(taker.take_over(&mut intake).unwrap(), Taken::Nothing));
        }
    }

    #[test]
    fn the_share_counts_workers_that_serve_and_what_is_under_way() {
        let workers = workers(4);
        assert_eq!(workers[0].share(0).most(), 0);
        workers[1].slot().set_connections(10);
        workers[2].slot().set_connections(10);
        assert_eq!(workers[0].share(0).most(), 5);
        // One that is stuck can't take its share, one that leaves doesn't want it.
        workers[1].slot().take_part(true);
        assert_eq!(workers[0].share(2).most(), 4);
        workers[2].slot().set_state(WorkerState::Stopping);
        assert_eq!(workers[0].share(2).most(), 1);
        workers[3].slot().set_state(WorkerState::Stopping);
        assert_eq!(workers[0].share(2).most(), usize::MAX);
        assert!(workers[0].any_serves(), "the one that is stuck does");
        let (_near, far) = UnixStream::pair().unwrap();
        workers[1].slot().take_part(false);
        workers[0].hand_over(Reason::Surplus, &facts(), b"", far.as_fd()).unwrap();
        workers[0].hand_over(Reason::Surplus, &facts(), b"", far.as_fd()).unwrap();
        assert_eq!(workers[0].share(2).most(), 7);
    }
}
