//! Between threads.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks it, also if somebody has panicked with the lock held: a panic is caught and logged where it comes from, and to fail
/// whoever comes to the lock later would make more of it.
#[inline]
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
