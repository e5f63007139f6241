//! Who allocates: a library that came by `LD_PRELOAD` in place of the C library's allocator (jemalloc, tcmalloc). It takes
//! locks, and waits for them, in the midst of its work, by functions that are interposed. A coroutine that waited there would
//! leave its thread's part of the allocator half done to the next; and the loop, which allocates as well, would wait for a
//! lock that only a coroutine could give back. So what an allocator calls is the real function: its thread waits, as any
//! does, for another that is about to be done.
//!
//! Those who have to know are told by [`told_its_caller`] where they were called from.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{objects, real};

/// Where the allocator's code lies; nowhere, if that is the C library's own, which calls nothing that is interposed.
static FROM: AtomicUsize = AtomicUsize::new(0);
static TO: AtomicUsize = AtomicUsize::new(0);

/// Whether code that lies there is the allocator's.
#[inline]
pub(super) fn is_allocator(caller: usize) -> bool {
    (FROM.load(Ordering::Relaxed)..TO.load(Ordering::Relaxed)).contains(&caller)
}

/// Finds out who allocates in this process.
pub(crate) fn find_allocator() {
    // An executable with an allocator in it is much else as well.
    let Some(malloc) = real::symbol("malloc").and_then(objects::library_code) else { return };
    if real::symbol("getpid").and_then(objects::library_code).is_none_or(|libc| libc != malloc) {
        TO.store(malloc.end, Ordering::Relaxed);
        FROM.store(malloc.start, Ordering::Relaxed);
    }
}

/// Defines functions with the names of libc's that are done by others, which have the place that they were called from as
/// one more argument, in the registers that are named.
macro_rules! told_its_caller {
    ($($(#[doc = $doc:literal])* fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty = $target:ident, $x86_64:literal, $aarch64:literal;)*) => {$(
        $(#[doc = $doc])*
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub(crate) unsafe extern "C" fn $name($($arg: $type),*) -> $result {
            #[cfg(target_arch = "x86_64")]
            std::arch::naked_asm!(concat!("mov ", $x86_64, ", [rsp]"), "jmp {target}", target = sym $target);
            #[cfg(target_arch = "aarch64")]
            std::arch::naked_asm!(concat!("mov ", $aarch64, ", x30"), "b {target}", target = sym $target);
        }

        $(#[doc = $doc])*
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name($($arg: $type),*) -> $result {
            $target($($arg,)* 0)
        }
    )*};
}
pub(super) use told_its_caller;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_librarys_own_allocator_is_nobody_to_look_out_for() {
        find_allocator();
        let malloc = real::symbol("malloc").unwrap();
        assert!(
            !is_allocator(malloc) && !is_allocator(0) && !is_allocator(is_allocator as *const () as usize)
        );
        assert!(objects::library_code(malloc).unwrap().contains(&malloc));
        assert_eq!(objects::library_code(find_allocator as *const () as usize), None);
    }
}
