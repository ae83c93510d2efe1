//! Reads the bytes of a configuration file, if the file can be trusted.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, major, minor};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::error::Problem;
use super::open;

/// Maximum size in MiB: a bigger file is no configuration, or never ends.
const BIGGEST: u64 = 16;

/// The device number of /dev/null (null(4)).
const NULL: (u32, u32) = (1, 3);

/// The permission bits with which group and others may write.
const WRITABLE: u32 = 0o022;

/// When files are read, which decides how long to wait for a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// At the start, before anything runs.
    Start,
    /// At a reload, while everything else waits.
    Reload,
}

impl Occasion {
    /// How long a pipe may take to deliver all bytes.
    fn patience(self) -> Duration {
        match self {
            Occasion::Start => Duration::from_secs(10),
            // A writer that waits for a reader delivers in some milliseconds.
            Occasion::Reload => Duration::from_millis(250),
        }
    }
}

/// The bytes of a file of limited size. If root reads it, only its owner can have written it. The
/// wait for a pipe is limited.
pub(super) fn contents(path: &Path, occasion: Occasion) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: std::io::Error| Problem::Unreadable(error.to_string());
    // Opening a FIFO would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let (file, metadata) = if geteuid().is_root() {
        let caller = caller();
        let file = open::open(path, flags, caller)?;
        // Of what was opened: a path may lead elsewhere by now.
        let metadata = file.metadata().map_err(unreadable)?;
        trusted(&metadata, caller)?;
        (file, metadata)
    } else {
        let flags = flags.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = file.map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        (file, metadata)
    };
    let bytes = read(&file, metadata.is_file(), occasion.patience())?;
    // A `<(...)` was read at the start. An empty reading is no empty configuration.
    if bytes.is_empty() && metadata.file_type().is_fifo() && occasion == Occasion::Reload {
        return Err(Problem::Spent);
    }
    Ok(bytes)
}

/// Reads to the end; a pipe or a device for `patience` at most.
fn read(mut file: &File, is_regular: bool, patience: Duration) -> Result<Vec<u8>, Problem> {
    let limit = usize::try_from(BIGGEST << 20).unwrap_or(usize::MAX);
    let deadline = Instant::now() + patience;
    let mut bytes = Vec::new();
    let mut buffer = [0; 1 << 16];
    loop {
        // Before the first read too: a FIFO that no writer has opened yet looks as if it had ended.
        if !is_regular && !is_ready(file, deadline) {
            return Err(Problem::Endless(patience));
        }
        match file.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(Problem::Unreadable(error.to_string())),
        }
        if bytes.len() > limit {
            return Err(Problem::TooBig(BIGGEST));
        }
    }
}

/// Waits until a read would not block; false if the deadline comes first, or has passed already.
fn is_ready(file: &File, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(file, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) | Err(Errno::INTR) => {}
            // Reading reports the error.
            Ok(_) | Err(_) => return true,
        }
    }
}

/// The user who is trusted like root: the one who called sudo if root runs the program, else the one who runs
/// it.
pub(super) fn caller() -> Option<u32> {
    match geteuid() {
        root if root.is_root() => std::env::var("SUDO_UID").ok()?.parse().ok(),
        user => Some(user.as_raw()),
    }
}

/// Whether root may follow the file: see [`only_owner_writes`].
///
/// The permissions of its folders are not checked. A user who can write there can replace the file, but a file
/// of that user is refused here, and a link to a file of root in [`open::open`].
fn trusted(metadata: &Metadata, caller: Option<u32>) -> Result<(), Problem> {
    let kind = metadata.file_type();
    // A terminal delivers what its owner types, a disk what its group writes.
    let is_device = kind.is_char_device() || kind.is_block_device();
    if is_device && (major(metadata.rdev()), minor(metadata.rdev())) != NULL {
        return Err(Problem::Device);
    }
    // Any user may write to /dev/null, but it delivers nothing. A folder can't be read.
    if !kind.is_file() && !kind.is_fifo() {
        return Ok(());
    }
    only_owner_writes(metadata, caller)
}

/// Checks that a file or a folder belongs to root or to `caller`, and that nobody else can write it. (Access
/// control lists show in the bits of the group.)
pub(super) fn only_owner_writes(metadata: &Metadata, caller: Option<u32>) -> Result<(), Problem> {
    let owner = metadata.uid();
    if owner != 0 && Some(owner) != caller {
        return Err(Problem::ForeignOwner(owner));
    }
    if metadata.mode() & WRITABLE != 0 {
        return Err(Problem::Writable(metadata.mode() & 0o7777));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::path::PathBuf;

    use super::*;

    /// A file in a folder of its own.
    struct Sample(PathBuf);

    impl Sample {
        fn new(name: &str) -> Sample {
            let name = format!("bwmon-config-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::write(&path, "[a]\n").unwrap();
            Sample(path)
        }

        fn mode(&self, mode: u32) -> Metadata {
            fs::set_permissions(&self.0, fs::Permissions::from_mode(mode)).unwrap();
            fs::metadata(&self.0).unwrap()
        }
    }

    impl Drop for Sample {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn nobody_but_its_owner_may_write_it() {
        let sample = Sample::new("modes");
        let owner = Some(fs::metadata(&sample.0).unwrap().uid());
        for mode in [0o600, 0o644, 0o640, 0o755, 0o444] {
            assert_eq!(trusted(&sample.mode(mode), owner), Ok(()), "{mode:o}");
        }
        for mode in [0o664, 0o646, 0o666, 0o620, 0o602, 0o777] {
            assert_eq!(
                trusted(&sample.mode(mode), owner),
                Err(Problem::Writable(mode)),
                "{mode:o}"
            );
        }
    }

    #[test]
    fn it_belongs_to_root_or_to_the_caller_of_sudo() {
        let sample = Sample::new("owners");
        if !geteuid().is_root() {
            eprintln!("SKIPPED: only root can give a file away");
            return;
        }
        assert_eq!(trusted(&sample.mode(0o644), None), Ok(()));
        assert_eq!(trusted(&sample.mode(0o644), Some(1234)), Ok(()));
        chown(&sample.0, Some(1234), Some(1234)).unwrap();
        let given = sample.mode(0o644);
        assert_eq!(trusted(&given, Some(1234)), Ok(()));
        for other in [None, Some(4321)] {
            assert_eq!(trusted(&given, other), Err(Problem::ForeignOwner(1234)));
        }
        assert_eq!(contents(&sample.0, Occasion::Start), Err(Problem::ForeignOwner(1234)));
    }

    #[test]
    fn of_devices_only_the_empty_one_is_read_by_root() {
        // Any user may write there, but reading it gives nothing.
        for occasion in [Occasion::Start, Occasion::Reload] {
            assert_eq!(contents(Path::new("/dev/null"), occasion), Ok(Vec::new()));
        }
        if !geteuid().is_root() {
            eprintln!("SKIPPED: root alone takes care of who has written a file");
            return;
        }
        // A terminal, whose user types the lines.
        let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
        let terminal = rustix::pty::openpt(flags).unwrap();
        rustix::pty::grantpt(&terminal).unwrap();
        rustix::pty::unlockpt(&terminal).unwrap();
        let name = rustix::pty::ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        rustix::io::write(&terminal, b"[a]\n\x04").unwrap();
        for owner in [0, 1234] {
            chown(&name, Some(owner), None).unwrap();
            for device in [&name, "/dev/zero", "/dev/urandom", "/dev/tty"] {
                if Path::new(device).exists() {
                    let read = contents(Path::new(device), Occasion::Start);
                    assert!(
                        matches!(read, Err(Problem::Device | Problem::Unreadable(_))),
                        "{device} of {owner}: {read:?}"
                    );
                }
            }
            assert_eq!(contents(Path::new(&name), Occasion::Start), Err(Problem::Device));
        }
    }

    /// A FIFO of this name.
    fn fifo(name: &str) -> Sample {
        let sample = Sample::new(name);
        fs::remove_file(&sample.0).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &sample.0, rustix::fs::FileType::Fifo, mode, 0)
            .unwrap();
        sample
    }

    /// Opens the FIFO as soon as there is a reader, writes these pieces and closes it.
    fn writer(fifo: &Sample, pieces: &'static [&'static [u8]]) -> std::thread::JoinHandle<()> {
        let path = fifo.0.clone();
        std::thread::spawn(move || {
            let mut file = OpenOptions::new().write(true).open(path).unwrap();
            for piece in pieces {
                file.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
        })
    }

    #[test]
    fn a_pipe_that_delivers_is_read() {
        let fifo = fifo("delivers");
        for occasion in [Occasion::Start, Occasion::Reload] {
            let writer = writer(&fifo, &[b"[a]\n", b"b=c\n"]);
            // It may take a busy machine longer than a reload waits.
            let bytes = crate::until::until("it is read", || contents(&fifo.0, occasion).ok());
            writer.join().unwrap();
            assert_eq!(bytes, b"[a]\nb=c\n", "{occasion:?}");
        }
    }

    #[test]
    fn a_pipe_that_does_not_end_is_not_waited_for() {
        let fifo = fifo("endless");
        let begin = Instant::now();
        let patience = Occasion::Reload.patience();
        assert_eq!(contents(&fifo.0, Occasion::Reload), Err(Problem::Endless(patience)));
        // Nor one that says something, and then nothing, or always more.
        let _open = OpenOptions::new().read(true).write(true).open(&fifo.0).unwrap();
        (&_open).write_all(b"[a]\n").unwrap();
        assert_eq!(contents(&fifo.0, Occasion::Reload), Err(Problem::Endless(patience)));
        assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
    }

    #[test]
    fn a_pipe_that_was_read_is_no_empty_configuration() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(writer);
        use std::os::fd::AsRawFd;
        let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
        assert_eq!(contents(&path, Occasion::Start), Ok(Vec::new()));
        assert_eq!(contents(&path, Occasion::Reload), Err(Problem::Spent));
    }
}
