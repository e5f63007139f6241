//! The one piece of memory that arbiter and workers share.
//!
//! A header, then [`SLOTS`] slots of [`SLOT_SIZE`] bytes, one a worker. All numbers are 64 bits wide, in the machine's
//! byte order, and change atomically; nobody locks. The arbiter writes the header, claims a slot before it forks and
//! frees it when the worker was reaped; in between the worker alone writes to it. Another program may read all of it, by
//! mapping the descriptor of the arbiter's (or a worker's) that `/proc/PID/fd` shows as `/memfd:rgunicorn-scoreboard`,
//! once it has compared magic and layout version.
//!
//! A slot's counters are never set back: the next worker of a slot counts on, and the sum over all slots, taken or not, is
//! what all workers that ever were have counted.
//!
//! | module | what it is |
//! | --- | --- |
//! | `slot` | what a worker says about itself |
//! | `running` | the requests that it has in hand |
//! | `histogram` | how long requests took |

mod histogram;
mod running;
mod slot;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

pub use histogram::{BOUNDS, Histogram};
pub use running::RunningRequest;
use slot::SlotMemory;
pub use slot::{Counters, Ended, Sibling, Slot, SlotView, WorkerState};

use crate::config::LogLevel;
use crate::sys::clock::monotonic_ms;
use crate::sys::memory::{Shared, shared_struct};

/// The header's first number: `RGUNISCB`, read as a big-endian number.
pub const MAGIC: u64 = u64::from_be_bytes(*b"RGUNISCB");
/// The header's second number: counts changes of this layout.
pub const LAYOUT: u64 = 4;
/// How many workers there can be at once, old generations included.
pub const SLOTS: usize = 512;
/// From one slot to the next, in bytes. Most of a slot is its table of requests: memory is used only for what was.
pub const SLOT_SIZE: usize = 16 * 1024;
/// The size of the header, in bytes.
const HEADER_SIZE: usize = 512;

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
        /// How many of the slots were ever claimed, counted from the first.
        used: AtomicU64,
        /// When the arbiter began, in milliseconds of the monotonic clock.
        started: AtomicU64,
        /// How many workers there should be.
        target: AtomicU64,
        /// After how many milliseconds a request is taken to hang, for the readiness of the server.
        stuck_after: AtomicU64,
        /// One more than the [`LogLevel`] of the error log, or 0 for that of the settings.
        log_level: AtomicU64,
        reloads: AtomicU64,
        failed_reloads: AtomicU64,
        timeouts: AtomicU64,
        slow_requests: AtomicU64,
        spawned: AtomicU64,
        /// Workers that have ended, by [`Cause`].
        ended: [AtomicU64; Cause::ALL.len()],
        /// How many connections are in the queue from worker to worker, or about to be.
        handed_over: AtomicU64,
        reserved: [AtomicU64; 39],
    }
}

shared_struct! {
    struct Board {
        header: Header,
        slots: [SlotMemory; SLOTS],
    }
}

const _: () = assert!(size_of::<Header>() == HEADER_SIZE && size_of::<SlotMemory>() == SLOT_SIZE);

/// Adds to a number that nobody else writes to: no locked instruction is needed.
#[inline]
fn add(number: &AtomicU64, more: u64) {
    number.store(number.load(Relaxed).wrapping_add(more), Relaxed);
}

/// Adds up numbers that somebody else may have written: whatever they are, there is a sum.
fn sum(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().fold(0, u64::wrapping_add)
}

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

/// Why a worker has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Cause {
    /// It has had its `max_requests`, or has grown too large.
    Recycled,
    /// It belonged to a generation that a reload has replaced.
    Reload,
    /// There were more workers than asked for.
    Scaled,
    /// The whole server stops.
    Shutdown,
    /// It gave no sign of life for its `timeout`.
    Timeout,
    /// Something else has killed it: the kernel for want of memory, or somebody's signal.
    Killed,
    /// It could not boot, failed, or its application has asked for it.
    Failed,
}

impl Cause {
    /// All of them, in the order of the header.
    pub const ALL: [Cause; 7] = [
        Cause::Recycled,
        Cause::Reload,
        Cause::Scaled,
        Cause::Shutdown,
        Cause::Timeout,
        Cause::Killed,
        Cause::Failed,
    ];

    /// The name that metrics have for it.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Recycled => "recycled",
            Cause::Reload => "reload",
            Cause::Scaled => "scaled",
            Cause::Shutdown => "shutdown",
            Cause::Timeout => "timeout",
            Cause::Killed => "killed",
            Cause::Failed => "failed",
        }
    }
}

/// What only the arbiter knows, counted since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArbiterView {
    /// Its process.
    pub pid: u32,
    /// Whether it is neither stopping nor about to.
    pub running: bool,
    /// The generation that serves.
    pub generation: u64,
    /// When it began, in milliseconds of the monotonic clock.
    pub started: u64,
    /// How many workers there should be.
    pub target: u64,
    /// After how many milliseconds a request is taken to hang.
    pub stuck_after: u64,
    /// Reloads that went well.
    pub reloads: u64,
    /// Reloads that did not.
    pub failed_reloads: u64,
    /// Workers that gave no sign of life.
    pub timeouts: u64,
    /// Requests that took longer than `slow_request`.
    pub slow_requests: u64,
    /// Workers that were started.
    pub spawned: u64,
    /// Workers that have ended, in the order of [`Cause::ALL`].
    pub ended: [u64; Cause::ALL.len()],
}

/// Events that the arbiter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A reload went well.
    Reload,
    /// A reload did not.
    FailedReload,
    /// A worker gave no sign of life.
    Timeout,
    /// A request took longer than `slow_request`.
    SlowRequest,
    /// A worker was started.
    Spawned,
    /// A worker has ended.
    Ended(Cause),
}

/// Names a slot of a [`Scoreboard`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotId(usize);

impl SlotId {
    /// The slot's place, counted from 0.
    pub fn index(self) -> usize {
        self.0
    }
}

/// The whole board: the arbiter's side of it, and for workers what they read of it.
#[derive(Debug, Clone)]
pub struct Scoreboard {
    board: Arc<Shared<Board>>,
    /// The slots that are taken. Not in the memory that workers can write to: a worker must not be given the slot of one
    /// that lives, nor the arbiter find none for the next.
    taken: Arc<[AtomicBool; SLOTS]>,
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
        header.started.store(monotonic_ms(), Relaxed);
        header.magic.store(MAGIC, std::sync::atomic::Ordering::Release);
        let taken = Arc::new([const { AtomicBool::new(false) }; SLOTS]);
        Ok(Scoreboard { board: Arc::new(board), taken })
    }

    /// The memory, for other programs to map.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.board.file()
    }

    /// Says what the arbiter is about; workers can ask.
    pub fn set_state(&self, state: ArbiterState) {
        self.board.header.state.store(state as u64, Relaxed);
    }

    /// Says which generation of workers is current, and after how many milliseconds its requests are taken to hang.
    pub fn set_generation(&self, generation: u64, stuck_after: u64) {
        self.board.header.stuck_after.store(stuck_after, Relaxed);
        self.board.header.generation.store(generation, Relaxed);
    }

    /// Says how many workers there should be.
    pub fn set_target(&self, target: usize) {
        self.board.header.target.store(target as u64, Relaxed);
    }

    /// Says which level of the error log workers are to take over; none for that of the settings.
    pub fn set_log_level(&self, level: Option<LogLevel>) {
        self.board.header.log_level.store(level.map_or(0, |level| level as u64 + 1), Relaxed);
    }

    /// Counts something.
    pub fn count(&self, event: Event) {
        let header = &self.board.header;
        let number = match event {
            Event::Reload => &header.reloads,
            Event::FailedReload => &header.failed_reloads,
            Event::Timeout => &header.timeouts,
            Event::SlowRequest => &header.slow_requests,
            Event::Spawned => &header.spawned,
            Event::Ended(cause) => header.ended.get(cause as usize).unwrap_or(&header.ended[0]),
        };
        add(number, 1);
    }

    /// What the header says.
    pub fn arbiter(&self) -> ArbiterView {
        let header = &self.board.header;
        let get = |number: &AtomicU64| number.load(Relaxed);
        let mut ended = [0; Cause::ALL.len()];
        ended.iter_mut().zip(&header.ended).for_each(|(copy, number)| *copy = get(number));
        ArbiterView {
            pid: get(&header.arbiter) as u32,
            running: get(&header.state) == ArbiterState::Running as u64,
            generation: get(&header.generation),
            started: get(&header.started),
            target: get(&header.target),
            stuck_after: get(&header.stuck_after),
            reloads: get(&header.reloads),
            failed_reloads: get(&header.failed_reloads),
            timeouts: get(&header.timeouts),
            slow_requests: get(&header.slow_requests),
            spawned: get(&header.spawned),
            ended,
        }
    }

    /// Takes a free slot for a worker about to be forked; none if all are taken.
    pub fn claim(&self, generation: u64) -> Option<SlotId> {
        let index = self.taken.iter().position(|taken| !taken.swap(true, Relaxed))?;
        self.board.slots.get(index)?.claim(generation, monotonic_ms());
        let used = &self.board.header.used;
        used.store(used.load(Relaxed).max(index as u64 + 1), Relaxed);
        Some(SlotId(index))
    }

    /// Gives a slot back whose worker is no more.
    pub fn free(&self, id: SlotId) {
        if let Some(slot) = self.board.slots.get(id.0) {
            slot.free();
        }
        if let Some(taken) = self.taken.get(id.0) {
            taken.store(false, Relaxed);
        }
    }

    /// The worker's side of a slot.
    pub fn slot(&self, id: SlotId) -> Slot {
        Slot::shared(self.clone(), id)
    }

    fn memory(&self, id: SlotId) -> &SlotMemory {
        // An index out of range can't be made; slot 0 stands in for the panic.
        self.board.slots.get(id.0).unwrap_or(&self.board.slots[0])
    }

    /// What a slot says now.
    pub fn view(&self, id: SlotId) -> SlotView {
        self.memory(id).view()
    }

    /// The requests that the worker of a slot has in hand, as far as its table has room.
    pub fn running(&self, id: SlotId) -> Vec<RunningRequest> {
        self.memory(id).running()
    }

    fn used(&self) -> impl Iterator<Item = &SlotMemory> {
        self.board.slots.iter().take(self.board.header.used.load(Relaxed) as usize)
    }

    /// The slots that are taken, and what they say now.
    pub fn views(&self) -> impl Iterator<Item = (SlotId, SlotView)> {
        let views = self.used().enumerate().map(|(index, slot)| (SlotId(index), slot.view()));
        views.filter(|(_, view)| view.state != WorkerState::Free)
    }

    /// What all workers that are, and that were, have counted since the arbiter began.
    pub fn totals(&self) -> Counters {
        let mut totals = Counters::default();
        self.used().for_each(|slot| totals.add(&slot.counters()));
        totals
    }

    /// Requests answered since the arbiter began, by workers that are and that were.
    pub fn requests(&self) -> u64 {
        self.totals().requests()
    }

    /// Whether the worker of a slot answers nobody: all that it can run hangs.
    pub fn is_stuck(&self, id: SlotId, now: u64) -> bool {
        let view = self.view(id);
        if view.busy == 0 || view.busy < view.capacity {
            return false;
        }
        let limit = self.board.header.stuck_after.load(Relaxed);
        let hangs = |request: &RunningRequest| now.saturating_sub(request.since) >= limit;
        let inside = self.running(id).into_iter().filter(|request| request.inside);
        limit > 0 && inside.map(|request| hangs(&request)).reduce(|all, one| all && one).unwrap_or(false)
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
        slot.set_process(42, 0);
        slot.booted();
        slot.add_request();
        slot.set_connections(5);
        slot.set_state(WorkerState::Busy);
        let view = board.view(id);
        assert_eq!((view.pid, view.generation, view.requests, view.connections), (42, 3, 1, 5));
        assert_eq!((view.state, view.booted), (WorkerState::Busy, true));
        assert!(
            slot.arbiter_is_stopping(),
            "this process isn't a child of the arbiter, so that one may be gone"
        );
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
        assert_eq!(bytes.len(), HEADER_SIZE + SLOTS * SLOT_SIZE);
        // The generation is the eighth number of a slot, and counters begin behind 16 numbers: answers by status first.
        assert_eq!((number(HEADER_SIZE + 56), number(HEADER_SIZE + 128 + 16)), (9, 1));
    }

    #[test]
    fn running_requests_are_named_and_those_of_the_dead_forgotten() {
        let board = Scoreboard::new().unwrap();
        let id = board.claim(1).unwrap();
        let slot = board.slot(id);
        let long = format!("GET /{}", "x".repeat(500));
        slot.begin_request(0, 1, std::time::Instant::now(), b"POST /a/path", b"192.0.2.1");
        slot.begin_request(57, 2, std::time::Instant::now(), long.as_bytes(), b"");
        slot.set_inside(57, false);
        let running = board.running(id);
        assert_eq!(running.len(), 2);
        let find = |number| running.iter().find(|request| request.number == number).unwrap();
        let first = find(1);
        assert_eq!(
            (first.method.as_str(), first.target.as_str(), first.client.as_str(), first.inside),
            ("POST", "/a/path", "192.0.2.1", true)
        );
        assert!(!find(2).inside && find(2).target.len() == 220 && monotonic_ms() - first.since < 1000);
        board.free(id);
        assert_eq!(board.claim(2), Some(id));
        assert_eq!(board.running(id), []);
    }

    #[test]
    fn a_worker_is_stuck_once_all_that_it_can_run_hangs() {
        let board = Scoreboard::new().unwrap();
        let id = board.claim(1).unwrap();
        board.set_generation(1, 1000);
        let slot = board.slot(id);
        slot.set_capacity(2);
        let (now, since) = (monotonic_ms(), std::time::Instant::now());
        slot.begin_request(0, 1, since, b"GET /", b"");
        slot.set_busy(1);
        assert!(!board.is_stuck(id, now + 5000), "it has room");
        slot.begin_request(1, 2, since, b"GET /", b"");
        slot.set_busy(2);
        assert!(!board.is_stuck(id, now + 500), "they may end soon");
        assert!(board.is_stuck(id, now + 5000));
    }

    #[test]
    fn its_size_is_for_good() {
        let board = Scoreboard::new().unwrap();
        let file = board.file().unwrap();
        for size in [0, 4096, 1 << 30] {
            assert_eq!(nix::unistd::ftruncate(file, size), Err(nix::errno::Errno::EPERM));
        }
    }

    #[test]
    fn whatever_stands_in_it_can_be_read() {
        use crate::metrics::{Health, Snapshot};
        let board = Scoreboard::new().unwrap();
        let (living, file) = (board.claim(1).unwrap(), board.file().unwrap().as_raw_fd());
        let file = std::fs::File::options().write(true).open(format!("/proc/self/fd/{file}")).unwrap();
        // Two workers of one server may do worse than one that writes random numbers: all of the same, and great ones.
        let mut seed = 1_u64;
        let mut random = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as u8
        };
        let size = HEADER_SIZE + SLOTS * SLOT_SIZE;
        for text in [vec![0xff; size], vec![0; size], (0..size).map(|_| random()).collect()] {
            std::os::unix::fs::FileExt::write_all_at(&file, &text, 0).unwrap();
            for slot in (0..SLOTS).map(SlotId) {
                board.view(slot);
                board.is_stuck(slot, monotonic_ms());
                for request in board.running(slot) {
                    let text = format!("{}{}{}", request.method, request.target, request.client);
                    assert!(!text.contains(char::is_control), "{text:?}");
                }
            }
            Snapshot::take(&board, Vec::new()).prometheus();
            Health::of(&board);
            assert!(board.views().count() <= SLOTS);
            // Nobody is given the slot of one who lives, and there is one for the next.
            let next = board.claim(2).unwrap();
            assert_ne!(next, living);
            assert_eq!((board.view(next).state, board.view(next).booted), (WorkerState::Booting, false));
            board.free(next);
        }
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
