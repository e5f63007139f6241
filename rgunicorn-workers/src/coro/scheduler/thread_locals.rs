//! What native libraries keep for each thread (`thread_local` in C++ and Rust, `__thread` in C), kept for each coroutine.
//!
//! A library that blocks with such variables in use, as gRPC's mutexes and `greenlet` do, counts on finding them as they
//! were. All coroutines run on one thread, in which a library's variables lie in one block of memory; so the contents of
//! the blocks are exchanged with a coroutine's own as it goes on, and back as it waits. Addresses within a block remain
//! what they are. Blocks are a few bytes to a few hundred, and most libraries have none.
//!
//! Left alone are the executable, but for the one [word](Word) that the runtime asks for, the C library and libpython, for
//! whom all coroutines are one thread and who are told of switches where that matters; and libraries that keep memory or
//! threads in reserve for each thread, of which thousands would be a waste.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use crate::coro::runtime::Word;

/// Names of libraries, in part, whose variables are the thread's.
const LEFT_ALONE: &[&str] = &[
    // The C library and what belongs to it; Python.
    "ld-linux",
    "ld-musl",
    "libc.so",
    "libc.musl",
    "libpthread",
    "libpython",
    // Allocators, teams of threads, sanitizers.
    "libjemalloc",
    "libtcmalloc",
    "libmimalloc",
    "libgomp",
    "libomp",
    "libiomp",
    "libasan",
    "liblsan",
    "libtsan",
    "libubsan",
];

/// The variables of one library, in the thread of the coroutines.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// The library's number, and where it lies: a number is used again once a library is gone.
    library: (usize, usize),
    /// Where they are; null when the library is gone.
    address: *mut u8,
    size: usize,
    /// What they are at the beginning; the rest is zeros.
    image: *const u8,
    image_size: usize,
}

/// The variables of all libraries.
#[derive(Debug, Default)]
pub(super) struct ThreadLocals {
    /// In the order in which they were found. None is ever taken out.
    blocks: RefCell<Vec<Block>>,
    /// The executable's, if the runtime has one.
    word: Option<Word>,
    /// How many libraries have come and gone, as of the last look.
    changes: Cell<(u64, u64)>,
}

/// A coroutine's own, or the thread's while the coroutine runs: block after block, for those that were there at the time.
#[derive(Debug, Default)]
pub(super) struct Values {
    of_libraries: RefCell<Vec<u8>>,
    word: Cell<Option<usize>>,
}

impl ThreadLocals {
    pub(super) fn new(word: Option<Word>) -> Self {
        let locals = ThreadLocals { word, ..ThreadLocals::default() };
        locals.look();
        locals
    }

    /// Exchanges what is in the blocks for what is in `values`. For the blocks' own thread, outside of all coroutines.
    #[inline]
    pub(super) fn exchange(&self, values: &Values) {
        if let Some(word) = self.word {
            let own = values.word.get().unwrap_or(word.first);
            // SAFETY: the runtime's promise: a variable of this thread's, which nobody has a reference to now.
            values.word.set(Some(unsafe { word.address.replace(own) }));
        }
        let blocks = self.blocks.borrow();
        if blocks.is_empty() {
            return;
        }
        let mut values = values.of_libraries.borrow_mut();
        let mut at = 0;
        for block in &*blocks {
            if values.len() == at {
                // Not there when the coroutine ran last: as at the beginning of a thread.
                block.begin(&mut values);
            }
            if !block.address.is_null() {
                // SAFETY: look() has found the block in this thread, where it stays until its library goes, which
                // look() finds as well; and the vector has as many bytes from here on.
                unsafe {
                    ptr::swap_nonoverlapping(block.address, values.as_mut_ptr().add(at), block.size);
                }
            }
            at += block.size;
        }
    }

    /// Looks for libraries that have come or gone: often, as it asks only whether there are any.
    #[inline]
    pub(super) fn look(&self) {
        let now = changes();
        if now != self.changes.get() {
            self.changes.set(now);
            self.find();
        }
    }

    #[cold]
    fn find(&self) {
        let mut found = Vec::<Block>::new();
        // SAFETY: `found` is there for as long as the call.
        unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut found).cast()) };
        let mut blocks = self.blocks.borrow_mut();
        for block in blocks.iter_mut() {
            let again = found.iter().position(|other| block.is(other)).map(|at| found.remove(at));
            block.address = again.map_or(ptr::null_mut(), |again| again.address);
        }
        blocks.append(&mut found);
    }

    /// Whether a variable is one of those that each coroutine has.
    pub(super) fn contain(&self, variable: *const c_void) -> bool {
        self.look();
        let variable = variable as usize;
        self.blocks
            .borrow()
            .iter()
            .any(|block| (block.address as usize..block.address as usize + block.size).contains(&variable))
    }
}

impl Block {
    fn is(&self, other: &Block) -> bool {
        (self.library, self.size, self.image) == (other.library, other.size, other.image)
    }

    /// Appends what the variables are at the beginning.
    fn begin(&self, values: &mut Vec<u8>) {
        let end = values.len() + self.size;
        if !self.address.is_null() {
            // SAFETY: the library is there, and so is what it was loaded with.
            values.extend_from_slice(unsafe { std::slice::from_raw_parts(self.image, self.image_size) });
        }
        values.resize(end, 0);
    }
}

/// The variables that the library, or the executable, with this address in it has in this thread, as words.
#[cfg(feature = "python")]
pub(crate) fn of_the_one_with(address: usize) -> Option<*mut [usize]> {
    struct Sought {
        address: usize,
        found: Option<*mut [usize]>,
    }
    extern "C" fn look(info: *mut libc::dl_phdr_info, _: usize, sought: *mut c_void) -> c_int {
        // SAFETY: the linker's own structure, and what is given below.
        let (info, headers, sought) = unsafe {
            let info = &*info;
            let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
            (info, headers, &mut *sought.cast::<Sought>())
        };
        let is_in = |header: &libc::Elf64_Phdr| {
            let from = info.dlpi_addr as usize + header.p_vaddr as usize;
            header.p_type == libc::PT_LOAD && (from..from + header.p_memsz as usize).contains(&sought.address)
        };
        if !headers.iter().any(is_in) {
            return 0;
        }
        let variables = info.dlpi_tls_data.cast::<usize>();
        let header = headers.iter().find(|header| header.p_type == libc::PT_TLS);
        if let Some(header) = header.filter(|_| !variables.is_null() && variables.is_aligned()) {
            let words = header.p_memsz as usize / size_of::<usize>();
            sought.found = Some(ptr::slice_from_raw_parts_mut(variables, words));
        }
        1
    }
    let mut sought = Sought { address, found: None };
    // SAFETY: `sought` is there for as long as the call, and of the type that `look` takes it for.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut sought).cast()) };
    sought.found
}

/// How many libraries have come, and gone.
fn changes() -> (u64, u64) {
    extern "C" fn first(info: *mut libc::dl_phdr_info, _: usize, counts: *mut c_void) -> c_int {
        // SAFETY: the linker's own structure, and the place that is given below.
        unsafe { *counts.cast::<(u64, u64)>() = ((*info).dlpi_adds, (*info).dlpi_subs) };
        1
    }
    let mut counts = (0, 0);
    // SAFETY: `counts` is there for as long as the call, and of the type that `first` takes it for.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut counts).cast()) };
    counts
}

/// Adds the variables of a library, if it has any, to a `Vec<Block>`.
extern "C" fn add(info: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> c_int {
    unsafe extern "C" {
        /// The dynamic linker's: where a variable is, whose block it makes where the thread has none yet.
        fn __tls_get_addr(at: *const [usize; 2]) -> *mut u8;
    }
    // SAFETY: the linker's own structure, whose name and headers are there while it tells of them; and what find() gives.
    let (info, name, headers, found) = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        (info, CStr::from_ptr(info.dlpi_name).to_bytes(), headers, &mut *found.cast::<Vec<Block>>())
    };
    let file = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
    let is_left_alone = file.is_empty() || LEFT_ALONE.iter().any(|name| file.starts_with(name.as_bytes()));
    let variables = headers.iter().find(|header| header.p_type == libc::PT_TLS);
    let Some(variables) = variables.filter(|_| info.dlpi_tls_modid != 0 && !is_left_alone) else { return 0 };
    let mut address = info.dlpi_tls_data.cast::<u8>();
    if address.is_null() {
        // SAFETY: the library is there, and has variables.
        address = unsafe { __tls_get_addr(&[info.dlpi_tls_modid, 0]) };
    }
    found.push(Block {
        library: (info.dlpi_tls_modid, info.dlpi_addr as usize),
        address,
        size: variables.p_memsz as usize,
        image: (info.dlpi_addr as usize + variables.p_vaddr as usize) as *const u8,
        image_size: variables.p_filesz as usize,
    });
    0
}
