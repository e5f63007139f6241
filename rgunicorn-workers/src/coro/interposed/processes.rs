//! Waiting for children, and running a command.

use std::ffi::{c_char, c_int, c_void};

use libc::pid_t;

use super::poll::wait_ready;
use super::{Carried, fail, interpose};
use crate::coro::scheduler::{Coroutine, helpers};

/// Waits until a child has something to say; false if there is no telling.
fn child_is_ready(me: &Coroutine, pid: pid_t) -> Result<(), c_int> {
    // SAFETY: takes no pointer; the descriptor is closed below.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as c_int;
    if descriptor < 0 {
        return Err(libc::ENOSYS);
    }
    let waited = wait_ready(me, descriptor, libc::POLLIN, None);
    // SAFETY: it is ours.
    unsafe { libc::close(descriptor) };
    waited
}

/// Whether a wait came to this because the request has had its time: no helper is to wait on.
fn is_interruption(error: c_int) -> bool {
    matches!(error, libc::EINTR | libc::ETIMEDOUT)
}

/// Asks for a child without waiting, and waits for it as a coroutine; one of several is waited for by a helper.
fn wait_child(
    me: &Coroutine,
    pid: pid_t,
    options: c_int,
    mut ask: impl FnMut(c_int) -> pid_t,
) -> Option<pid_t> {
    loop {
        let answer = ask(options | libc::WNOHANG);
        if answer != 0 || options & libc::WNOHANG != 0 {
            return Some(answer);
        }
        // A process's descriptor tells of its end, and not of its stops.
        if pid <= 0 || options & (libc::WUNTRACED | libc::WCONTINUED) != 0 {
            return None;
        }
        match child_is_ready(me, pid) {
            Ok(()) => {}
            Err(error) if is_interruption(error) => return Some(fail(error)),
            Err(_) => return None,
        }
    }
}

interpose! {
    fn waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t as (me, real) {
        if let Some(answer) = wait_child(me, pid, options, |options| real(pid, status, options)) {
            return answer;
        }
        let carried = Carried(status);
        match helpers::run_lasting(me, move || real(pid, carried.get(), options)) {
            Some((answer, errno)) => { fail(errno); answer }
            None => real(pid, status, options),
        }
    }

    fn wait4(pid: pid_t, status: *mut c_int, options: c_int, usage: *mut c_void) -> pid_t as (me, real) {
        if let Some(answer) = wait_child(me, pid, options, |options| real(pid, status, options, usage)) {
            return answer;
        }
        let carried = Carried((status, usage));
        match helpers::run_lasting(me, move || {
            let (status, usage) = carried.get();
            real(pid, status, options, usage)
        }) {
            Some((answer, errno)) => { fail(errno); answer }
            None => real(pid, status, options, usage),
        }
    }

    fn wait(status: *mut c_int) -> pid_t as (_me, _real) {
        waitpid(-1, status, 0)
    }

    fn wait3(status: *mut c_int, options: c_int, usage: *mut c_void) -> pid_t as (_me, _real) {
        wait4(-1, status, options, usage)
    }

    fn system(command: *const c_char) -> c_int as (me, real) {
        let carried = Carried(command);
        match helpers::run_lasting(me, move || real(carried.get())) {
            Some((answer, errno)) => { fail(errno); answer }
            None => real(command),
        }
    }

    fn waitid(kind: libc::idtype_t, id: libc::id_t, info: *mut c_void, options: c_int) -> c_int as (me, real) {
        if options & libc::WNOHANG != 0 {
            return real(kind, id, info, options);
        }
        if kind == libc::P_PID && options & (libc::WSTOPPED | libc::WCONTINUED) == 0
            && let Err(error) = child_is_ready(me, id as pid_t)
            && is_interruption(error)
        {
            return fail(error);
        }
        let carried = Carried(info);
        match helpers::run_lasting(me, move || real(kind, id, carried.get(), options)) {
            Some((answer, errno)) => { fail(errno); answer }
            None => real(kind, id, info, options),
        }
    }
}
