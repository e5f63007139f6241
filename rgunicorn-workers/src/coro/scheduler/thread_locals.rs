//! What native libraries keep for each thread (`thread_local` in C++ and Rust, `__thread` in C), kept for each coroutine.
//!
//! A library that blocks with such variables in use, as gRPC's mutexes and `greenlet` do, counts on finding them as they
//! were; one that has told others where they are (an allocator's list of its threads' reserves, the latch that a pool of threads is
//! to open) counts on finding them where they were. So a coroutine has variables of its own, elsewhere than all others:
//! they are as those of a thread. How is said in [`tables`](super::tables).
//!
//! That is so for libraries that were loaded at run time, by Python or another. Of those that were there when the thread
//! began, and of those that insist on being found without the table (`STATIC_TLS`), there is but one block:
//!
//! - it is **shared** by all coroutines as by one thread: the executable's, but for the one [word](Word) that the runtime asks
//!   for; the C library's and libpython's, who are told of switches where that matters; and those of preloaded allocators;
//! - or, for libraries that keep there who is current, and for those that could have been found by the table, its contents
//!   are **exchanged** with each switch.
//!
//! The settings add to both lists; what is shared may be loaded at run time as well.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use super::tables::{Table, Tables};
use crate::coro::runtime::Word;

/// How the names of libraries begin whose variables are the thread's.
const SHARED: &[&str] = &[
    // The C library and what belongs to it; Python.
    "ld-linux",
    "ld-musl",
    "libc.so",
    "libc.musl",
    "libpthread",
    "libpython",
    // Allocators, sanitizers.
    "libjemalloc",
    "libtcmalloc",
    "libmimalloc",
    "libasan",
    "liblsan",
    "libtsan",
    "libubsan",
];

/// How the names of libraries begin whose variables are exchanged where the thread has but one block of them: what is thrown or
/// caught, who is current, and which team of OpenMP's threads is at work.
const EXCHANGED: &[&str] =
    &["libstdc++", "libc++abi", "libcrypto", "libssl", "libgrpc", "cygrpc", "_greenlet", "libgomp"];

/// The linker puts no more than this where it could be found without the table, unless the library insists.
const SMALL: usize = 512;

/// How the names of libraries begin, of both kinds, beside those that are known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lists {
    /// Those whose variables are the thread's.
    pub(crate) shared: Vec<String>,
    /// Those whose variables are exchanged where there is one block of them.
    pub(crate) exchanged: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Neither is said of it.
    Own,
    Shared,
    Exchanged,
}

impl Lists {
    /// What the settings say goes before what is known.
    fn kind(&self, file: &[u8]) -> Kind {
        let is_of = |names: &[String]| names.iter().any(|name| file.starts_with(name.as_bytes()));
        let is_known = |names: &[&str]| names.iter().any(|name| file.starts_with(name.as_bytes()));
        match () {
            () if is_of(&self.shared) => Kind::Shared,
            () if is_of(&self.exchanged) => Kind::Exchanged,
            () if is_known(SHARED) => Kind::Shared,
            () if is_known(EXCHANGED) => Kind::Exchanged,
            () => Kind::Own,
        }
    }
}

/// A library with variables.
#[derive(Debug, Clone, Copy)]
struct Library {
    /// The linker's number for it, and where it lies: a number is used again once a library is gone.
    at: (usize, usize),
    kind: Kind,
    size: usize,
    /// What the variables are at the beginning; the rest is zeros.
    image: *const u8,
    image_size: usize,
}

/// A block of the thread's whose contents are exchanged.
#[derive(Debug, Clone, Copy)]
struct Block {
    library: Library,
    /// Where it is; null when the library is gone.
    address: *mut u8,
}

/// A block that all coroutines find.
#[derive(Debug, Clone, Copy)]
struct Common {
    library: Library,
    address: *mut u8,
}

/// The variables of all libraries.
#[derive(Debug)]
pub(super) struct ThreadLocals {
    lists: Lists,
    /// None where this C library is none that we know: then all is the thread's but what is exchanged.
    tables: Option<Tables>,
    /// Those that are exchanged, in the order in which they were found. None is ever taken out.
    blocks: RefCell<Vec<Block>>,
    /// Those that all tables are to lead to.
    common: RefCell<Vec<Common>>,
    /// The executable's, if the runtime has one.
    word: Option<Word>,
    /// How many libraries have come and gone, as of the last look.
    changes: Cell<(u64, u64)>,
    /// As of when the thread's own table leads to the blocks in common.
    led: Cell<(u64, u64)>,
}

/// A coroutine's own, or the thread's while the coroutine runs.
#[derive(Debug, Default)]
pub(super) struct Values {
    table: Cell<Option<Table>>,
    /// As of when the coroutine's table leads to the blocks in common.
    led: Cell<(u64, u64)>,
    /// Block after block, for those that were there at the time.
    of_libraries: RefCell<Vec<u8>>,
    word: Cell<Option<usize>>,
}

impl ThreadLocals {
    pub(super) fn new(word: Option<Word>, lists: Lists) -> Self {
        let tables = Tables::of_this_thread();
        if tables.is_none() {
            tracing::warn!(
                "This C library keeps thread-local variables in a way that isn't known: requests share those of native \
                 libraries, but for what `coro_exchanged_locals` names"
            );
        }
        let locals = ThreadLocals {
            lists,
            tables,
            blocks: RefCell::default(),
            common: RefCell::default(),
            word,
            changes: Cell::default(),
            led: Cell::default(),
        };
        locals.look();
        locals.lead(&locals.led);
        locals
    }

    /// A coroutine goes on: the thread finds its variables. For the thread that this was made in, outside of all coroutines.
    #[inline]
    pub(super) fn enter(&self, values: &Values) {
        if let Some(tables) = self.tables {
            // Without memory for a table it has the thread's.
            let own = values.table.get().or_else(|| tables.make());
            values.table.set(own.map(|own| tables.exchange(own)));
            if values.table.get().is_some() {
                self.lead(&values.led);
            }
        }
        self.exchange(values);
    }

    /// It waits: the thread finds its own. What the coroutine has loaded has its values in place.
    #[inline]
    pub(super) fn leave(&self, values: &Values) {
        self.look();
        self.exchange(values);
        if let (Some(tables), Some(of_thread)) = (self.tables, values.table.get()) {
            // The linker may have made it anew meanwhile.
            values.table.set(Some(tables.exchange(of_thread)));
            self.lead(&self.led);
        }
    }

    /// Has the table that the thread has now lead to what all have in common, if that was not done since libraries last came or
    /// went.
    #[inline]
    fn lead(&self, led: &Cell<(u64, u64)>) {
        if led.get() != self.changes.get()
            && let Some(tables) = self.tables
        {
            led.set(self.changes.get());
            for common in &*self.common.borrow() {
                tables.lead(common.library.at.0, common.address);
            }
        }
    }

    /// Exchanges what is in the blocks for what is in `values`.
    #[inline]
    fn exchange(&self, values: &Values) {
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
            let size = block.library.size;
            if values.len() == at {
                // Not there when the coroutine ran last: as at the beginning of a thread.
                block.begin(&mut values);
            }
            if !block.address.is_null() {
                // SAFETY: look() has found the block in this thread, where it stays until its library goes, which
                // look() finds as well; and the vector has as many bytes from here on.
                unsafe { ptr::swap_nonoverlapping(block.address, values.as_mut_ptr().add(at), size) };
            }
            at += size;
        }
    }

    /// Looks for libraries that have come or gone: often, as it asks only whether there are any.
    #[inline]
    fn look(&self) {
        let now = changes();
        if now != self.changes.get() {
            self.changes.set(now);
            self.find();
        }
    }

    #[cold]
    fn find(&self) {
        let mut listing = Listing { lists: &self.lists, found: Vec::new() };
        // SAFETY: `listing` is there for as long as the call, and of the type that `add` takes it for.
        unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut listing).cast()) };
        let mut found = listing.found;
        let (mut blocks, mut common) = (self.blocks.borrow_mut(), self.common.borrow_mut());
        for block in blocks.iter_mut() {
            let again = found.iter().position(|other| block.library.is(other)).map(|at| found.remove(at));
            block.address = again.map_or(ptr::null_mut(), |_| block.address);
        }
        common.retain(|common| found.iter().any(|other| common.library.is(other)));
        found.retain(|library| !common.iter().any(|common| common.library.is(library)));
        for library in found {
            let (address, is_tables) = match self.tables {
                Some(tables) => tables.block(library.at.0),
                None => (block_of(library.at.0), false),
            };
            match library.kind {
                Kind::Exchanged | Kind::Own if !is_tables => blocks.push(Block { library, address }),
                // It is the one that has it first that all have from now on.
                Kind::Shared if is_tables => common.push(Common { library, address }),
                _ => {}
            }
        }
    }

    /// Whether a variable is one of those that each coroutine has, as a coroutine finds it that runs.
    pub(super) fn contain(&self, variable: *const c_void) -> bool {
        struct Sought<'a> {
            variable: usize,
            tables: Option<Tables>,
            blocks: &'a [Block],
            found: bool,
        }
        extern "C" fn look(info: *mut libc::dl_phdr_info, _: usize, sought: *mut c_void) -> c_int {
            // SAFETY: the linker's own structure, and what is given below.
            let (info, sought) = unsafe { (&*info, &mut *sought.cast::<Sought<'_>>()) };
            let from = info.dlpi_tls_data as usize;
            let Some(header) = variables_of(info).filter(|_| from != 0) else { return 0 };
            if !(from..from + header.p_memsz as usize).contains(&sought.variable) {
                return 0;
            }
            let number = info.dlpi_tls_modid;
            sought.found = sought.tables.is_some_and(|tables| tables.is_own(number))
                || sought.blocks.iter().any(|block| block.address as usize == from);
            1
        }
        self.look();
        let blocks = self.blocks.borrow();
        let mut sought =
            Sought { variable: variable as usize, tables: self.tables, blocks: &blocks, found: false };
        // SAFETY: `sought` is there for as long as the call, and of the type that `look` takes it for.
        unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut sought).cast()) };
        sought.found
    }
}

impl Library {
    fn is(&self, other: &Library) -> bool {
        (self.at, self.size, self.image) == (other.at, other.size, other.image)
    }
}

impl Block {
    /// Appends what the variables are at the beginning.
    fn begin(&self, values: &mut Vec<u8>) {
        let end = values.len() + self.library.size;
        if !self.address.is_null() {
            let Library { image, image_size, .. } = self.library;
            // SAFETY: the library is there, and so is what it was loaded with.
            values.extend_from_slice(unsafe { std::slice::from_raw_parts(image, image_size) });
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

/// Where a library's variables are, by the table that the thread has.
fn block_of(number: usize) -> *mut u8 {
    unsafe extern "C" {
        fn __tls_get_addr(at: *const [usize; 2]) -> *mut u8;
    }
    // SAFETY: the library is there, and has variables.
    unsafe { __tls_get_addr(&[number, 0]) }
}

/// What is known of a library's variables, if it has any.
fn variables_of(info: &libc::dl_phdr_info) -> Option<&libc::Elf64_Phdr> {
    // SAFETY: the linker's own structure, whose headers are there while it tells of them.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    headers.iter().find(|header| header.p_type == libc::PT_TLS).filter(|_| info.dlpi_tls_modid != 0)
}

struct Listing<'a> {
    lists: &'a Lists,
    found: Vec<Library>,
}

/// Adds a library to a `Listing`, if something has to be done for it.
extern "C" fn add(info: *mut libc::dl_phdr_info, _: usize, listing: *mut c_void) -> c_int {
    // SAFETY: the linker's own structure, whose name is there while it tells of it; and what find() gives.
    let (info, name, listing) = unsafe {
        let info = &*info;
        (info, CStr::from_ptr(info.dlpi_name).to_bytes(), &mut *listing.cast::<Listing<'_>>())
    };
    let Some(variables) = variables_of(info) else { return 0 };
    let file = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
    let kind = if is_ours(info) { Kind::Shared } else { listing.lists.kind(file) };
    let may_be_the_threads = variables.p_memsz as usize <= SMALL && !insists(info);
    // The executable has no name.
    if file.is_empty() || kind == Kind::Own && !may_be_the_threads {
        return 0;
    }
    listing.found.push(Library {
        at: (info.dlpi_tls_modid, info.dlpi_addr as usize),
        kind,
        size: variables.p_memsz as usize,
        image: (info.dlpi_addr as usize + variables.p_vaddr as usize) as *const u8,
        image_size: variables.p_filesz as usize,
    });
    0
}

/// Whether a library's code finds its variables without the table (`STATIC_TLS`).
fn insists(info: &libc::dl_phdr_info) -> bool {
    const FLAGS: (usize, usize) = (30, 0x10);
    // SAFETY: the linker's own structure, whose headers are there while it tells of them.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let Some(header) = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC) else { return false };
    let entries = (info.dlpi_addr as usize + header.p_vaddr as usize) as *const (usize, usize);
    // SAFETY: a library's dynamic section, which the linker has read, is there, and is as long as this.
    let entries =
        unsafe { std::slice::from_raw_parts(entries, header.p_memsz as usize / size_of::<(usize, usize)>()) };
    let mut entries = entries.iter().take_while(|(tag, _)| *tag != 0);
    entries.any(|(tag, value)| *tag == FLAGS.0 && value & FLAGS.1 != 0)
}

/// Whether this is the object that we are in: as a library, ours would else be exchanged as well.
fn is_ours(info: &libc::dl_phdr_info) -> bool {
    // SAFETY: the linker's own structure, whose headers are there while it tells of them.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let here = add as *const () as usize;
    headers.iter().any(|header| {
        let from = info.dlpi_addr as usize + header.p_vaddr as usize;
        header.p_type == libc::PT_LOAD && (from..from + header.p_memsz as usize).contains(&here)
    })
}
