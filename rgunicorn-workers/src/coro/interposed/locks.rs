//! Semaphores, mutexes, conditions, and the futexes that languages other than C lock by. Any thread may hold or signal
//! them. What can be had at once is; else the coroutine waits in the [`lot`], where those that signal look after the real
//! thing.

use std::ffi::{c_int, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use libc::{clockid_t, pthread_cond_t, pthread_mutex_t, sem_t, timespec};

use super::allocators::{is_allocator, told_its_caller};
use super::mutexes::{
    Kind, is_momentary, kind, note_if_momentary, owners, real_lock, real_trylock, real_unlock,
};
use super::{Real, Symbol, after, duration, errno, fail, instant, interpose, now};
use crate::coro::scheduler::{Coroutine, Scheduler, Wake, current, held_up, lock_waiter, lot};

/// How often a mutex is tried before its coroutine waits: most are held for a moment.
const SPINS: usize = 2000;
/// How long the loop sleeps while a coroutine that waits has the language's lock.
const PAUSE: Duration = Duration::from_micros(100);
/// How long a semaphore of several processes is left alone between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// The instant of an absolute time whose clock isn't said: that of the two which it is nearer to.
fn nearest(time: &timespec) -> Option<Instant> {
    let wanted = duration(time);
    let distance = |clock| now(clock).abs_diff(wanted);
    let real = distance(libc::CLOCK_REALTIME) < distance(libc::CLOCK_MONOTONIC);
    instant(if real { libc::CLOCK_REALTIME } else { libc::CLOCK_MONOTONIC }, time)
}

/// Whether other processes may post this semaphore, of which nothing tells us. glibc keeps that behind the value.
unsafe fn is_shared(semaphore: *mut sem_t) -> bool {
    *semaphore.cast::<c_int>().add(2) & libc::FUTEX_PRIVATE_FLAG != 0
}

/// Tries to take a semaphore until it can.
unsafe fn take_semaphore(me: &Coroutine, semaphore: *mut sem_t, by: Option<Instant>) -> c_int {
    let (mut over, mut pause) = (None, Duration::from_micros(200));
    loop {
        if libc::sem_trywait(semaphore) == 0 {
            return 0;
        }
        if errno() != libc::EAGAIN {
            return -1;
        }
        match over {
            Some(Wake::TimedOut) => return fail(libc::ETIMEDOUT),
            Some(Wake::Interrupted) => return fail(me.interrupted()),
            _ => {}
        }
        let mut taken = false;
        let must_wait = || {
            taken = libc::sem_trywait(semaphore) == 0;
            !taken
        };
        let woken = if is_shared(semaphore) {
            let soon = Instant::now() + pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match me.sleep_for_lock(by.map_or(soon, |by| by.min(soon))) {
                Wake::TimedOut if by.is_none_or(|by| Instant::now() < by) => Wake::Ready,
                woken => woken,
            }
        } else {
            lot::wait_interruptibly(me, semaphore as usize, by, must_wait)
        };
        if taken {
            return 0;
        }
        over = Some(woken);
    }
}

/// Takes a mutex. The thread itself is never blocked by one that another of its coroutines holds.
unsafe fn take_mutex(me: &Coroutine, mutex: *mut pthread_mutex_t, by: Option<Instant>) -> c_int {
    match kind(mutex) {
        Kind::Plain if is_momentary(mutex) => real_lock(mutex),
        Kind::Plain => wait_mutex(me, mutex, by, || real_trylock(mutex)),
        Kind::Owned if owners::is_mine(mutex, me) => libc::EDEADLK,
        Kind::Owned => wait_mutex(me, mutex, by, || owners::try_lock(mutex, me)),
    }
}

unsafe fn wait_mutex(
    me: &Coroutine,
    mutex: *mut pthread_mutex_t,
    by: Option<Instant>,
    mut try_lock: impl FnMut() -> c_int,
) -> c_int {
    for _ in 0..SPINS {
        match try_lock() {
            libc::EBUSY => std::hint::spin_loop(),
            result => return result,
        }
    }
    loop {
        let mut result = libc::EBUSY;
        let must_wait = || {
            result = try_lock();
            result == libc::EBUSY
        };
        let woken = lot::wait(me, mutex as usize, by, must_wait, || ());
        if result == libc::EBUSY {
            result = try_lock();
        }
        if result != libc::EBUSY {
            return result;
        }
        if woken == Wake::TimedOut {
            return libc::ETIMEDOUT;
        }
    }
}

/// Waits for a condition. As any wait for one, it may end for no reason.
unsafe fn wait_condition(
    me: &Coroutine,
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    by: Option<Instant>,
) -> c_int {
    if is_momentary(mutex) {
        return me.scheduler().wanting(|| wait_in_lot(me, condition, mutex, by));
    }
    wait_in_lot(me, condition, mutex, by)
}

unsafe fn wait_in_lot(
    me: &Coroutine,
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    by: Option<Instant>,
) -> c_int {
    // No signal is missed: those who signal while the mutex is held by us can't, and later ones find us in the queue.
    let woken = lot::wait(
        me,
        condition as usize,
        by,
        || true,
        || {
            pthread_mutex_unlock(mutex);
        },
    );
    let locked = take_mutex(me, mutex, None);
    match woken {
        _ if locked != 0 => locked,
        Wake::TimedOut => libc::ETIMEDOUT,
        _ => 0,
    }
}

interpose! {
    fn sem_wait(semaphore: *mut sem_t) -> c_int as lock (me, _real) {
        take_semaphore(me, semaphore, None)
    }

    fn sem_timedwait(semaphore: *mut sem_t, by: *const timespec) -> c_int as lock (me, real) {
        match by.as_ref() {
            Some(time) => take_semaphore(me, semaphore, instant(libc::CLOCK_REALTIME, time)),
            None => real(semaphore, by),
        }
    }

    fn sem_clockwait(semaphore: *mut sem_t, clock: clockid_t, by: *const timespec) -> c_int as lock (me, real) {
        match by.as_ref() {
            Some(time) => take_semaphore(me, semaphore, instant(clock, time)),
            None => real(semaphore, clock, by),
        }
    }

    #[version = c"GLIBC_2.3.2"]
    fn pthread_cond_wait(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t) -> c_int as lock (me, _real) {
        wait_condition(me, condition, mutex, None)
    }

    fn pthread_cond_clockwait(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t, clock: clockid_t, by: *const timespec) -> c_int as lock (me, real) {
        match by.as_ref() {
            Some(time) => wait_condition(me, condition, mutex, instant(clock, time)),
            None => real(condition, mutex, clock, by),
        }
    }
}

type TimedWait = unsafe extern "C" fn(*mut pthread_cond_t, *mut pthread_mutex_t, *const timespec) -> c_int;

/// Waits outside of all coroutines, in the loop, for the language's lock. As any wait, it may end for no reason.
unsafe fn wait_outside(
    scheduler: &Scheduler,
    wait: impl FnOnce() -> c_int,
    mutex: *mut pthread_mutex_t,
) -> c_int {
    let kept = scheduler.is_lock_kept();
    let result = if kept { 0 } else { wait() };
    scheduler.has_waited_outside();
    if kept || result == libc::ETIMEDOUT {
        pthread_mutex_unlock(mutex);
        scheduler.go_on_meanwhile();
        if scheduler.is_lock_kept() {
            std::thread::sleep(PAUSE);
        }
        pthread_mutex_lock(mutex);
    }
    result
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_cond_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    by: *const timespec,
) -> c_int {
    static REAL: Real = Real::new(c"pthread_cond_timedwait", Some(c"GLIBC_2.3.2"));
    let real: TimedWait = std::mem::transmute(REAL.get());
    match (lock_waiter(), by.as_ref()) {
        (Some(me), Some(time)) => wait_condition(me, condition, mutex, nearest(time)),
        _ => match held_up() {
            Some(scheduler) => wait_outside(scheduler, || real(condition, mutex, by), mutex),
            None => real(condition, mutex, by),
        },
    }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn sem_post(semaphore: *mut sem_t) -> c_int {
    static REAL: Real = Real::new(c"sem_post", None);
    let real: unsafe extern "C" fn(*mut sem_t) -> c_int = std::mem::transmute(REAL.get());
    let result = real(semaphore);
    lot::wake(semaphore as usize, 1);
    result
}

told_its_caller! {
    fn pthread_mutex_lock(mutex: *mut pthread_mutex_t) -> c_int = lock_mutex, "rsi", "x1";
    fn pthread_mutex_trylock(mutex: *mut pthread_mutex_t) -> c_int = try_mutex, "rsi", "x1";
    fn pthread_mutex_unlock(mutex: *mut pthread_mutex_t) -> c_int = unlock_mutex, "rsi", "x1";
}

unsafe extern "C" fn lock_mutex(mutex: *mut pthread_mutex_t, caller: usize) -> c_int {
    if is_allocator(caller) {
        return real_lock(mutex);
    }
    if let Some(me) = lock_waiter() {
        return take_mutex(me, mutex, None);
    }
    note_if_momentary(mutex);
    match current() {
        // It holds its language's lock, and can't wait as a coroutine; but it has to be known as the owner.
        Some(me) if kind(mutex) == Kind::Owned => owners::lock(mutex, me),
        _ => real_lock(mutex),
    }
}

unsafe extern "C" fn try_mutex(mutex: *mut pthread_mutex_t, caller: usize) -> c_int {
    match current().filter(|_| !is_allocator(caller)) {
        Some(me) if kind(mutex) == Kind::Owned => owners::try_lock(mutex, me),
        _ => real_trylock(mutex),
    }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_mutex_timedlock(
    mutex: *mut pthread_mutex_t,
    by: *const timespec,
) -> c_int {
    static REAL: Real = Real::new(c"pthread_mutex_timedlock", None);
    type TimedLock = unsafe extern "C" fn(*mut pthread_mutex_t, *const timespec) -> c_int;
    match (lock_waiter(), by.as_ref()) {
        (Some(me), Some(time)) => take_mutex(me, mutex, instant(libc::CLOCK_REALTIME, time)),
        _ => std::mem::transmute::<*mut c_void, TimedLock>(REAL.get())(mutex, by),
    }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_mutex_clocklock(
    mutex: *mut pthread_mutex_t,
    clock: clockid_t,
    by: *const timespec,
) -> c_int {
    static REAL: Real = Real::new(c"pthread_mutex_clocklock", None);
    type ClockLock = unsafe extern "C" fn(*mut pthread_mutex_t, clockid_t, *const timespec) -> c_int;
    match (lock_waiter(), by.as_ref()) {
        (Some(me), Some(time)) => take_mutex(me, mutex, instant(clock, time)),
        _ => std::mem::transmute::<*mut c_void, ClockLock>(REAL.get())(mutex, clock, by),
    }
}

unsafe extern "C" fn unlock_mutex(mutex: *mut pthread_mutex_t, caller: usize) -> c_int {
    if is_allocator(caller) {
        return real_unlock(mutex);
    }
    if current().is_some() && kind(mutex) == Kind::Owned {
        owners::before_unlock(mutex);
    }
    let result = real_unlock(mutex);
    lot::wake(mutex as usize, 1);
    result
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_cond_signal(condition: *mut pthread_cond_t) -> c_int {
    static REAL: Real = Real::new(c"pthread_cond_signal", Some(c"GLIBC_2.3.2"));
    let real: unsafe extern "C" fn(*mut pthread_cond_t) -> c_int = std::mem::transmute(REAL.get());
    let result = real(condition);
    lot::wake(condition as usize, 1);
    result
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_cond_broadcast(condition: *mut pthread_cond_t) -> c_int {
    static REAL: Real = Real::new(c"pthread_cond_broadcast", Some(c"GLIBC_2.3.2"));
    let real: unsafe extern "C" fn(*mut pthread_cond_t) -> c_int = std::mem::transmute(REAL.get());
    let result = real(condition);
    lot::wake(condition as usize, usize::MAX);
    result
}

/// The arguments of a call of `futex(2)`, and what they come to for a coroutine.
unsafe fn wait_futex(me: &Coroutine, arguments: [c_long; 6]) -> Option<c_long> {
    let [address, operation, value, timeout, ..] = arguments;
    let command = operation as c_int & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
    let time = (timeout as *const timespec).as_ref();
    let by = match command {
        libc::FUTEX_WAIT => after(time.map(duration)),
        libc::FUTEX_WAIT_BITSET => {
            let real = operation as c_int & libc::FUTEX_CLOCK_REALTIME != 0;
            let clock = if real { libc::CLOCK_REALTIME } else { libc::CLOCK_MONOTONIC };
            time.and_then(|time| instant(clock, time))
        }
        _ => return None,
    };
    // What the kernel would refuse, it is to refuse.
    let word = (address as *const AtomicU32).as_ref().filter(|_| address % 4 == 0)?;
    let mut differs = false;
    let must_wait = || {
        differs = word.load(Ordering::SeqCst) != value as u32;
        !differs
    };
    let woken = lot::wait_interruptibly(me, address as usize, by, must_wait);
    Some(match woken {
        _ if differs => fail(libc::EAGAIN).into(),
        Wake::TimedOut => fail(libc::ETIMEDOUT).into(),
        Wake::Interrupted => fail(me.interrupted()).into(),
        _ => 0,
    })
}

/// The one variadic function: all arguments of a system call are words, and come in registers or on the stack as six words do.
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    // The arguments are where they are; behind the seventh, which is on the stack, the caller is put.
    std::arch::naked_asm!(
        ".cfi_startproc",
        "sub rsp, 8",
        ".cfi_adjust_cfa_offset 8",
        "push qword ptr [rsp + 8]",
        ".cfi_adjust_cfa_offset 8",
        "push qword ptr [rsp + 24]",
        ".cfi_adjust_cfa_offset 8",
        "call {target}",
        "add rsp, 24",
        ".cfi_adjust_cfa_offset -24",
        "ret",
        ".cfi_endproc",
        target = sym call_system,
    );
}

#[cfg(not(target_arch = "x86_64"))]
told_its_caller! {
    /// The one variadic function: all arguments of a system call are words, and come in registers as six words do.
    fn syscall(number: c_long, a: c_long, b: c_long, c: c_long, d: c_long, e: c_long, f: c_long) -> c_long = call_system, "", "x7";
}

#[allow(clippy::too_many_arguments, reason = "they are those of syscall(2), and its caller")]
unsafe extern "C" fn call_system(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
    caller: usize,
) -> c_long {
    static REAL: Real = Real::new(c"syscall", None);
    type Syscall = unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;
    let real: Syscall = std::mem::transmute(REAL.get());
    if number != libc::SYS_futex || is_allocator(caller) {
        return real(number, a, b, c, d, e, f);
    }
    if let Some(me) = lock_waiter()
        && let Some(answer) = wait_futex(me, [a, b, c, d, e, f])
    {
        return answer;
    }
    let result = real(number, a, b, c, d, e, f);
    let command = b as c_int & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
    if result >= 0 && matches!(command, libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET) {
        let most = c as c_uint as usize;
        let rest = most.saturating_sub(result as usize);
        if rest > 0 {
            return result + lot::wake(a as usize, rest) as c_long;
        }
    }
    result
}

/// Those that take and those that signal, in any thread and with any lock held.
pub(super) const SIGNALS: &[Symbol] = &[
    ("sem_post", || sem_post as *const () as usize),
    ("pthread_cond_timedwait", || pthread_cond_timedwait as *const () as usize),
    ("pthread_mutex_lock", || pthread_mutex_lock as *const () as usize),
    ("pthread_mutex_trylock", || pthread_mutex_trylock as *const () as usize),
    ("pthread_mutex_timedlock", || pthread_mutex_timedlock as *const () as usize),
    ("pthread_mutex_clocklock", || pthread_mutex_clocklock as *const () as usize),
    ("pthread_mutex_unlock", || pthread_mutex_unlock as *const () as usize),
    ("pthread_cond_signal", || pthread_cond_signal as *const () as usize),
    ("pthread_cond_broadcast", || pthread_cond_broadcast as *const () as usize),
    ("syscall", || syscall as *const () as usize),
];
