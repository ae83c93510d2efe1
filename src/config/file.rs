//! The bytes of a configuration file, if it is one that may be trusted.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::process::geteuid;

use super::error::Problem;

/// In MiB: a file that is bigger is none of ours, or never ends.
const BIGGEST: u64 = 16;

/// The permission bits of those that are not the owner: group and others may write.
const WRITABLE: u32 = 0o022;

/// The bytes of a file that isn't too big, and that nobody but its owner can have written if root
/// reads it.
pub(super) fn contents(path: &Path) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: std::io::Error| Problem::Unreadable(error.to_string());
    let file = File::open(path).map_err(unreadable)?;
    // Of what was opened: a path may lead elsewhere by now.
    let metadata = file.metadata().map_err(unreadable)?;
    if geteuid().is_root() {
        let caller = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
        trusted(&metadata, caller)?;
    }
    let limit = BIGGEST << 20;
    let mut bytes = Vec::new();
    match file.take(limit + 1).read_to_end(&mut bytes) {
        Ok(length) if length as u64 > limit => Err(Problem::TooBig(BIGGEST)),
        Ok(_) => Ok(bytes),
        Err(error) => Err(unreadable(error)),
    }
}

/// Whether root may do what the file says: it belongs to root, or to the user who has called sudo,
/// and nobody else can write it. (Access control lists show in the bits of the group.)
///
/// Its folders are not looked at. Who can write there can put another file in its place, but that
/// file is refused, because it belongs to whoever made it.
fn trusted(metadata: &Metadata, caller: Option<u32>) -> Result<(), Problem> {
    let kind = metadata.file_type();
    // Devices hold nothing that anybody has written, and a folder can't be read.
    if !kind.is_file() && !kind.is_fifo() {
        return Ok(());
    }
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
            assert_eq!(trusted(&sample.mode(mode), owner), Err(Problem::Writable(mode)), "{mode:o}");
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
        assert_eq!(contents(&sample.0), Err(Problem::ForeignOwner(1234)));
    }

    #[test]
    fn devices_are_nobodys() {
        // Anybody may write there, and nobody reads it.
        assert_eq!(contents(Path::new("/dev/null")), Ok(Vec::new()));
    }
}
