//! Which library code belongs to.

use std::ffi::{c_int, c_void};
use std::ops::Range;

/// Where the code of the library lies that has this address in it; none if that is the executable, or nobody.
pub(crate) fn library_code(address: usize) -> Option<Range<usize>> {
    struct Sought {
        address: usize,
        found: Option<Range<usize>>,
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
        let is_code =
            |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0;
        let mut code = headers.iter().filter(is_code).map(range);
        let Some(here) = code.find(|range| range.contains(&sought.address)) else { return 0 };
        // SAFETY: the linker's names are there while it tells of them. The executable has none.
        let is_library = unsafe { !info.dlpi_name.is_null() && *info.dlpi_name != 0 };
        sought.found = is_library.then_some(here);
        1
    }
    let mut sought = Sought { address, found: None };
    // SAFETY: `sought` is there for as long as the call, and of the type that `look` takes it for.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut sought).cast()) };
    sought.found
}
