//! The dynamic linker's table of where a thread's variables are, one for each coroutine.
//!
//! A library that was loaded while the program runs finds its `thread_local` variables by way of a table of its thread's (the
//! DTV of the platforms' ELF specifications): library by library, the block of memory that has this thread's. The linker
//! makes the block when the thread first asks for one. The thread has but a pointer to the table; with another table it is
//! another thread, for all such libraries. So a coroutine has a table of its own, which begins empty, and the switch is the
//! exchange of one pointer.
//!
//! Blocks that are not found by this table, since they were there when the thread began, are the thread's, whatever table
//! it has: the linker enters them by itself.

use std::ffi::{c_int, c_void};
use std::ptr;

unsafe extern "C" {
    /// The dynamic linker's: where a variable is, whose block it makes where the table has none yet.
    fn __tls_get_addr(at: *const [usize; 2]) -> *mut u8;
}

/// What the table has for a library.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Its variables.
    block: *mut u8,
    /// What the linker gives back when the library goes; null where the block is the thread's.
    to_free: *mut u8,
}

/// What an entry begins with.
const NOT_MADE: *mut u8 = usize::MAX as *mut u8;

/// A table, by the address of its first entry, which is the number of its last change; right before it is how many there
/// are.
pub(super) type Table = *mut c_void;

/// Where this thread has the pointer to its table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables {
    place: *mut Table,
}

impl Tables {
    /// Those of this thread; none where the C library has them in another way than we know.
    pub(super) fn of_this_thread() -> Option<Tables> {
        let tables = Tables { place: place()? };
        (tables.is_as_expected() && tables.takes_another()).then_some(tables)
    }

    /// Whether the table says of all libraries what the linker does.
    fn is_as_expected(self) -> bool {
        struct Seen {
            table: Table,
            agree: usize,
            differ: usize,
        }
        extern "C" fn compare(info: *mut libc::dl_phdr_info, _: usize, seen: *mut c_void) -> c_int {
            // SAFETY: the linker's own structure, and what is given below.
            let (info, seen) = unsafe { (&*info, &mut *seen.cast::<Seen>()) };
            let number = info.dlpi_tls_modid;
            if number != 0 && !info.dlpi_tls_data.is_null() && number <= length(seen.table) {
                let same = entry(seen.table, number).block == info.dlpi_tls_data.cast();
                *(if same { &mut seen.agree } else { &mut seen.differ }) += 1;
            }
            0
        }
        // SAFETY: the thread's own.
        let table = unsafe { *self.place };
        if !table.cast::<usize>().is_aligned() || table.is_null() || !(1..1 << 20).contains(&length(table)) {
            return false;
        }
        let mut seen = Seen { table, agree: 0, differ: 0 };
        // SAFETY: `seen` is there for as long as the call, and of the type that `compare` takes it for.
        unsafe { libc::dl_iterate_phdr(Some(compare), (&raw mut seen).cast()) };
        // The C library has variables, if nobody else does.
        seen.agree > 0 && seen.differ == 0
    }

    /// Whether the linker takes a table of ours for its own: it finds the C library's variables, and enters them.
    fn takes_another(self) -> bool {
        extern "C" fn first(info: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> c_int {
            // SAFETY: the linker's own structure, and the place that is given below.
            let (info, found) = unsafe { (&*info, &mut *found.cast::<(usize, *mut u8)>()) };
            *found = (info.dlpi_tls_modid, info.dlpi_tls_data.cast());
            c_int::from(info.dlpi_tls_modid != 0 && !info.dlpi_tls_data.is_null())
        }
        let mut found = (0, ptr::null_mut());
        // SAFETY: `found` is there for as long as the call, and of the type that `first` takes it for.
        if unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut found).cast()) } == 0 {
            return false;
        }
        let (number, block) = found;
        let Some(own) = self.make() else { return false };
        let before = self.exchange(own);
        // SAFETY: the library is there, and has variables.
        let answer = unsafe { __tls_get_addr(&[number, 0]) };
        let own = self.exchange(before);
        let taken = answer == block && entry(own, number).block == block;
        // SAFETY: it is ours, and nobody's any more; the linker has made no block.
        unsafe { libc::free(own.cast::<Entry>().sub(1).cast()) };
        taken
    }

    /// Makes a table without blocks. It is the linker's from then on, which may make it larger, and free it with its thread.
    pub(super) fn make(self) -> Option<Table> {
        // SAFETY: the thread's own table, which has a number of entries before the first and a number of its last change.
        let (count, changed) = unsafe {
            let table = *self.place;
            (length(table), *table.cast::<usize>())
        };
        // SAFETY: room for all of them, which is written before it is anybody's.
        unsafe {
            let all = libc::malloc((count + 2) * size_of::<Entry>()).cast::<Entry>();
            if all.is_null() {
                return None;
            }
            all.write(Entry { block: ptr::without_provenance_mut(count), to_free: ptr::null_mut() });
            all.add(1).write(Entry { block: ptr::without_provenance_mut(changed), to_free: ptr::null_mut() });
            for number in 0..count {
                all.add(2 + number).write(Entry { block: NOT_MADE, to_free: ptr::null_mut() });
            }
            Some(all.add(1).cast())
        }
    }

    /// Gives the thread another table; answers the one that it had.
    #[inline]
    pub(super) fn exchange(self, table: Table) -> Table {
        // SAFETY: the place is this thread's own, and tables are made by the linker or by make().
        unsafe { self.place.replace(table) }
    }

    /// The block of a library in the table that the thread has now, and whether it is the table's own. Makes one where there is
    /// none.
    pub(super) fn block(self, number: usize) -> (*mut u8, bool) {
        // SAFETY: whoever asks knows of the library, which is there and has variables.
        let block = unsafe { __tls_get_addr(&[number, 0]) };
        // SAFETY: the thread's own.
        let table = unsafe { *self.place };
        (block, !entry(table, number).to_free.is_null())
    }

    /// Has the table that the thread has now lead to this block, which is nobody's to free any more.
    pub(super) fn lead(self, number: usize, block: *mut u8) {
        // SAFETY: the thread's own.
        let table = unsafe { *self.place };
        let is_made = number <= length(table) && entry(table, number).block != NOT_MADE;
        // The table is long enough afterwards, and up to date.
        self.block(number);
        // SAFETY: the linker has seen to it that there is such an entry in the thread's own table.
        unsafe {
            let place = (*self.place).cast::<Entry>().add(number);
            let Entry { block: present, to_free } = place.replace(Entry { block, to_free: ptr::null_mut() });
            // Others may know of one that was there before.
            if present != block && !is_made {
                libc::free(to_free.cast());
            }
        }
    }

    /// Whether a block, as the table that the thread has now has it, is the table's own.
    pub(super) fn is_own(self, number: usize) -> bool {
        // SAFETY: the thread's own.
        let table = unsafe { *self.place };
        number <= length(table) && !entry(table, number).to_free.is_null()
    }
}

fn length(table: Table) -> usize {
    // SAFETY: what is_as_expected() has been told of, or has found.
    unsafe { *table.cast::<Entry>().sub(1).cast::<usize>() }
}

fn entry(table: Table, number: usize) -> Entry {
    // SAFETY: the caller has looked at the length, or the linker has.
    unsafe { *table.cast::<Entry>().add(number) }
}

/// Where the thread has the pointer to its table: behind the pointer to itself, or in its place.
#[cfg(target_env = "gnu")]
fn place() -> Option<*mut Table> {
    let thread: *mut Table;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads the thread's own pointer.
    unsafe {
        std::arch::asm!("mov {}, fs:0", out(reg) thread, options(nostack, readonly, preserves_flags));
        Some(thread.add(1))
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads the thread's own pointer.
    unsafe {
        std::arch::asm!("mrs {}, tpidr_el0", out(reg) thread, options(nostack, nomem, preserves_flags));
        Some(thread)
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    None
}

#[cfg(not(target_env = "gnu"))]
fn place() -> Option<*mut Table> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_another_table_a_thread_has_other_variables_and_afterwards_its_own_again() {
        let tables = Tables::of_this_thread().expect("this C library is known");
        // What C++ keeps of exceptions is such a variable, and this test has no C++ in it.
        // SAFETY: the names are NUL-terminated, and the function has this type.
        let globals: extern "C" fn() -> *mut u8 = unsafe {
            let library = libc::dlopen(c"libstdc++.so.6".as_ptr(), libc::RTLD_NOW);
            assert!(!library.is_null(), "there is a library of C++");
            std::mem::transmute(libc::dlsym(library, c"__cxa_get_globals".as_ptr()))
        };
        // SAFETY: has no conditions.
        let errno = || unsafe { libc::__errno_location() };
        let (mine, my_errno) = (globals(), errno());
        let mut other = tables.make().unwrap();
        let mut seen = Vec::new();
        for _ in 0..2 {
            let before = tables.exchange(other);
            seen.push((globals(), errno()));
            other = tables.exchange(before);
            assert_eq!((globals(), errno()), (mine, my_errno));
        }
        assert_ne!(seen[0].0, mine);
        assert_eq!(seen, [(seen[0].0, my_errno); 2]);
    }
}
