//! Reads what container runtimes keep on disk: only files and directories that root, or the user who runs this
//! program, alone can write.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::process::geteuid;

/// The permission bits with which group and others may write.
const WRITABLE: u32 = 0o022;

/// The content of a regular file. `None` if it can't be read, is a symbolic link, is larger than `limit` bytes, or
/// another user can write it.
pub(super) fn file(path: &Path, limit: usize) -> Option<Vec<u8>> {
    // Opening a FIFO would wait for a writer.
    let (mut file, metadata) = open(path, OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    if !metadata.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    // The size may have changed meanwhile.
    file.by_ref().take(limit as u64 + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= limit).then_some(bytes)
}

/// The names in a directory, `most` of them at most. Empty if it can't be read, or another user can write it.
pub(super) fn names(directory: &Path, most: usize) -> Vec<Vec<u8>> {
    let Some((directory, _)) = open(directory, OFlags::DIRECTORY) else { return Vec::new() };
    let Ok(entries) = Dir::new(directory) else { return Vec::new() };
    entries.flatten().take(most).map(|entry| entry.file_name().to_bytes().to_vec()).collect()
}

fn open(path: &Path, flags: OFlags) -> Option<(File, Metadata)> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, path, flags, Mode::empty()).ok()?);
    // Of what was opened: the path may lead elsewhere by now.
    let metadata = file.metadata().ok()?;
    let is_trusted = metadata.uid() == 0 || metadata.uid() == geteuid().as_raw();
    (is_trusted && metadata.mode() & WRITABLE == 0).then_some((file, metadata))
}
