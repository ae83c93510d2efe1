//! The working directory of commands that get an application's name in a word.
//!
//! A process chooses its own name. A program that takes it for the name of a file (`cat {app}`, `nice {app}`)
//! opens or runs a file of the working directory, so no other user may be able to create one there.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, OFlags, access};
use rustix::io::Errno;

use super::error::Problem;
use super::{file, open};
use crate::escape::visible;

/// Checks that only its owner can create files in the working directory, and that the owner is root, the user
/// who called sudo or the user who runs the program. A sticky bit does not help: others can create files.
pub(super) fn trusted() -> Result<(), Problem> {
    let here = Path::new(".");
    // Where this user may not search, no command finds a file.
    if access(here, Access::EXEC_OK) == Err(Errno::ACCESS) {
        return Ok(());
    }
    judged(here, file::caller())
}

fn judged(folder: &Path, caller: Option<u32>) -> Result<(), Problem> {
    let owned = |folder| {
        let folder = open::open(folder, OFlags::PATH | OFlags::DIRECTORY, caller)?;
        let metadata = folder.metadata();
        let metadata = metadata.map_err(|error| Problem::Unreadable(error.to_string()))?;
        file::only_owner_writes(&metadata, caller)
    };
    owned(folder).map_err(|why| {
        let path = std::env::current_dir().map(|current| current.join(folder));
        // Joining `.` leaves a dot at the end.
        let path: Option<PathBuf> = path.ok().map(|path| path.components().collect());
        // It may be deleted.
        let folder = path.map_or("it".to_owned(), |path| visible(path.as_os_str().as_bytes()));
        Problem::WorkingDirectory { folder, why: Box::new(why) }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    use rustix::process::geteuid;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("bwmon-folder-{}-{name}", std::process::id());
            let folder = Folder(std::env::temp_dir().join(name));
            fs::create_dir(&folder.0).unwrap();
            folder
        }

        fn problem(&self, caller: Option<u32>) -> Option<String> {
            judged(&self.0, caller).err().map(|problem| problem.to_string())
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn nobody_but_its_owner_creates_files_there() {
        let folder = Folder::new("modes");
        let owner = Some(fs::metadata(&folder.0).unwrap().uid());
        for (mode, is_trusted) in [
            (0o755, true),
            (0o700, true),
            (0o500, true),
            (0o1755, true),
            (0o777, false),
            (0o1777, false),
            (0o775, false),
            (0o2775, false),
            (0o757, false),
        ] {
            fs::set_permissions(&folder.0, fs::Permissions::from_mode(mode)).unwrap();
            let problem = folder.problem(owner);
            assert_eq!(problem.is_none(), is_trusted, "{mode:o}: {problem:?}");
            let said = format!(
                "{} can be written by others than its owner (mode {mode:04o}); expected",
                folder.0.display()
            );
            assert!(problem.is_none_or(|problem| problem.contains(&said)), "{mode:o}: {said}");
        }
    }

    #[test]
    fn it_belongs_to_root_or_to_the_one_who_runs_the_program() {
        assert_eq!(judged(Path::new("/"), Some(1234)), Ok(()));
        if !geteuid().is_root() {
            eprintln!("SKIPPED: only root can give a folder away");
            return;
        }
        let folder = Folder::new("owners");
        chown(&folder.0, Some(1234), Some(1234)).unwrap();
        assert_eq!(folder.problem(Some(1234)), None);
        for other in [None, Some(4321)] {
            let problem = folder.problem(other).unwrap();
            assert!(
                problem.contains("belongs to the user with number 1234; expected"),
                "{problem}"
            );
        }
    }
}
