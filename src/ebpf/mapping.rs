//! The memory of a map that the kernel shares: the only unsafe code of the library.
#![allow(unsafe_code)]

use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A type that another writer may change at the same time.
///
/// # Safety
/// The type consists only of atomic integers, so that every bit pattern is valid and no access is a
/// data race. It is `repr(C)`, with the layout of the kernel's side.
pub(super) unsafe trait Shared {}

/// The elements of an array map (`BPF_F_MMAPABLE`).
#[derive(Debug)]
pub(super) struct Mapping<T: Shared> {
    start: NonNull<T>,
    len: usize,
}

impl<T: Shared> Mapping<T> {
    /// Maps `len` elements of `map`.
    ///
    /// # Errors
    /// Those of mmap(2): the map has fewer elements, or isn't made to be shared.
    pub(super) fn of(map: BorrowedFd<'_>, len: usize) -> Result<Mapping<T>, Errno> {
        let bytes = len.checked_mul(size_of::<T>()).filter(|bytes| *bytes > 0);
        let bytes = bytes.ok_or(Errno::INVAL)?;
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address, so no mapping in use is replaced.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes, flags, MapFlags::SHARED, map, 0)? };
        let start = NonNull::new(start.cast::<T>()).ok_or(Errno::INVAL)?;
        Ok(Mapping { start, len })
    }
}

impl<T: Shared> Deref for Mapping<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping has room for `len` elements, starts at a page, and stays until it is
        // dropped; see `Shared` for other writers.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Shared> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}

// SAFETY: all threads may use the memory, with atomic accesses only.
unsafe impl<T: Shared + Sync> Send for Mapping<T> {}
// SAFETY: as above.
unsafe impl<T: Shared + Sync> Sync for Mapping<T> {}

// SAFETY: see their definitions.
unsafe impl Shared for super::slots::Slot {}
// SAFETY: see its definition.
unsafe impl Shared for super::slots::Bucket {}
// SAFETY: see its definition.
unsafe impl Shared for super::slots::Totals {}
// SAFETY: see its definition.
unsafe impl Shared for super::handshakes::Set {}
// SAFETY: each atomic integer is independent.
unsafe impl Shared for std::sync::atomic::AtomicU64 {}

// SAFETY: only integers, without padding, in the layout of the kernel's side.
unsafe impl aya::Pod for super::outside::Raw {}
// SAFETY: as above.
unsafe impl aya::Pod for super::frames::Raw {}
// SAFETY: as above.
unsafe impl aya::Pod for super::remotes::Key {}
// SAFETY: as above.
unsafe impl aya::Pod for super::remotes::Raw {}
