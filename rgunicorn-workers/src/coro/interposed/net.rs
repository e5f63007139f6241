//! Connecting, accepting, resolving names.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::time::{Duration, Instant};

use libc::{addrinfo, sockaddr, socklen_t};

use super::io::without_blocking;
use super::poll::{is_nonblocking, wait_before, wait_ready};
use super::{Carried, errno, fail, interpose, real};
use crate::coro::scheduler::Wake;
use crate::coro::scheduler::helpers;

unsafe fn copied(text: *const c_char) -> Option<CString> {
    (!text.is_null()).then(|| CStr::from_ptr(text).to_owned())
}

fn pointer(text: Option<&CString>) -> *const c_char {
    text.map_or(std::ptr::null(), |text| text.as_ptr())
}

interpose! {
    fn connect(descriptor: c_int, address: *const sockaddr, size: socklen_t) -> c_int as (me, real) {
        if is_nonblocking(descriptor) {
            return real(descriptor, address, size);
        }
        let mut pause = Duration::from_millis(1);
        loop {
            let result = without_blocking(descriptor, || real(descriptor, address, size));
            match errno() {
                _ if result == 0 => return 0,
                libc::EINPROGRESS => break,
                // A Unix socket whose queue is full; nothing tells when it no longer is.
                libc::EAGAIN => {
                    if me.sleep(Some(Instant::now() + pause)) == Wake::Interrupted {
                        return fail(me.interrupted());
                    }
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
                _ => return result,
            }
        }
        loop {
            if let Err(error) = wait_ready(me, descriptor, libc::POLLOUT, None) {
                return fail(error);
            }
            if real::ready(descriptor, libc::POLLOUT) == 0 {
                continue;
            }
            let (mut error, mut size) = (0, size_of::<c_int>() as socklen_t);
            let place = (&raw mut error).cast::<c_void>();
            let got = libc::getsockopt(descriptor, libc::SOL_SOCKET, libc::SO_ERROR, place, &raw mut size);
            return match error {
                _ if got != 0 => got,
                0 => 0,
                error => fail(error),
            };
        }
    }

    fn accept(descriptor: c_int, address: *mut sockaddr, size: *mut socklen_t) -> c_int as (me, real) {
        if !is_nonblocking(descriptor)
            && let Err(error) = wait_before(me, descriptor, libc::POLLIN)
        {
            return fail(error);
        }
        real(descriptor, address, size)
    }

    fn accept4(descriptor: c_int, address: *mut sockaddr, size: *mut socklen_t, flags: c_int) -> c_int as (me, real) {
        if !is_nonblocking(descriptor)
            && let Err(error) = wait_before(me, descriptor, libc::POLLIN)
        {
            return fail(error);
        }
        real(descriptor, address, size, flags)
    }

    fn getaddrinfo(node: *const c_char, service: *const c_char, hints: *const addrinfo, result: *mut *mut addrinfo) -> c_int as (me, real) {
        let (name, port) = (copied(node), copied(service));
        let wanted = Carried(hints.as_ref().copied());
        let found = helpers::run(me, move || {
            let (wanted, mut list) = (wanted.get(), std::ptr::null_mut());
            let hints = wanted.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            let error = real(pointer(name.as_ref()), pointer(port.as_ref()), hints, &raw mut list);
            (error, Carried(list))
        });
        let Some(((error, list), errno)) = found else { return real(node, service, hints, result) };
        if error == 0 {
            *result = list.get();
        }
        fail(errno);
        error
    }

    fn getnameinfo(address: *const sockaddr, size: socklen_t, host: *mut c_char, host_size: socklen_t, service: *mut c_char, service_size: socklen_t, flags: c_int) -> c_int as (me, real) {
        // The caller's buffers are on the stack of this coroutine, or elsewhere in memory that is its own until it goes on.
        let carried = Carried((address, host, service));
        let found = helpers::run(me, move || {
            let (address, host, service) = carried.get();
            real(address, size, host, host_size, service, service_size, flags)
        });
        match found {
            Some((error, errno)) => {
                fail(errno);
                error
            }
            None => real(address, size, host, host_size, service, service_size, flags),
        }
    }

    fn gethostbyname_r(name: *const c_char, entry: *mut libc::hostent, buffer: *mut c_char, length: usize, result: *mut *mut libc::hostent, error: *mut c_int) -> c_int as (me, real) {
        let carried = Carried((name, entry, buffer, result, error));
        let found = helpers::run(me, move || {
            let (name, entry, buffer, result, error) = carried.get();
            real(name, entry, buffer, length, result, error)
        });
        match found {
            Some((status, _)) => status,
            None => real(name, entry, buffer, length, result, error),
        }
    }

    fn gethostbyaddr_r(address: *const c_void, size: socklen_t, family: c_int, entry: *mut libc::hostent, buffer: *mut c_char, length: usize, result: *mut *mut libc::hostent, error: *mut c_int) -> c_int as (me, real) {
        let carried = Carried((address, entry, buffer, result, error));
        let found = helpers::run(me, move || {
            let (address, entry, buffer, result, error) = carried.get();
            real(address, size, family, entry, buffer, length, result, error)
        });
        match found {
            Some((status, _)) => status,
            None => real(address, size, family, entry, buffer, length, result, error),
        }
    }
}
