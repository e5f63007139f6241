//! Memory that processes share.

use std::alloc::Layout;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Types that several processes may use at once in the same memory: made of atomics throughout, free of addresses, and
/// valid when all bytes are zero.
///
/// # Safety
/// The above must be true. `shared_struct!` sees to it.
pub unsafe trait Shareable: Sync + 'static {}

// SAFETY: an atomic, and zero is a value.
unsafe impl Shareable for AtomicU32 {}
// SAFETY: an atomic, and zero is a value.
unsafe impl Shareable for AtomicU64 {}
// SAFETY: as its elements.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {}

/// Defines a struct of atomics, laid out in order from a multiple of 128 bytes on, that is [`Shareable`].
macro_rules! shared_struct {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[repr(C, align(128))]
        $vis struct $name { $($(#[$field_meta])* $field_vis $field: $type,)* }
        const _: () = {
            const fn shareable<T: $crate::sys::memory::Shareable>() {}
            $(shareable::<$type>();)*
        };
        // SAFETY: every field is, as was just checked.
        unsafe impl $crate::sys::memory::Shareable for $name {}
    };
}
pub(crate) use shared_struct;

/// A `T` in memory of its own, all zero at first.
pub struct Shared<T: Shareable> {
    place: NonNull<T>,
    /// What it is mapped from; none if it is on the heap.
    file: Option<OwnedFd>,
}

// SAFETY: it owns its `T`, which is `Sync` and without addresses.
unsafe impl<T: Shareable> Send for Shared<T> {}
// SAFETY: it gives out `&T` alone, and `T` is `Sync`.
unsafe impl<T: Shareable> Sync for Shared<T> {}

impl<T: Shareable> Shared<T> {
    /// Makes one that forked processes share, and that another program can map from `/proc/PID/fd/N`, where it appears
    /// as `/memfd:name`. Its size is sealed: who could shorten it would end all processes that touch what is missing then.
    ///
    /// # Errors
    /// When there is no memory, or there are no descriptors, left.
    pub fn mapped(name: &str) -> io::Result<Self> {
        let file = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        nix::unistd::ftruncate(&file, Self::layout().size() as i64)?;
        let size_for_good = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(size_for_good))?;
        let size = NonZeroUsize::new(Self::layout().size()).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at a place of the kernel's choice, as long as the file.
        let place = unsafe {
            mmap(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, &file, 0)
        }?;
        Ok(Shared { place: place.cast(), file: Some(file) })
    }

    /// Makes one that this process keeps to itself.
    pub fn private() -> Self {
        // SAFETY: the layout is not empty.
        let place = unsafe { std::alloc::alloc_zeroed(Self::layout()) };
        match NonNull::new(place) {
            Some(place) => Shared { place: place.cast(), file: None },
            None => std::alloc::handle_alloc_error(Self::layout()),
        }
    }

    /// The file behind it, if forked processes share it.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    fn layout() -> Layout {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= 4096) };
        Layout::new::<T>()
    }
}

impl<T: Shareable> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: valid for as long as `self` is, aligned (a page, or by its layout), and zero is a value of `T`.
        unsafe { self.place.as_ref() }
    }
}

impl<T: Shareable> Drop for Shared<T> {
    fn drop(&mut self) {
        if self.file.is_some() {
            // SAFETY: mapped by `mapped`, with this size, and not used any more.
            let _ = unsafe { munmap(self.place.cast(), Self::layout().size()) };
        } else {
            // SAFETY: allocated by `private`, with this layout.
            unsafe { std::alloc::dealloc(self.place.as_ptr().cast(), Self::layout()) };
        }
    }
}

impl<T: Shareable> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("size", &Self::layout().size()).field("file", &self.file).finish()
    }
}
