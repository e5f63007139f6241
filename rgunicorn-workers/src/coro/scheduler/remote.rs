//! Messages from other threads to the one that runs the coroutines.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex};

use rgunicorn_core::sync::lock;

use super::Token;
use crate::coro::interposed::real;

/// What another thread has to say.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Message {
    /// A wait may be over.
    Wake(Token),
    /// It is about to close this descriptor.
    Closing(RawFd),
}

/// Where messages are put, and what wakes up the thread that they are for.
#[derive(Debug)]
pub(crate) struct Remote {
    messages: Mutex<Vec<Message>>,
    told: AtomicBool,
    event: OwnedFd,
}

impl Remote {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: has no conditions; a descriptor that it returns is ours.
        let event = unsafe {
            match libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) {
                -1 => return Err(io::Error::last_os_error()),
                event => OwnedFd::from_raw_fd(event),
            }
        };
        Ok(Remote { messages: Mutex::default(), told: AtomicBool::new(false), event })
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Sends a message. For any thread but the one that it is for.
    pub(crate) fn send(&self, message: Message) {
        lock(&self.messages).push(message);
        if !self.told.swap(true, Ordering::SeqCst) {
            let one = 1_u64;
            // It can't be full: it is written once for each time that it is read.
            real::write(self.event.as_raw_fd(), &one.to_ne_bytes());
        }
    }

    /// Takes all messages.
    pub(super) fn take(&self) -> Vec<Message> {
        real::read(self.event.as_raw_fd(), &mut [0; 8]);
        self.told.store(false, Ordering::SeqCst);
        std::mem::take(&mut *lock(&self.messages))
    }
}

/// The one that this process's coroutines are reached by.
static SERVED: AtomicPtr<Remote> = AtomicPtr::new(std::ptr::null_mut());

/// Has [`send`] go to this one, from now on.
pub(super) fn serve(remote: &Arc<Remote>) {
    SERVED.store(Arc::into_raw(Arc::clone(remote)).cast_mut(), Ordering::Release);
}

/// Has it go nowhere: the thread that heeded messages is not in this process.
pub(super) fn forget() {
    SERVED.store(std::ptr::null_mut(), Ordering::Release);
}

/// Sends a message to the thread that runs this process's coroutines, if there is one.
pub(crate) fn send(message: Message) {
    // SAFETY: the reference that serve() leaked is never given back.
    if let Some(remote) = unsafe { SERVED.load(Ordering::Acquire).as_ref() } {
        remote.send(message);
    }
}
