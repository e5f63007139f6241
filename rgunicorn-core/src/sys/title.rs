//! The process title, as `ps` shows it.
//!
//! The kernel shows the memory that a program's arguments were put in, and, where those have been overwritten, goes on
//! into the environment behind them. So arguments and environment are moved elsewhere, once, and their place is ours.

use std::ffi::{CStr, c_char, c_int};
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::sync::lock;

static ARGC: AtomicUsize = AtomicUsize::new(0);
static ARGV: AtomicPtr<*mut c_char> = AtomicPtr::new(std::ptr::null_mut());
/// Where the title is written; null until [`set`] is first called.
static PLACE: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static ROOM: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

/// glibc passes the arguments to what stands in `.init_array`; the standard library learns them the same way.
#[used]
#[unsafe(link_section = ".init_array")]
static CAPTURE: extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char) = capture;

extern "C" fn capture(argc: c_int, argv: *mut *mut c_char, _environ: *mut *mut c_char) {
    ARGC.store(usize::try_from(argc).unwrap_or(0), Ordering::Relaxed);
    ARGV.store(argv, Ordering::Release);
}

/// The title as set, without what [`state`] has put behind it.
static TITLE: Mutex<String> = Mutex::new(String::new());

/// Sets the title of this process; cut to the room that there is.
///
/// To be called where no other thread runs. `std::env::args` and the environment keep their values.
pub(crate) fn set(title: &str) {
    let mut kept = lock(&TITLE);
    title.clone_into(&mut kept);
    show(title);
}

/// Puts a state behind the title that was set, in place of another; nothing for an ordinary one. Does nothing in a process
/// whose title was never set.
pub(crate) fn state(state: &str) {
    let title = lock(&TITLE);
    match (title.as_str(), state) {
        ("", _) => {}
        (title, "") => show(title),
        (title, state) => show(&format!("{title} ({state})")),
    }
}

/// With the lock of `TITLE` held.
fn show(title: &str) {
    if PLACE.load(Ordering::Acquire).is_null() {
        // SAFETY: no other thread runs, says the caller.
        let (place, room) = unsafe { vacate() };
        ROOM.store(room, Ordering::Relaxed);
        PLACE.store(place, Ordering::Release);
    }
    let place = PLACE.load(Ordering::Acquire);
    let room = ROOM.load(Ordering::Relaxed);
    let length = title.len().min(room.saturating_sub(1));
    if place.is_null() || room == 0 {
        return;
    }
    // SAFETY: `room` bytes from `place` on are writable, ours since `vacate`, and read by the kernel alone.
    unsafe {
        std::ptr::copy_nonoverlapping(title.as_ptr(), place, length);
        std::ptr::write_bytes(place.add(length), 0, room - length);
    }
}

/// Moves arguments and environment away; answers the place where they were.
///
/// # Safety
/// No other thread may run.
unsafe fn vacate() -> (*mut u8, usize) {
    let argv = ARGV.load(Ordering::Acquire);
    let argc = ARGC.load(Ordering::Relaxed);
    if argv.is_null() || argc == 0 {
        return (std::ptr::null_mut(), 0);
    }
    // SAFETY: the kernel laid out `argc` strings, and a null pointer behind them; `environ` is a list that ends with one,
    // or null. Each string is copied before its place is reused, and the copies live for ever. Only strings that lie
    // seamlessly behind one another are taken: those that the kernel put there.
    unsafe {
        let start = *argv;
        let mut end = start;
        let mut list = argv;
        for list_index in 0..2 {
            if list_index == 1 {
                list = environ;
            }
            while !list.is_null() && !(*list).is_null() {
                if *list == end {
                    let text = CStr::from_ptr(*list);
                    let length = text.to_bytes_with_nul().len();
                    end = end.add(length);
                    *list = text.to_owned().into_raw();
                }
                list = list.add(1);
            }
        }
        (start.cast(), end.offset_from(start).unsigned_abs())
    }
}
