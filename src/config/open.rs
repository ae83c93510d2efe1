//! Opens a file for root, by a path that only root or the user who called sudo has chosen.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, openat, readlinkat,
};
use rustix::io::Errno;

use super::error::Problem;

/// Maximum number of symbolic links in one path, as in the kernel.
const MOST_LINKS: u32 = 40;

/// `FUSE_SUPER_MAGIC` of linux/magic.h: the type of a FUSE file system, and of virtiofs.
const FUSE_SUPER_MAGIC: u32 = 0x6573_5546;

/// Opens `path`, and follows only symbolic links that belong to root or to `caller`: the link of another user
/// could lead to a file of root, and so hide who has chosen its content. Refuses files of procfs: many belong
/// to root and show what any user has written, such as the command line of a setuid program. Refuses files and
/// links of a FUSE file system that neither of the two has mounted: its server makes up the owners of its
/// files.
///
/// Each component is opened by itself, so that nobody can exchange it between check and use.
pub(super) fn open(path: &Path, flags: OFlags, caller: Option<u32>) -> Result<File, Problem> {
    let flags = flags | OFlags::CLOEXEC;
    let mut left = components(path);
    if left.is_empty() {
        return Err(unreadable(Errno::NOENT));
    }
    let mut folder = at(CWD, OsStr::new("."), OFlags::PATH)?;
    let mut links = 0;
    while let Some(name) = left.pop() {
        let entry = at(folder.as_fd(), &name, OFlags::PATH | OFlags::NOFOLLOW)?;
        let status = fstat(&entry).map_err(unreadable)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::Symlink {
            if left.is_empty() {
                return finished(at(folder.as_fd(), &name, flags | OFlags::NOFOLLOW)?, caller);
            }
            folder = entry;
            continue;
        }
        if status.st_uid != 0 && Some(status.st_uid) != caller {
            return Err(Problem::ForeignLink(status.st_uid));
        }
        mounted_by(&entry, caller)?;
        links += 1;
        if links > MOST_LINKS {
            return Err(unreadable(Errno::LOOP));
        }
        if !is_of_procfs(&entry)? {
            let target = readlinkat(&entry, "", Vec::new()).map_err(unreadable)?;
            left.extend(components(&PathBuf::from(OsString::from_vec(target.into_bytes()))));
        } else if left.is_empty() {
            // `/dev/fd/3` leads to a pipe without a path: only the kernel can follow it.
            return finished(at(folder.as_fd(), &name, flags)?, caller);
        } else {
            folder = at(folder.as_fd(), &name, OFlags::PATH)?;
        }
    }
    finished(at(folder.as_fd(), OsStr::new("."), flags)?, caller)
}

/// The components of a path, in reverse order.
fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().map(Component::as_os_str).rev();
    names.map(OsStr::to_owned).collect()
}

fn at(folder: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Problem> {
    openat(folder, name, flags | OFlags::CLOEXEC, Mode::empty()).map_err(unreadable)
}

fn finished(file: OwnedFd, caller: Option<u32>) -> Result<File, Problem> {
    if is_of_procfs(&file)? {
        return Err(Problem::OfProc);
    }
    mounted_by(&file, caller)?;
    Ok(File::from(file))
}

fn is_of_procfs(file: &OwnedFd) -> Result<bool, Problem> {
    Ok(fstatfs(file).map_err(unreadable)?.f_type == PROC_SUPER_MAGIC)
}

/// Checks that a file is on no FUSE file system, or on one that root or `caller` has mounted.
fn mounted_by(file: &OwnedFd, caller: Option<u32>) -> Result<(), Problem> {
    // The type has different widths and signs on different machines.
    let kind = u64::try_from(fstatfs(file).map_err(unreadable)?.f_type);
    if kind != Ok(u64::from(FUSE_SUPER_MAGIC)) {
        return Ok(());
    }
    let of = |path: String| fs::read(path).unwrap_or_default();
    let descriptor = of(format!("/proc/self/fdinfo/{}", file.as_raw_fd()));
    match fuse_user(&descriptor, &of("/proc/self/mountinfo".to_owned())) {
        Some(user) if user == 0 || Some(user) == caller => Ok(()),
        user => Err(Problem::OfFuse(user)),
    }
}

/// The user who has mounted the FUSE file system of a descriptor, from `/proc/PID/fdinfo/FD`
/// (proc_pid_fdinfo(5)) and `/proc/PID/mountinfo`. Root for virtiofs, which only root mounts.
fn fuse_user(fdinfo: &[u8], mountinfo: &[u8]) -> Option<u32> {
    let lines = |text| <[u8]>::split(text, |byte| *byte == b'\n');
    let mount = lines(fdinfo).find_map(|line| line.strip_prefix(b"mnt_id:"))?.trim_ascii();
    // ID ... - TYPE SOURCE OPTIONS; blanks in paths are escaped.
    let line = lines(mountinfo)
        .find(|line| line.strip_prefix(mount).is_some_and(|rest| rest.first() == Some(&b' ')))?;
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let separator = words.iter().position(|word| *word == b"-")?;
    let [kind, _, options] = *words.get(separator + 1..)? else { return None };
    if kind == b"virtiofs" {
        return Some(0);
    }
    let user =
        options.split(|byte| *byte == b',').find_map(|word| word.strip_prefix(b"user_id="))?;
    std::str::from_utf8(user).ok()?.parse().ok()
}

fn unreadable(errno: Errno) -> Problem {
    Problem::Unreadable(std::io::Error::from(errno).to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::{lchown, symlink};

    use rustix::process::geteuid;

    use super::*;

    /// A folder of its own, with the file `config` in its folder `inner`.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("bwmon-open-{}-{name}", std::process::id());
            let folder = Folder(std::env::temp_dir().join(name));
            fs::create_dir_all(folder.0.join("inner")).unwrap();
            fs::write(folder.0.join("inner/config"), "[a]\n").unwrap();
            folder
        }

        fn link(&self, name: &str, target: impl AsRef<Path>, owner: Option<u32>) -> PathBuf {
            let link = self.0.join(name);
            symlink(target, &link).unwrap();
            lchown(&link, owner, None).unwrap();
            link
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn lines(path: &Path, caller: Option<u32>) -> Result<String, Problem> {
        let mut lines = String::new();
        open(path, OFlags::RDONLY, caller)?.read_to_string(&mut lines).unwrap();
        Ok(lines)
    }

    fn own() -> Option<u32> {
        Some(geteuid().as_raw())
    }

    #[test]
    fn the_path_is_that_of_the_kernel() {
        let folder = Folder::new("path");
        let expected = Ok("[a]\n".to_owned());
        folder.link("relative", "inner/../inner/./config", None);
        folder.link("absolute", folder.0.join("relative"), None);
        folder.link("folder", "inner", None);
        for name in
            ["inner/config", "inner/../inner//config", "relative", "absolute", "folder/config"]
        {
            assert_eq!(lines(&folder.0.join(name), own()), expected, "{name}");
        }
        assert_eq!(
            lines(Path::new("src/../Cargo.toml"), own()).ok(),
            fs::read_to_string("Cargo.toml").ok()
        );
        folder.link("ring", "ring", None);
        for name in ["ring", "ring/config", "missing", "inner/config/below", ""] {
            let path = if name.is_empty() { PathBuf::new() } else { folder.0.join(name) };
            let error = fs::read(&path).unwrap_err().to_string();
            let found = lines(&path, own());
            assert_eq!(found, Err(Problem::Unreadable(error)), "{name}");
        }
    }

    #[test]
    fn a_link_belongs_to_root_or_to_the_caller_of_sudo() {
        if !geteuid().is_root() {
            eprintln!("SKIPPED: only root can give a link away");
            return;
        }
        let folder = Folder::new("links");
        let expected = Ok("[a]\n".to_owned());
        let of_root = folder.link("root", "inner/config", None);
        assert_eq!(lines(&of_root, None), expected);
        let foreign = folder.link("foreign", "inner/config", Some(1234));
        folder.link("through", "foreign", None);
        folder.link("folder", "inner", Some(1234));
        for path in [foreign, folder.0.join("through"), folder.0.join("folder/config")] {
            assert_eq!(lines(&path, Some(1234)), expected, "{path:?}");
            for caller in [None, Some(4321)] {
                assert_eq!(lines(&path, caller), Err(Problem::ForeignLink(1234)), "{path:?}");
            }
        }
    }

    #[test]
    fn procfs_shows_lines_that_anybody_has_chosen() {
        let folder = Folder::new("proc");
        let link = folder.link("link", "/proc/self/cmdline", None);
        let own_number = format!("/proc/{}/cmdline", std::process::id());
        for path in [&link, Path::new("/proc/self/cmdline"), Path::new(&own_number)] {
            assert_eq!(lines(path, own()), Err(Problem::OfProc), "{path:?}");
        }
    }

    /// From a host with file systems that root and a user have mounted, and a virtual machine's.
    #[test]
    fn who_has_mounted_a_fuse_file_system() {
        let mountinfo = b"36 25 0:31 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n\
            361 29 0:52 / /home/a/my\\040mount rw,nosuid,nodev shared:2 - fuse.sshfs a@host:/ \
            rw,user_id=1000,group_id=1000,allow_other\n\
            362 29 0:53 / /mnt/disk rw - fuseblk /dev/sdb1 rw,user_id=0,group_id=0\n\
            363 29 0:54 / /mnt/host rw - virtiofs host rw\n\
            364 29 0:55 / /odd rw - fuse odd rw,user_id=-1\n\
            365 29 0:55 / /short rw - fuse\n";
        for (id, user) in [
            ("361", Some(1000)),
            ("362", Some(0)),
            ("363", Some(0)),
            ("364", None),
            ("365", None),
            ("6", None),
            ("36", None),
        ] {
            let fdinfo = format!("pos:\t0\nflags:\t0100000\nmnt_id:\t{id}\nino:\t7\n");
            assert_eq!(fuse_user(fdinfo.as_bytes(), mountinfo), user, "{id}");
        }
        assert_eq!(fuse_user(b"pos:\t0\n", mountinfo), None);
    }

    #[test]
    fn descriptors_that_were_handed_on_are_read() {
        let folder = Folder::new("fd");
        let file = File::open(folder.0.join("inner/config")).unwrap();
        for prefix in ["/dev/fd", "/proc/self/fd", "/proc/thread-self/fd"] {
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            rustix::io::write(&writer, b"[b]\n").unwrap();
            drop(writer);
            let of = |fd: i32| PathBuf::from(format!("{prefix}/{fd}"));
            assert_eq!(lines(&of(reader.as_raw_fd()), own()), Ok("[b]\n".to_owned()), "{prefix}");
            assert_eq!(lines(&of(file.as_raw_fd()), own()), Ok("[a]\n".to_owned()), "{prefix}");
        }
    }
}
