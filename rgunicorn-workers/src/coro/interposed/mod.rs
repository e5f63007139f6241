//! The blocking calls of the C library, interposed.
//!
//! Functions with libc's names, exported by the executable, which the dynamic linker searches first: libpython and every
//! extension module call ours. In a coroutine that doesn't hold its language's lock they wait as the coroutine; anywhere
//! else, in any other thread and in any other worker class, they are the real calls for the price of one thread-local
//! look. Where a call can be tried without blocking it is, first: most need no wait at all.
//!
//! | module | what is in it |
//! | --- | --- |
//! | `time` | sleeping |
//! | `poll` | `poll`, `select`, `epoll_wait` and their like |
//! | `io` | reading and writing, sockets and pipes |
//! | `net` | connecting, accepting, resolving names |
//! | `locks` | semaphores, mutexes, conditions, futexes |
//! | `rwlocks` | locks for readers and writers |
//! | `mutexes` | whose they are, and which are not waited for |
//! | `threads` | who one is: each coroutine passes for a thread |
//! | `files` | closing, locking and syncing files |
//! | `processes` | waiting for children |
//! | `programs` | executing programs, with the limits that the server was started with |
//! | `signals` | signal masks |
//! | `allocators` | who calls them in the midst of allocating |
//! | `objects` | which library code belongs to |
//! | `real` | the real calls, for ourselves |
//!
//! An allocator calls them as well, and any of them may be called in the midst of one. So none allocates, nor takes a lock
//! that is held by who allocates, unless it makes a coroutine wait, which it does for no allocator.
//!
//! All are called by C code, with C's promises: a pointer is valid for what the function of that name does with it. What
//! they do with it is to pass it on, in the same call, to the real one.
#![allow(
    unsafe_op_in_unsafe_fn,
    clippy::missing_safety_doc,
    reason = "every function here has the contract of the libc function whose name it bears, and does with its arguments \
              what that one does"
)]

mod allocators;
mod files;
mod io;
mod locks;
mod mutexes;
mod net;
pub(crate) mod objects;
mod poll;
mod processes;
mod programs;
pub(crate) mod real;
mod rwlocks;
mod signals;
mod threads;
mod time;

use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::{Duration, Instant};

/// The name of an interposed function, and its address.
type Symbol = (&'static str, fn() -> usize);

/// The real function behind an interposed one.
pub(crate) struct Real {
    name: &'static CStr,
    /// The version of the symbol to ask for first, where libc has an older one of the same name.
    version: Option<&'static CStr>,
    address: AtomicPtr<c_void>,
}

impl Real {
    pub(crate) const fn new(name: &'static CStr, version: Option<&'static CStr>) -> Self {
        Real { name, version, address: AtomicPtr::new(std::ptr::null_mut()) }
    }

    #[inline]
    pub(crate) fn get(&self) -> *mut c_void {
        let address = self.address.load(Ordering::Relaxed);
        if address.is_null() { self.find() } else { address }
    }

    #[cold]
    fn find(&self) -> *mut c_void {
        // SAFETY: the names are NUL-terminated.
        let address = unsafe {
            let versioned = self.version.map_or(std::ptr::null_mut(), |version| {
                libc::dlvsym(libc::RTLD_NEXT, self.name.as_ptr(), version.as_ptr())
            });
            if versioned.is_null() { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) } else { versioned }
        };
        if address.is_null() {
            // Nobody calls what his libc doesn't have.
            std::process::abort();
        }
        self.address.store(address, Ordering::Relaxed);
        address
    }
}

/// Defines functions with the names of libc's. In a coroutine that may wait now, `$me`, the body answers, which may call
/// the real function by `$real`; anywhere else the real one does. Those marked `lock` wait also with the language's lock.
macro_rules! interpose {
    ($($(#[doc = $doc:literal])* $(#[version = $version:literal])? fn $name:ident($($arg:ident: $type:ty),* $(,)?) -> $result:ty as $($waiter:ident)? ($me:ident, $real:ident) $body:block)*) => {
        $(
            #[unsafe(no_mangle)]
            #[allow(clippy::too_many_arguments, unused_assignments)]
            pub(crate) unsafe extern "C" fn $name($($arg: $type),*) -> $result {
                static REAL: $crate::coro::interposed::Real = $crate::coro::interposed::Real::new(
                    // The name, with a zero behind it.
                    match std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => c"",
                    },
                    interpose!(@version $($version)?),
                );
                let $real: unsafe extern "C" fn($($type),*) -> $result = std::mem::transmute(REAL.get());
                match interpose!(@waiter $($waiter)?) {
                    None => $real($($arg),*),
                    Some($me) => $body,
                }
            }
        )*
        /// The names and addresses of these functions.
        pub(super) const SYMBOLS: &[$crate::coro::interposed::Symbol] = &[$((stringify!($name), || $name as *const () as usize)),*];
    };
    (@version $version:literal) => { Some($version) };
    (@version) => { None };
    (@waiter) => { $crate::coro::scheduler::waiter() };
    (@waiter lock) => { $crate::coro::scheduler::lock_waiter() };
}
pub(crate) use allocators::find_allocator;
pub(crate) use interpose;
#[cfg(feature = "python")]
pub(crate) use mutexes::note_momentary;
#[cfg(feature = "python")]
pub(crate) use threads::keep_threads;

/// Every interposed symbol.
fn symbols() -> impl Iterator<Item = Symbol> {
    let waiting = [
        files::SYMBOLS,
        io::SYMBOLS,
        locks::SYMBOLS,
        net::SYMBOLS,
        poll::SYMBOLS,
        processes::SYMBOLS,
        rwlocks::SYMBOLS,
        time::SYMBOLS,
        time::SLEEPING,
    ];
    let others = [
        files::CLOSING,
        locks::SIGNALS,
        programs::PROGRAMS,
        rwlocks::SIGNALS,
        signals::MASKS,
        threads::ENDS,
        threads::ONES,
        threads::OF_THE_THREAD,
    ];
    waiting.into_iter().chain(others).flatten().copied()
}

/// Whether libraries that this process loads call our functions.
///
/// # Errors
/// Names one that they don't, and says what is to be done.
pub(crate) fn check_in_force() -> Result<(), String> {
    check_found(real::symbol)
}

fn check_found(find: impl Fn(&str) -> Option<usize>) -> Result<(), String> {
    for (name, ours) in symbols() {
        let found = find(name);
        if found != Some(ours()) {
            return Err(format!(
                "this program doesn't export the function `{name}` in place of libc's, so that blocking calls of \
                 libraries would block the worker. Export what `rgunicorn_workers::coro` lists from the build script of \
                 the program: println!(\"cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol-list={{}}\", \
                 std::env::var(\"DEP_RGUNICORN_WORKERS_EXPORTS\").unwrap()), with rgunicorn-workers among its \
                 dependencies"
            ));
        }
    }
    Ok(())
}

/// Pointers on their way to a helper thread and back.
struct Carried<T>(T);

// SAFETY: the coroutine whose memory they point to waits until the other thread is done with it.
unsafe impl<T> Send for Carried<T> {}

impl<T> Carried<T> {
    fn get(self) -> T {
        self.0
    }
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Sets `errno`, and answers what a call answers that failed.
fn fail(errno: c_int) -> c_int {
    // SAFETY: it is this thread's own.
    unsafe { *libc::__errno_location() = errno };
    -1
}

/// When a relative time-out ends; none for never.
fn after(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

/// A `timespec` as a duration; what is negative is over.
fn duration(time: &libc::timespec) -> Duration {
    match u64::try_from(time.tv_sec) {
        Ok(seconds) => Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0).min(999_999_999)),
        Err(_) => Duration::ZERO,
    }
}

/// What a clock shows.
pub(crate) fn now(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place for the time.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    duration(&time)
}

/// The instant of an absolute time of this clock.
fn instant(clock: libc::clockid_t, time: &libc::timespec) -> Option<Instant> {
    after(Some(duration(time).saturating_sub(now(clock))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_export_them_is_refused_and_told_what_to_export() {
        let libc = |name: &str| if name == "recv" { Some(1) } else { real::symbol(name) };
        let why = check_found(libc).unwrap_err();
        assert!(why.contains("`recv`") && why.contains("--export-dynamic-symbol-list"), "{why}");
    }

    #[test]
    fn the_list_for_the_linker_names_every_function() {
        let list = include_str!("exports.list");
        let mut listed: Vec<_> =
            list.lines().map(str::trim).filter_map(|line| line.strip_suffix(';')).collect();
        listed.retain(|line| *line != "}");
        let mut names: Vec<_> = symbols().map(|(name, _)| name).collect();
        listed.sort_unstable();
        names.sort_unstable();
        assert_eq!(listed, names, "exports.list must read:\n{{\n{};\n}};", names.join(";\n"));
    }
}
