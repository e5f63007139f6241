//! Executing programs, in every class: they get the limit of open files that the server was started with, not the one that it
//! has raised for itself. There are programs that close, or look at, all descriptors up to the limit, and some that can't
//! have one beyond 1,024.
//!
//! Between `vfork` and `execve` this runs in the memory of the process that forked: nothing but system calls. Not seen are
//! programs that the C library itself executes (`system`, `popen`); and a process that is only forked keeps the limit, since it
//! has the descriptors.

use std::ffi::{c_char, c_int, c_uint, c_void};

use libc::{pid_t, rlimit};
use rgunicorn_core::sys::limits;

use super::{Real, Symbol};

type Strings = *const *const c_char;

unsafe extern "C" {
    static environ: Strings;
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn execve(path: *const c_char, arguments: Strings, variables: Strings) -> c_int {
    let lowered = limits::give_back();
    let failed = libc::syscall(libc::SYS_execve, path, arguments, variables) as c_int;
    if let Some(lowered) = lowered {
        lowered.undo();
    }
    failed
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn execv(path: *const c_char, arguments: Strings) -> c_int {
    execve(path, arguments, environ)
}

type Spawn =
    unsafe extern "C" fn(*mut pid_t, *const c_char, *const c_void, *const c_void, Strings, Strings) -> c_int;

/// The program has it a moment later: the C library executes it.
unsafe fn spawn(
    real: &Real,
    process: *mut pid_t,
    program: *const c_char,
    (actions, attributes): (*const c_void, *const c_void),
    (arguments, variables): (Strings, Strings),
) -> c_int {
    let real: Spawn = std::mem::transmute(real.get());
    let mut spawned = 0;
    let result = real(&raw mut spawned, program, actions, attributes, arguments, variables);
    if result == 0 {
        limits::give_back_to(spawned);
        if !process.is_null() {
            *process = spawned;
        }
    }
    result
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn posix_spawn(
    process: *mut pid_t,
    path: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    arguments: Strings,
    variables: Strings,
) -> c_int {
    static REAL: Real = Real::new(c"posix_spawn", None);
    spawn(&REAL, process, path, (actions, attributes), (arguments, variables))
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn posix_spawnp(
    process: *mut pid_t,
    file: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    arguments: Strings,
    variables: Strings,
) -> c_int {
    static REAL: Real = Real::new(c"posix_spawnp", None);
    spawn(&REAL, process, file, (actions, attributes), (arguments, variables))
}

/// What the application sets, it sets for its children as well.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn setrlimit(resource: c_uint, limit: *const rlimit) -> c_int {
    prlimit(0, resource, limit, std::ptr::null_mut())
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn setrlimit64(resource: c_uint, limit: *const rlimit) -> c_int {
    prlimit(0, resource, limit, std::ptr::null_mut())
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn prlimit(
    process: pid_t,
    resource: c_uint,
    limit: *const rlimit,
    before: *mut rlimit,
) -> c_int {
    let result = libc::syscall(libc::SYS_prlimit64, process, resource, limit, before) as c_int;
    let own = process == 0 || process == libc::getpid();
    if result == 0 && own && resource == libc::RLIMIT_NOFILE && !limit.is_null() {
        limits::keep();
    }
    result
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn prlimit64(
    process: pid_t,
    resource: c_uint,
    limit: *const rlimit,
    before: *mut rlimit,
) -> c_int {
    prlimit(process, resource, limit, before)
}

/// All of them, in any thread.
pub(super) const PROGRAMS: &[Symbol] = &[
    ("execve", || execve as *const () as usize),
    ("execv", || execv as *const () as usize),
    ("posix_spawn", || posix_spawn as *const () as usize),
    ("posix_spawnp", || posix_spawnp as *const () as usize),
    ("setrlimit", || setrlimit as *const () as usize),
    ("setrlimit64", || setrlimit64 as *const () as usize),
    ("prlimit", || prlimit as *const () as usize),
    ("prlimit64", || prlimit64 as *const () as usize),
];
