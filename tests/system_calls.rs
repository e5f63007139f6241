//! In the steady state a request costs one receive and one send: all other system calls are shared by many requests.
//!
//! Counted by tracing the worker, so that the test needs no tool and the count is exact.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rgunicorn_harness::{Client, Server};

const CONNECTIONS: usize = 64;
const WAVES: usize = 40;
const REQUESTS: usize = CONNECTIONS * WAVES;

/// How often each system call was made, by its number.
type Calls = BTreeMap<i64, usize>;

/// Has all system calls of a process, by whatever thread, counted during `work`.
fn count(pid: i32, work: impl FnOnce(), wake: impl FnOnce()) -> Calls {
    let (over, attached) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let tracer = std::thread::spawn({
        let (over, attached) = (over.clone(), attached.clone());
        move || trace(pid, &over, &attached)
    });
    while !attached.load(Ordering::Acquire) && !tracer.is_finished() {
        std::thread::yield_now();
    }
    work();
    over.store(true, Ordering::Release);
    // The tracer looks up at the next system call.
    wake();
    tracer.join().expect("the tracer goes to its end")
}

/// The tracer's life. What it has attached to is let go when its thread ends.
fn trace(pid: i32, over: &AtomicBool, attached: &AtomicBool) -> Calls {
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_TRACECLONE;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("the worker lives").flatten() {
        let thread =
            task.file_name().to_string_lossy().parse().map(Pid::from_raw).expect("a thread's number");
        ptrace::seize(thread, options).expect("a descendant may be traced");
        ptrace::interrupt(thread).expect("a traced thread can be stopped");
    }
    attached.store(true, Ordering::Release);
    let mut calls = Calls::new();
    while !over.load(Ordering::Acquire) {
        // Only what this thread traces: the server's arbiter is the test's child, too.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let (thread, signal) = match waitpid(None, Some(flags)).expect("there is something to wait for") {
            WaitStatus::PtraceSyscall(thread) => {
                let info = ptrace::syscall_info(thread).expect("it is stopped at a system call");
                if info.op == nix::libc::PTRACE_SYSCALL_INFO_ENTRY {
                    // SAFETY: `op` says that this is the variant that is there.
                    let number = unsafe { info.u.entry.nr };
                    *calls.entry(i64::try_from(number).expect("a system call's number")).or_default() += 1;
                }
                (thread, None)
            }
            WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
            WaitStatus::PtraceEvent(thread, ..) => (thread, None),
            other => panic!("the worker ended: {other:?}"),
        };
        ptrace::syscall(thread, signal).expect("it goes on");
    }
    calls
}

// Being traced, a request takes a hundred times as long, and what `threads` and `coro` do by the clock (handing the interpreter's lock
// over, looking whether somebody computes) comes more often: they have more room than `event`, which does nothing by the clock.

/// Each connection asks once, then each takes its answer.
fn wave(clients: &mut [Client]) {
    for client in &mut *clients {
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    }
    for client in &mut *clients {
        assert_eq!(client.response().status, 200);
    }
}

/// Receives and sends are 2 a request, all calls but the waits for sockets stay within `tenths`, and the waits are shared.
fn costs_one_receive_and_one_send(arguments: &[&str], tenths: usize) {
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .args(["-w", "1"])
        .args(arguments)
        .args(["promises:raw"])
        .start();
    let worker = server.wait_for_workers(1)[0];
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    let mut last = server.connect();
    for _ in 0..3 {
        wave(&mut clients);
    }
    let mut calls = count(
        worker,
        || (0..WAVES).for_each(|_| wave(&mut clients)),
        || assert_eq!(last.get("/").status, 200),
    );
    let waits: usize = [nix::libc::SYS_epoll_wait, nix::libc::SYS_epoll_pwait, nix::libc::SYS_poll]
        .iter()
        .filter_map(|call| calls.remove(call))
        .sum();
    let others: usize = calls.values().sum();
    let told = || format!("{REQUESTS} requests with {arguments:?}: {waits} waits, and by number {calls:?}");
    assert!(calls.get(&nix::libc::SYS_recvfrom).is_some_and(|count| *count >= REQUESTS), "{}", told());
    let both = [nix::libc::SYS_recvfrom, nix::libc::SYS_sendto]
        .iter()
        .filter_map(|call| calls.get(call))
        .sum::<usize>();
    assert!(both * 10 <= REQUESTS * 21, "{}", told());
    assert!(others * 10 <= REQUESTS * tenths, "{}", told());
    assert!(waits * 2 <= REQUESTS, "{}", told());
}

#[test]
fn with_event() {
    costs_one_receive_and_one_send(&["-k", "event"], 21);
}

#[test]
fn with_threads() {
    costs_one_receive_and_one_send(&["-k", "threads", "--threads", "1"], 25);
}

#[test]
fn with_coro() {
    costs_one_receive_and_one_send(&["-k", "coro"], 25);
}
