//! What a worker says about itself, in its slot.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

use super::histogram::{Histogram, SharedHistogram};
use super::running::{Running, RunningRequest};
use super::{ArbiterState, Scoreboard, SlotId, add, sum};
use crate::config::LogLevel;
use crate::sys::bell::Rope;
use crate::sys::clock::monotonic_ms;
use crate::sys::memory::{Shared, shared_struct};

/// How many requests a slot can name at once. A worker may have more in hand: they are counted, and not named.
const RUNNING: usize = 58;

shared_struct! {
    /// One slot, in order.
    pub(super) struct SlotMemory {
        // What changes with each request is in one cache line, and what others look for.
        heartbeat: AtomicU64,
        state: AtomicU64,
        /// How many requests its application is in.
        busy: AtomicU64,
        /// How many requests were handed to its application and aren't answered to the end.
        in_flight: AtomicU64,
        connections: AtomicU64,
        /// How many requests its application can be in at once.
        capacity: AtomicU64,
        booted: AtomicU64,
        generation: AtomicU64,
        pid: AtomicU64,
        started: AtomicU64,
        /// How many workers were started before it.
        age: AtomicU64,
        /// How many requests its counters had when it was claimed.
        requests_at_claim: AtomicU64,
        /// When it had booted, in milliseconds of the monotonic clock.
        booted_at: AtomicU64,
        /// 1 once the worker has asked for another in its place.
        wants_relief: AtomicU64,
        /// 0 if it takes no connections of other workers; 1 if it does; 2 while its application has kept it from looking at its
        /// own for some time.
        part: AtomicU64,
        /// How often it has taken a connection, as far as that says whose turn is next.
        turns: AtomicU64,
        counters: SharedCounters,
        running: [Running; RUNNING],
    }
}

shared_struct! {
    /// Never set back.
    struct SharedCounters {
        /// Answers by the first digit of their status; the first is for requests without an answer.
        answers: [AtomicU64; 6],
        received: AtomicU64,
        sent: AtomicU64,
        accepted: AtomicU64,
        reserved: [AtomicU64; 7],
        duration: SharedHistogram,
        queued: SharedHistogram,
        more: [AtomicU64; 96],
    }
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

/// The state of one that is [stopping](WorkerState::Stopping) and serves nobody any more.
const CLEANS_UP: u64 = 5;

impl WorkerState {
    fn from_number(number: u64) -> WorkerState {
        if number == CLEANS_UP {
            return WorkerState::Stopping;
        }
        [WorkerState::Booting, WorkerState::Idle, WorkerState::Busy, WorkerState::Stopping]
            .into_iter()
            .find(|state| *state as u64 == number)
            .unwrap_or(WorkerState::Free)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            WorkerState::Free => "free",
            WorkerState::Booting => "booting",
            WorkerState::Idle => "idle",
            WorkerState::Busy => "busy",
            WorkerState::Stopping => "stopping",
        }
    }
}

/// What a slot says at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotView {
    /// The worker's process; 0 until it has started.
    pub pid: u32,
    /// The reload that it belongs to.
    pub generation: u64,
    /// How many workers were started before it.
    pub age: u64,
    /// What it is about.
    pub state: WorkerState,
    /// Whether its application was loaded.
    pub booted: bool,
    /// How long that took, in milliseconds; 0 if it hasn't.
    pub boot_time: u64,
    /// When it was last seen alive, in milliseconds of the monotonic clock.
    pub heartbeat: u64,
    /// Requests that it has answered.
    pub requests: u64,
    /// Connections that it holds.
    pub connections: u64,
    /// How many requests its application can be in at once.
    pub capacity: u64,
    /// How many it is in.
    pub busy: u64,
    /// How many requests were handed to its application and aren't answered to the end.
    pub in_flight: u64,
    /// When its slot was claimed, in milliseconds of the monotonic clock.
    pub started: u64,
    /// Whether it has asked for another in its place.
    pub wants_relief: bool,
    /// Whether it serves nobody any more, and ends what its application has begun.
    pub cleans_up: bool,
}

/// What a worker sees of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sibling {
    /// Connections that it holds.
    pub connections: u64,
    /// Whether its application has kept it from looking at them for some time.
    pub stuck: bool,
    /// How many turns it has had at taking a connection.
    pub turns: u64,
}

/// What a slot has counted, by all workers that it was ever claimed for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests by the first digit of their answer's status; the first is for those without an answer.
    pub answers: [u64; 6],
    /// Connections accepted.
    pub accepted: u64,
    /// Bytes received from clients.
    pub received: u64,
    /// Bytes sent to clients.
    pub sent: u64,
    /// From a request's arrival to its answer's end.
    pub duration: Histogram,
    /// From a request's arrival to the call of the application.
    pub queued: Histogram,
}

impl Counters {
    /// Requests, answered or not.
    pub fn requests(&self) -> u64 {
        sum(self.answers)
    }

    /// Adds what another slot has.
    pub fn add(&mut self, other: &Counters) {
        let add = |count: &mut u64, more: u64| *count = count.wrapping_add(more);
        self.answers.iter_mut().zip(other.answers).for_each(|(count, more)| add(count, more));
        add(&mut self.accepted, other.accepted);
        add(&mut self.received, other.received);
        add(&mut self.sent, other.sent);
        self.duration.add(&other.duration);
        self.queued.add(&other.queued);
    }
}

/// A request that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// The status of its answer; 0 if it got none.
    pub status: u16,
    /// From its arrival to the end of its answer.
    pub took: Duration,
}

impl SlotMemory {
    pub(super) fn claim(&self, generation: u64, now: u64) {
        for number in [
            &self.pid,
            &self.booted,
            &self.connections,
            &self.capacity,
            &self.busy,
            &self.in_flight,
            &self.age,
            &self.booted_at,
            &self.wants_relief,
            &self.part,
            &self.turns,
        ] {
            number.store(0, Relaxed);
        }
        // What a worker that was killed has left there.
        self.running.iter().for_each(Running::end);
        self.requests_at_claim.store(self.requests(), Relaxed);
        self.generation.store(generation, Relaxed);
        self.started.store(now, Relaxed);
        self.heartbeat.store(now, Relaxed);
        self.state.store(WorkerState::Booting as u64, Relaxed);
    }

    pub(super) fn free(&self) {
        self.pid.store(0, Relaxed);
        self.state.store(WorkerState::Free as u64, Relaxed);
    }

    fn serves(&self) -> bool {
        let state = self.state.load(SeqCst);
        (state == WorkerState::Idle as u64 || state == WorkerState::Busy as u64)
            && self.booted.load(Relaxed) != 0
            && self.part.load(Relaxed) != 0
    }

    fn requests(&self) -> u64 {
        sum(self.counters.answers.iter().map(|count| count.load(Relaxed)))
    }

    pub(super) fn view(&self) -> SlotView {
        let get = |number: &AtomicU64| number.load(Relaxed);
        let busy = get(&self.busy);
        let state = match WorkerState::from_number(get(&self.state)) {
            WorkerState::Idle if busy > 0 => WorkerState::Busy,
            state => state,
        };
        SlotView {
            pid: get(&self.pid) as u32,
            generation: get(&self.generation),
            age: get(&self.age),
            state,
            booted: get(&self.booted) != 0,
            boot_time: get(&self.booted_at).saturating_sub(get(&self.started)),
            heartbeat: get(&self.heartbeat),
            requests: self.requests().saturating_sub(get(&self.requests_at_claim)),
            connections: get(&self.connections),
            capacity: get(&self.capacity),
            busy,
            in_flight: get(&self.in_flight),
            started: get(&self.started),
            wants_relief: get(&self.wants_relief) != 0,
            cleans_up: get(&self.state) == CLEANS_UP,
        }
    }

    pub(super) fn counters(&self) -> Counters {
        let counters = &self.counters;
        let mut answers = [0; 6];
        answers.iter_mut().zip(&counters.answers).for_each(|(copy, count)| *copy = count.load(Relaxed));
        Counters {
            answers,
            accepted: counters.accepted.load(Relaxed),
            received: counters.received.load(Relaxed),
            sent: counters.sent.load(Relaxed),
            duration: counters.duration.read(),
            queued: counters.queued.read(),
        }
    }

    pub(super) fn running(&self) -> Vec<RunningRequest> {
        let mut requests: Vec<_> = self.running.iter().filter_map(Running::read).collect();
        requests.sort_by_key(|request| request.since);
        requests
    }
}

/// A worker's own slot. Clones stand for the same slot.
///
/// [`Slot::default`] is attached to no scoreboard: for tests, and for hosts that run an engine with no arbiter.
#[derive(Debug, Clone)]
pub struct Slot {
    place: Place,
    /// The same moment on two clocks, so that one doesn't have to be asked.
    anchor: (Instant, u64),
    /// Wakes the arbiter up.
    bell: Option<Arc<Rope>>,
}

#[derive(Debug, Clone)]
enum Place {
    Shared(Scoreboard, SlotId),
    Detached(Arc<Shared<SlotMemory>>),
}

impl Default for Slot {
    fn default() -> Self {
        Slot::new(Place::Detached(Arc::new(Shared::private())))
    }
}

impl Slot {
    /// How many requests can be [named](Self::begin_request) at once.
    pub const NAMED: usize = RUNNING;

    fn new(place: Place) -> Slot {
        Slot { place, anchor: (Instant::now(), monotonic_ms()), bell: None }
    }

    pub(super) fn shared(board: Scoreboard, id: SlotId) -> Slot {
        Slot::new(Place::Shared(board, id))
    }

    #[inline]
    fn memory(&self) -> &SlotMemory {
        match &self.place {
            Place::Shared(board, id) => board.memory(*id),
            Place::Detached(slot) => slot,
        }
    }

    /// The whole board; none if there is none.
    pub fn scoreboard(&self) -> Option<&Scoreboard> {
        match &self.place {
            Place::Shared(board, _) => Some(board),
            Place::Detached(_) => None,
        }
    }

    /// A moment in milliseconds of the monotonic clock, to the millisecond.
    #[inline]
    fn milliseconds(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.anchor.0);
        self.anchor.1 + since.as_secs() * 1000 + u64::from(since.subsec_millis())
    }

    /// Says that this worker is alive. One is due in each `timeout`, or the arbiter kills it.
    #[inline]
    pub fn notify(&self) {
        self.memory().heartbeat.store(monotonic_ms(), Relaxed);
    }

    /// As [`notify`](Self::notify), for those who know what time it is.
    #[inline]
    pub fn notify_at(&self, now: Instant) {
        self.memory().heartbeat.store(self.milliseconds(now), Relaxed);
    }

    /// Says what this worker is about.
    #[inline]
    pub fn set_state(&self, state: WorkerState) {
        // In one order with what is sent through the queue between workers: see `siblings`.
        self.memory().state.store(state as u64, SeqCst);
    }

    /// Says that this worker takes nothing new any more; the arbiter may not know it yet.
    pub fn stops(&self) {
        self.set_state(WorkerState::Stopping);
        self.ring();
    }

    /// Says that this worker serves nobody any more, and ends what its application has begun: it is given some time for that
    /// also where its requests have had all of `graceful_timeout`.
    pub fn cleans_up(&self) {
        self.memory().state.store(CLEANS_UP, SeqCst);
    }

    /// Says that the application was loaded: whoever waits for this generation may go.
    pub fn booted(&self) {
        self.notify();
        let memory = self.memory();
        memory.booted_at.store(memory.heartbeat.load(Relaxed), Relaxed);
        self.set_state(WorkerState::Idle);
        memory.booted.store(1, Relaxed);
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
    pub(crate) fn with_bell(self, bell: Rope) -> Slot {
        Slot { bell: Some(Arc::new(bell)), ..self }
    }

    /// Says how many requests its application can be in at once.
    pub fn set_capacity(&self, capacity: usize) {
        self.memory().capacity.store(capacity as u64, Relaxed);
    }

    /// Says how many requests its application is in.
    #[inline]
    pub fn set_busy(&self, busy: u64) {
        self.memory().busy.store(busy, Relaxed);
    }

    /// Says how many requests were handed to its application and aren't answered to the end.
    #[inline]
    pub fn set_in_flight(&self, count: u64) {
        self.memory().in_flight.store(count, Relaxed);
    }

    /// Names a request that is handed to the application, in a place below [`NAMED`](Self::NAMED) that is free. `line` is
    /// method and target, `number` isn't 0.
    #[inline]
    pub fn begin_request(&self, place: usize, number: u64, since: Instant, line: &[u8], client: &[u8]) {
        if let Some(running) = self.memory().running.get(place) {
            running.begin(number, self.milliseconds(since), line, client);
        }
    }

    /// Says whether a request is in the application.
    #[inline]
    pub fn set_inside(&self, place: usize, inside: bool) {
        if let Some(running) = self.memory().running.get(place) {
            running.set_inside(inside);
        }
    }

    /// Frees the place of a request that has ended.
    #[inline]
    pub fn end_request(&self, place: usize) {
        if let Some(running) = self.memory().running.get(place) {
            running.end();
        }
    }

    /// Counts a request that waited so long for the application.
    #[inline]
    pub fn count_queued(&self, waited: Duration) {
        self.memory().counters.queued.record(waited);
    }

    /// Counts a request that has ended.
    #[inline]
    pub fn count_request(&self, ended: Ended) {
        let counters = &self.memory().counters;
        add(counters.answers.get(usize::from(ended.status / 100)).unwrap_or(&counters.answers[0]), 1);
        counters.duration.record(ended.took);
    }

    /// Counts a request that was refused before it had reached the application.
    pub fn count_refusal(&self, status: u16) {
        let answers = &self.memory().counters.answers;
        add(answers.get(usize::from(status / 100)).unwrap_or(&answers[0]), 1);
    }

    /// Counts bytes, as they came and went.
    #[inline]
    pub fn count_bytes(&self, received: u64, sent: u64) {
        let counters = &self.memory().counters;
        add(&counters.received, received);
        add(&counters.sent, sent);
    }

    /// Counts an accepted connection.
    #[inline]
    pub fn count_accepted(&self) {
        add(&self.memory().counters.accepted, 1);
    }

    /// Counts an answered request; for workers without an engine, which does more than that.
    pub fn add_request(&self) {
        add(&self.memory().counters.answers[2], 1);
    }

    /// Says how many connections this worker holds.
    #[inline]
    pub fn set_connections(&self, count: usize) {
        self.memory().connections.store(count as u64, Relaxed);
    }

    /// Says that this worker takes connections of others; `stuck` while its application has kept it from its own for some
    /// time.
    #[inline]
    pub fn take_part(&self, stuck: bool) {
        self.memory().part.store(if stuck { 2 } else { 1 }, Relaxed);
    }

    /// How many turns this worker has had.
    pub(crate) fn turns(&self) -> u64 {
        self.memory().turns.load(Relaxed)
    }

    /// Says how many turns this worker has had.
    pub(crate) fn set_turns(&self, turns: u64) {
        self.memory().turns.store(turns, Relaxed);
    }

    /// The other workers that take connections of others, have booted, and were not told to stop.
    pub fn siblings(&self) -> impl Iterator<Item = Sibling> + '_ {
        let others = self.scoreboard().into_iter().flat_map(Scoreboard::used);
        others.filter(|slot| !std::ptr::eq(*slot, self.memory()) && slot.serves()).map(|slot| Sibling {
            connections: slot.connections.load(Relaxed),
            stuck: slot.part.load(Relaxed) == 2,
            turns: slot.turns.load(Relaxed),
        })
    }

    /// How many connections are in the queue from worker to worker, roughly; none where there is no other worker.
    pub(crate) fn handed_over(&self) -> Option<&AtomicU64> {
        self.scoreboard().map(|scoreboard| &scoreboard.board.header.handed_over)
    }

    /// Whether the arbiter is on its way out, or gone: nobody else will answer what waits in the listen queue.
    pub fn arbiter_is_stopping(&self) -> bool {
        self.scoreboard().is_some_and(|scoreboard| {
            let header = &scoreboard.board.header;
            let arbiter = u64::from(std::os::unix::process::parent_id());
            header.state.load(Relaxed) == ArbiterState::Stopping as u64
                || header.arbiter.load(Relaxed) != arbiter
        })
    }

    /// The level that the error log should have, if the arbiter has said one.
    pub fn log_level(&self) -> Option<LogLevel> {
        let level = self.scoreboard()?.board.header.log_level.load(Relaxed);
        LogLevel::ALL.into_iter().find(|known| *known as u64 + 1 == level)
    }

    /// What the slot says now.
    pub fn view(&self) -> SlotView {
        self.memory().view()
    }

    /// What it has counted.
    pub fn counters(&self) -> Counters {
        self.memory().counters()
    }

    /// The requests that it names.
    pub fn running(&self) -> Vec<RunningRequest> {
        self.memory().running()
    }

    /// Says which process this is, and how many were started before it.
    pub(crate) fn set_process(&self, pid: u32, age: u64) {
        self.memory().age.store(age, Relaxed);
        self.memory().pid.store(u64::from(pid), Relaxed);
    }
}
