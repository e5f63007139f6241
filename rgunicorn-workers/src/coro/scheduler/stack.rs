//! The stacks of coroutines: address space that takes memory only as it is used, with a guard page at its end.

use std::io;
use std::num::{NonZero, NonZeroUsize};
use std::ptr;

use corosensei::stack::{MIN_STACK_SIZE, Stack, StackPointer};

/// Where a stack lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The lowest address that may be used.
    pub(crate) low: usize,
    /// One past the highest.
    pub(crate) high: usize,
    /// The size of the guard below.
    pub(crate) guard: usize,
}

/// A stack of one's own.
#[derive(Debug)]
pub(super) struct GuardedStack {
    bounds: Bounds,
}

impl GuardedStack {
    /// Sets aside `size` bytes of address space, and a guard page.
    pub(super) fn new(size: usize) -> io::Result<Self> {
        // SAFETY: has no conditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        let size = size.max(MIN_STACK_SIZE).next_multiple_of(page);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: a new mapping, anywhere.
        let low = unsafe { libc::mmap(ptr::null_mut(), size + page, libc::PROT_NONE, flags, -1, 0) };
        if low == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let low = low as usize + page;
        let stack = GuardedStack { bounds: Bounds { low, high: low + size, guard: page } };
        // SAFETY: the range is ours, all but the guard page. Huge pages would commit two megabytes for the first byte.
        let set = unsafe {
            libc::madvise(low as *mut _, size, libc::MADV_NOHUGEPAGE);
            libc::mprotect(low as *mut _, size, libc::PROT_READ | libc::PROT_WRITE)
        };
        if set == 0 { Ok(stack) } else { Err(io::Error::last_os_error()) }
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }
}

impl Drop for GuardedStack {
    fn drop(&mut self) {
        let Bounds { low, high, guard } = self.bounds;
        // SAFETY: the mapping is ours, and whoever drops a stack is not on it.
        unsafe { libc::munmap((low - guard) as *mut _, high - low + guard) };
    }
}

// SAFETY: there is a guard page at the limit, and at least MIN_STACK_SIZE bytes above it.
unsafe impl Stack for GuardedStack {
    fn base(&self) -> StackPointer {
        NonZero::new(self.bounds.high).unwrap_or(NonZeroUsize::MIN)
    }

    fn limit(&self) -> StackPointer {
        NonZero::new(self.bounds.low - self.bounds.guard).unwrap_or(NonZeroUsize::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_below_it_that_nobody_may_touch() {
        let Bounds { low, high, guard } = {
            let stack = GuardedStack::new(100_000).unwrap();
            let bounds = stack.bounds();
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let rights = |at: usize| {
                let line = maps.lines().find(|line| {
                    let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
                    let number = |text| usize::from_str_radix(text, 16).unwrap();
                    (number(from)..number(to)).contains(&at)
                });
                line.unwrap().split(' ').nth(1).unwrap().to_string()
            };
            assert_eq!(rights(bounds.low), "rw-p");
            assert_eq!(rights(bounds.high - 1), "rw-p");
            assert_eq!(rights(bounds.low - 1), "---p");
            assert_eq!(rights(bounds.low - bounds.guard), "---p");
            bounds
        };
        assert!(high - low >= 100_000 && guard >= 4096);
    }
}
