//! The one piece of memory that arbiter and workers share.
//!
//! A header, then [`SLOTS`] slots of [`SLOT_SIZE`] bytes, one a worker. All numbers are 64 bits wide, in the machine's
//! byte order, and change atomically; nobody locks. The arbiter writes the header, claims a slot before it forks and
//! frees it when the worker was reaped; in between the worker alone writes to it. Another program may read all of it, by
//! mapping the descriptor of the arbiter's (or a worker's) that `/proc/PID/fd` shows as `/memfd:rgunicorn-scoreboard`,
//! once it has compared magic and layout version.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::sys::clock::monotonic_ms;
use crate::sys::memory::{Shared, shared_struct};
use crate::sys::signals::Bell;

/// The header's first number: `RGUNISCB`, read as a big-endian number.
pub const MAGIC: u64 = u64::from_be_bytes(*b"RGUNISCB");
/// The header's second number: counts changes of this layout.
pub const LAYOUT: u64 = 2;
/// How many workers there can be at once, old generations included.
pub const SLOTS: usize = 512;
/// From one slot to the next, in bytes.
pub const SLOT_SIZE: usize = 1024;

shared_struct! {
    /// The header, in order.
    struct Header {
        magic: AtomicU64,
        layout: AtomicU64,
        slots: AtomicU64,
        slot_size: AtomicU64,
        arbiter: AtomicU64,
        state: AtomicU64,
        generation: AtomicU64,
        /// Requests of workers that have ended.
        requests_before: AtomicU64,
        reserved: [AtomicU64; 8],
    }
}

shared_struct! {
    /// One slot, in order.
    struct SlotMemory {
        pid: AtomicU64,
        generation: AtomicU64,
        state: AtomicU64,
        booted: AtomicU64,
        heartbeat: AtomicU64,
        requests: AtomicU64,
        connections: AtomicU64,
        started: AtomicU64,
        /// 1 once the worker has asked for another in its place.
        wants_relief: AtomicU64,
        /// For what is measured later: latencies, bytes.
        reserved: [AtomicU64; 119],
    }
}

shared_struct! {
    struct Board {
        header: Header,
        slots: [SlotMemory; SLOTS],
    }
}

const _: () = assert!(size_of::<Header>() == 128 && size_of::<SlotMemory>() == SLOT_SIZE);

/// What the arbiter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum ArbiterState {
    /// It minds its workers.
    Running = 1,
    /// It has told its workers to stop.
    Stopping = 2,
    /// It was told to stop, and serves on for `stop_delay`: new clients had better go elsewhere.
    Draining = 3,
}

/// What a worker is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum WorkerState {
    /// The slot is nobody's.
    Free = 0,
    /// It loads its application.
    Booting = 1,
    /// It waits.
    Idle = 2,
    /// It serves.
    Busy = 3,
    /// It finishes what it holds.
    Stopping = 4,
}

impl WorkerState {
    fn from_number(number: u64) -> WorkerState {
        [WorkerState::Booting, WorkerState::Idle, WorkerState::Busy, WorkerState::Stopping]
            .into_iter()
            .find(|state| *state as u64 == number)
            .unwrap_or(WorkerState::Free)
    }
}

/// Names a slot of a [`Scoreboard`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotId(usize);

/// What a slot says at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotView {
    /// The worker's process; 0 until it has started.
    pub pid: u32,
    /// The reload that it belongs to.
    pub generation: u64,
    /// What it is about.
    pub state: WorkerState,
    /// Whether its application was loaded.
    pub booted: bool,
    /// When it was last seen alive, in milliseconds of the monotonic clock.
    pub heartbeat: u64,
    /// Requests that it has answered.
    pub requests: u64,
    /// Connections that it holds.
    pub connections: u64,
    /// When its slot was claimed, in milliseconds of the monotonic clock.
    pub started: u64,
    /// Whether it has asked for another in its place.
    pub wants_relief: bool,
}

/// The arbiter's side.
#[derive(Debug, Clone)]
pub struct Scoreboard {
    board: Arc<Shared<Board>>,
}

impl Scoreboard {
    /// Makes an empty one that processes forked from here on share; this process is the arbiter.
    ///
    /// # Errors
    /// When there is no memory, or there are no descriptors, left.
    pub fn new() -> io::Result<Scoreboard> {
        let board = Shared::<Board>::mapped("rgunicorn-scoreboard")?;
        let header = &board.header;
        header.layout.store(LAYOUT, Relaxed);
        header.slots.store(SLOTS as u64, Relaxed);
        header.slot_size.store(SLOT_SIZE as u64, Relaxed);
        header.arbiter.store(u64::from(std::process::id()), Relaxed);
        header.state.store(ArbiterState::Running as u64, Relaxed);
        header.magic.store(MAGIC, std::sync::atomic::Ordering::Release);
        Ok(Scoreboard { board: Arc::new(board) })
    }

    /// The memory, for other programs to map.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.board.file()
    }

    /// Says what the arbiter is about; workers can ask.
    pub fn set_state(&self, state: ArbiterState) {
        self.board.header.state.store(state as u64, Relaxed);
    }

    /// Says which generation of workers is current.
    pub fn set_generation(&self, generation: u64) {
        self.board.header.generation.store(generation, Relaxed);
    }

    /// Takes a free slot for a worker about to be forked; none if all are taken.
    pub fn claim(&self, generation: u64) -> Option<SlotId> {
        let index =
            self.board.slots.iter().position(|slot| slot.state.load(Relaxed) == WorkerState::Free as u64)?;
        let slot = self.board.slots.get(index)?;
        let now = monotonic_ms();
        for number in [&slot.pid, &slot.booted, &slot.requests, &slot.connections, &slot.wants_relief] {
            number.store(0, Relaxed);
        }
        for number in slot.reserved.iter().filter(|number| number.load(Relaxed) != 0) {
            number.store(0, Relaxed);
        }
        slot.generation.store(generation, Relaxed);
        slot.started.store(now, Relaxed);
        slot.heartbeat.store(now, Relaxed);
        slot.state.store(WorkerState::Booting as u64, Relaxed);
        Some(SlotId(index))
    }

    /// Gives a slot back whose worker is no more.
    pub fn free(&self, id: SlotId) {
        if let Some(slot) = self.board.slots.get(id.0) {
            self.board.header.requests_before.fetch_add(slot.requests.load(Relaxed), Relaxed);
            slot.pid.store(0, Relaxed);
            slot.state.store(WorkerState::Free as u64, Relaxed);
        }
    }

    /// The worker's side of a slot.
    pub fn slot(&self, id: SlotId) -> Slot {
        Slot { place: Place::Shared(Arc::clone(&self.board), id.0), bell: None }
    }

    /// What a slot says now.
    pub fn view(&self, id: SlotId) -> SlotView {
        self.slot(id).view()
    }

    /// Requests answered since the arbiter began, by workers that are and that were.
    pub fn requests(&self) -> u64 {
        let taken = |slot: &&SlotMemory| slot.state.load(Relaxed) != WorkerState::Free as u64;
        let alive: u64 = self.board.slots.iter().filter(taken).map(|slot| slot.requests.load(Relaxed)).sum();
        self.board.header.requests_before.load(Relaxed) + alive
    }
}

/// A worker's own slot. Clones stand for the same slot.
///
/// [`Slot::default`] is attached to no scoreboard: for tests, and for hosts that run an engine with no arbiter.
#[derive(Debug, Clone)]
pub struct Slot {
    place: Place,
    /// Wakes the arbiter up.
    bell: Option<Arc<Bell>>,
}

#[derive(Debug, Clone)]
enum Place {
    Shared(Arc<Shared<Board>>, usize),
    Detached(Arc<Shared<SlotMemory>>),
}

impl Default for Slot {
    fn default() -> Self {
        Slot { place: Place::Detached(Arc::new(Shared::private())), bell: None }
    }
}

impl Slot {
    #[inline]
    fn memory(&self) -> &SlotMemory {
        match &self.place {
            // An index out of range can't be made; slot 0 stands in for the panic.
            Place::Shared(board, index) => board.slots.get(*index).unwrap_or(&board.slots[0]),
            Place::Detached(slot) => slot,
        }
    }

    /// Says that this worker is alive. One is due in each `timeout`, or the arbiter kills it.
    #[inline]
    pub fn notify(&self) {
        self.memory().heartbeat.store(monotonic_ms(), Relaxed);
    }

    /// Says what this worker is about.
    #[inline]
    pub fn set_state(&self, state: WorkerState) {
        self.memory().state.store(state as u64, Relaxed);
    }

    /// Says that the application was loaded: whoever waits for this generation may go.
    pub fn booted(&self) {
        self.notify();
        self.set_state(WorkerState::Idle);
        self.memory().booted.store(1, Relaxed);
        self.ring();
    }

    /// Asks the arbiter for another worker in the place of this one, which goes on serving until it is told to stop: that
    /// is when the other one serves. False if there is no arbiter to ask.
    pub fn ask_for_relief(&self) -> bool {
        self.memory().wants_relief.store(1, Relaxed);
        self.ring();
        self.bell.is_some()
    }

    fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }

    /// With the means to wake the arbiter up.
    pub(crate) fn with_bell(self, bell: Bell) -> Slot {
        Slot { bell: Some(Arc::new(bell)), ..self }
    }

    /// Counts an answered request.
    #[inline]
    pub fn add_request(&self) {
        self.memory().requests.fetch_add(1, Relaxed);
    }

    /// Says how many connections this worker holds.
    #[inline]
    pub fn set_connections(&self, count: usize) {
        self.memory().connections.store(count as u64, Relaxed);
    }

    /// Whether the arbiter is on its way out, so that keep-alive connections end here.
    pub fn arbiter_is_stopping(&self) -> bool {
        match &self.place {
            Place::Shared(board, _) => board.header.state.load(Relaxed) == ArbiterState::Stopping as u64,
            Place::Detached(_) => false,
        }
    }

    /// What the slot says now.
    pub fn view(&self) -> SlotView {
        let slot = self.memory();
        SlotView {
            pid: slot.pid.load(Relaxed) as u32,
            generation: slot.generation.load(Relaxed),
            state: WorkerState::from_number(slot.state.load(Relaxed)),
            booted: slot.booted.load(Relaxed) != 0,
            heartbeat: slot.heartbeat.load(Relaxed),
            requests: slot.requests.load(Relaxed),
            connections: slot.connections.load(Relaxed),
            started: slot.started.load(Relaxed),
            wants_relief: slot.wants_relief.load(Relaxed) != 0,
        }
    }

    /// Says which process this is.
    pub(crate) fn set_pid(&self, pid: u32) {
        self.memory().pid.store(u64::from(pid), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_slot_is_seen_from_both_sides() {
        let board = Scoreboard::new().unwrap();
        let id = board.claim(3).unwrap();
        let slot = board.slot(id);
        assert_eq!(board.view(id).state, WorkerState::Booting);
        assert!(!board.view(id).booted);
        slot.set_pid(42);
        slot.booted();
        slot.add_request();
        slot.set_connections(5);
        slot.set_state(WorkerState::Busy);
        let view = board.view(id);
        assert_eq!((view.pid, view.generation, view.requests, view.connections), (42, 3, 1, 5));
        assert_eq!((view.state, view.booted), (WorkerState::Busy, true));
        assert!(!slot.arbiter_is_stopping());
        board.set_state(ArbiterState::Stopping);
        assert!(slot.arbiter_is_stopping());
    }

    #[test]
    fn slots_are_reused_clean_and_their_requests_remembered() {
        let board = Scoreboard::new().unwrap();
        let ids: Vec<_> = (0..SLOTS).map(|_| board.claim(1).unwrap()).collect();
        assert_eq!(board.claim(1), None);
        board.slot(ids[7]).booted();
        board.slot(ids[7]).add_request();
        board.free(ids[7]);
        assert_eq!(board.requests(), 1);
        let again = board.claim(2).unwrap();
        assert_eq!(again, ids[7]);
        assert_eq!((board.view(again).requests, board.view(again).booted), (0, false));
        assert_eq!(board.requests(), 1);
    }

    #[test]
    fn another_program_can_read_it() {
        let board = Scoreboard::new().unwrap();
        let id = board.claim(9).unwrap();
        board.slot(id).add_request();
        let path = format!("/proc/self/fd/{}", board.file().unwrap().as_raw_fd());
        let bytes = std::fs::read(path).unwrap();
        let number = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(
            (number(0), number(8), number(16), number(24)),
            (MAGIC, LAYOUT, SLOTS as u64, SLOT_SIZE as u64)
        );
        assert_eq!(number(32), u64::from(std::process::id()));
        assert_eq!(bytes.len(), 128 + SLOTS * SLOT_SIZE);
        assert_eq!((number(128 + 8), number(128 + 40)), (9, 1));
    }

    #[test]
    fn a_detached_slot_works_alone() {
        let slot = Slot::default();
        slot.clone().add_request();
        slot.notify();
        assert_eq!(slot.view().requests, 1);
        assert!(slot.view().heartbeat > 0);
        assert!(!slot.arbiter_is_stopping());
    }
}
