//! Coroutines as threads: which identities are theirs, and which thread they all run on.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};

use rgunicorn_core::sync::lock;

use crate::coro::interposed::real;

struct Identities {
    coroutines: HashSet<usize>,
    thread: libc::pthread_t,
}

static IDENTITIES: Mutex<Option<Identities>> = Mutex::new(None);

fn identities() -> MutexGuard<'static, Option<Identities>> {
    lock(&IDENTITIES)
}

/// This thread is the one.
pub(super) fn begin() {
    *identities() = Some(Identities { coroutines: HashSet::new(), thread: real::thread() });
}

pub(super) fn add(identity: usize) {
    if let Some(identities) = &mut *identities() {
        identities.coroutines.insert(identity);
    }
}

pub(super) fn remove(identity: usize) {
    if let Some(identities) = &mut *identities() {
        identities.coroutines.remove(&identity);
    }
}

/// The thread behind an identity, if it is a coroutine's.
pub(crate) fn thread_of(identity: usize) -> Option<libc::pthread_t> {
    if super::is_forked() {
        // The lock may have been held by a thread that isn't here, and there is no coroutine but the one that forked.
        let mine =
            super::current().is_some_and(|coroutine| std::ptr::from_ref(coroutine) as usize == identity);
        return mine.then(real::thread);
    }
    let identities = identities();
    identities.as_ref().filter(|all| all.coroutines.contains(&identity)).map(|all| all.thread)
}
