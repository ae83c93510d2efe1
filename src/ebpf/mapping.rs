//! A map's memory as the kernel shares it: the one place where the library does without the
//! compiler's checks.
#![allow(unsafe_code)]

use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// What may lie in memory that somebody else writes at the same time.
///
/// # Safety
/// The type consists of atomic integers alone, so that every bit pattern is valid and every access is
/// free of data races; and it is `repr(C)`, with the layout that the kernel's side has.
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
    /// What the kernel says: if the map has fewer, or isn't made to be shared.
    pub(super) fn of(map: BorrowedFd<'_>, len: usize) -> Result<Mapping<T>, Errno> {
        let bytes = len.checked_mul(size_of::<T>()).filter(|bytes| *bytes > 0);
        let bytes = bytes.ok_or(Errno::INVAL)?;
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address, so that nothing that is in use is replaced.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes, flags, MapFlags::SHARED, map, 0)? };
        let start = NonNull::new(start.cast::<T>()).ok_or(Errno::INVAL)?;
        Ok(Mapping { start, len })
    }
}

impl<T: Shared> Deref for Mapping<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping has room for `len` elements, begins at a page, and stays until it is
        // dropped; see `Shared` for who else writes to it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Shared> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nobody borrows from it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}

// SAFETY: memory that every thread may use, with atomic accesses alone.
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
// SAFETY: atomic integers are each by themselves.
unsafe impl Shared for std::sync::atomic::AtomicU64 {}

// SAFETY: integers alone, without padding, in the layout of the kernel's side.
unsafe impl aya::Pod for super::outside::Raw {}
// SAFETY: as above.
unsafe impl aya::Pod for super::frames::Raw {}
