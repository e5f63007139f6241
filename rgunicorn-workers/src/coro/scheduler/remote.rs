//! News of other threads for the one that runs the coroutines: that some are [woken](super::lot), and that descriptors are
//! about to be closed. Whoever has news may be in the midst of anything, and so nothing is allocated.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::brief::Brief;
use crate::coro::interposed::real;

/// How many descriptors are told of one by one, between two looks.
const ROOM: usize = 256;

/// Descriptors that other threads are about to close.
#[derive(Debug)]
pub(super) struct Closing {
    descriptors: [RawFd; ROOM],
    count: usize,
    /// There was no room for more: any may be.
    any: bool,
}

impl Closing {
    const fn new() -> Self {
        Closing { descriptors: [0; ROOM], count: 0, any: false }
    }

    fn add(&mut self, descriptor: RawFd) {
        match self.descriptors.get_mut(self.count) {
            Some(place) => {
                *place = descriptor;
                self.count += 1;
            }
            None => self.any = true,
        }
    }

    /// Those that are told of; none if it may be any.
    pub(super) fn told(&self) -> Option<&[RawFd]> {
        (!self.any).then(|| &self.descriptors[..self.count])
    }
}

/// Where news are put, and what wakes up the thread that they are for.
#[derive(Debug)]
pub(crate) struct Remote {
    closing: Brief<Closing>,
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
        Ok(Remote { closing: Brief::new(Closing::new()), told: AtomicBool::new(false), event })
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// There is news. For any thread but the one that it is for.
    fn ring(&self) {
        if !self.told.swap(true, Ordering::SeqCst) {
            let one = 1_u64;
            // It can't be full: it is written once for each time that it is read.
            real::write(self.event.as_raw_fd(), &one.to_ne_bytes());
        }
    }

    /// The news are about to be looked at: later ones ring again. Answers which descriptors are about to be closed.
    pub(super) fn take(&self) -> Closing {
        real::read(self.event.as_raw_fd(), &mut [0; 8]);
        self.told.store(false, Ordering::SeqCst);
        self.closing.with(|closing| std::mem::replace(closing, Closing::new()))
    }
}

/// The one that this process's coroutines are reached by.
static SERVED: AtomicPtr<Remote> = AtomicPtr::new(std::ptr::null_mut());

/// Has news go to this one, from now on.
pub(super) fn serve(remote: &Arc<Remote>) {
    SERVED.store(Arc::into_raw(Arc::clone(remote)).cast_mut(), Ordering::Release);
}

/// Has them go nowhere: the thread that heeded them is not in this process.
pub(super) fn forget() {
    SERVED.store(std::ptr::null_mut(), Ordering::Release);
}

fn served() -> Option<&'static Remote> {
    // SAFETY: the reference that serve() leaked is never given back.
    unsafe { SERVED.load(Ordering::Acquire).as_ref() }
}

/// Tells the thread that runs this process's coroutines, if there is one, that some were woken.
pub(super) fn ring() {
    served().inspect(|remote| remote.ring());
}

/// Tells it that this descriptor is about to be closed.
pub(super) fn closing(descriptor: RawFd) {
    if let Some(remote) = served() {
        remote.closing.with(|closing| closing.add(descriptor));
        remote.ring();
    }
}
