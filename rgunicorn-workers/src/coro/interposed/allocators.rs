//! Who allocates: a library that came by `LD_PRELOAD` in place of the C library's allocator (jemalloc, tcmalloc). It takes
//! locks, and waits for them, in the midst of its work, by functions that are interposed. A coroutine that waited there would
//! leave its thread's part of the allocator half done to the next; and the loop, which allocates as well, would wait for a
//! lock that only a coroutine could give back. So what an allocator calls is the real function: its thread waits, as any
//! does, for another that is about to be done.
//!
//! Those who have to know are told by [`told_its_caller`] where they were called from.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::real;

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
    let malloc = real::symbol("malloc").and_then(code_around);
    // An executable with an allocator in it is much else as well.
    let Some((name_is_empty, from, to)) = malloc else { return };
    let libc = real::symbol("getpid").and_then(code_around);
    if !name_is_empty && libc.is_none_or(|(_, start, _)| start != from) {
        TO.store(to, Ordering::Relaxed);
        FROM.store(from, Ordering::Relaxed);
    }
}

/// The code of the object with this address in it: whether that is the executable, and where it lies.
fn code_around(address: usize) -> Option<(bool, usize, usize)> {
    struct Sought {
        address: usize,
        found: Option<(bool, usize, usize)>,
    }
    extern "C" fn look(info: *mut libc::dl_phdr_info, _: usize, sought: *mut c_void) -> c_int {
        // SAFETY: the linker's own structure, and what is given below.
        let (info, headers, sought) = unsafe {
            let info = &*info;
            let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
            (info, headers, &mut *sought.cast::<Sought>())
        };
        let range = |header: &libc::Elf64_Phdr| {
            let from = info.dlpi_addr as usize + header.p_vaddr as usize;
            from..from + header.p_memsz as usize
        };
        let code =
            |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0;
        let mut code = headers.iter().filter(code).map(range);
        let Some(here) = code.find(|range| range.contains(&sought.address)) else { return 0 };
        // SAFETY: the linker's names are there while it tells of them.
        let is_executable = unsafe { info.dlpi_name.is_null() || *info.dlpi_name == 0 };
        sought.found = Some((is_executable, here.start, here.end));
        1
    }
    let mut sought = Sought { address, found: None };
    // SAFETY: `sought` is there for as long as the call, and of the type that `look` takes it for.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut sought).cast()) };
    sought.found
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
        let (is_executable, from, to) = code_around(malloc).unwrap();
        assert!(!is_executable && (from..to).contains(&malloc));
        assert!(code_around(find_allocator as *const () as usize).unwrap().0);
    }
}
