//! Finds the cgroup hierarchy that has all processes.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The inode of the initial cgroup namespace (`PROC_CGROUP_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_NAMESPACE: &str = "cgroup:[4026531835]";

/// The mount point of the whole cgroup v2 hierarchy, from the text of `/proc/PID/mountinfo`
/// (proc_pid_mountinfo(5)).
fn mounted(mountinfo: &[u8]) -> Option<PathBuf> {
    mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        // Optional fields end with a hyphen.
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        let whole = root == b"/" && kind == b"cgroup2";
        whole.then(|| PathBuf::from(std::ffi::OsStr::from_bytes(&unescaped(point))))
    })
}

/// A path with its octal escapes (`\040` for a space) resolved.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = || {
            let digits = std::str::from_utf8(tail.get(..3)?).ok()?;
            u8::from_str_radix(digits, 8).ok()
        };
        match (*first == b'\\').then(octal).flatten() {
            Some(byte) => {
                path.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                path.push(*first);
                rest = tail;
            }
        }
    }
    path
}

/// Why the hierarchy is not mounted here. `ip netns exec` gives a command its own mounts, with a
/// new `/sys` that hides it.
fn missing(proc: &Path) -> String {
    let first = std::fs::read(proc.join("1/mountinfo"));
    if first.is_ok_and(|mounts| mounted(&mounts).is_some()) {
        return "cgroup v2 is hidden among the mounts of this shell, as `ip netns exec` does it \
                (enter with: nsenter --net=/run/netns/NAME)"
            .to_owned();
    }
    "cgroup v2 is not mounted (mount it: mount -t cgroup2 none /sys/fs/cgroup)".to_owned()
}

/// Opens the root of the cgroup v2 hierarchy.
///
/// # Errors
/// A clause that says why no hierarchy with every process of the host can be opened.
pub(super) fn root(proc: &Path) -> Result<File, String> {
    let namespace = std::fs::read_link(proc.join("self/ns/cgroup"));
    if namespace.is_ok_and(|namespace| namespace.as_os_str() != INITIAL_NAMESPACE) {
        return Err(
            "this is not the host's cgroup namespace, and other processes are out of reach \
                    (for a container: --cgroupns=host)"
                .to_owned(),
        );
    }
    let mounts = proc.join("self/mountinfo");
    let listed = std::fs::read(&mounts);
    let listed = listed.map_err(|error| format!("{}: {error}", mounts.display()))?;
    let point = mounted(&listed).ok_or_else(|| missing(proc))?;
    let opened = File::open(&point).and_then(|root| {
        let is_directory = root.metadata()?.is_dir();
        if is_directory { Ok(root) } else { Err(io::ErrorKind::NotADirectory.into()) }
    });
    opened.map_err(|error| format!("{}: {error}", point.display()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_whole_hierarchy_is_found_wherever_it_is_mounted() {
        let text = b"24 1 0:22 / /proc rw,nosuid - proc proc rw\n\
            41 31 0:38 /a /sys/fs/part rw shared:9 - cgroup2 cgroup2 rw\n\
            42 31 0:38 / /sys/fs/my\\040cgroup rw shared:9 master:1 - cgroup2 cgroup2 rw\n\
            43 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(mounted(text), Some(PathBuf::from("/sys/fs/my cgroup")));
        assert_eq!(mounted(b"30 1 0:26 / /sys/fs/cgroup rw - cgroup cgroup rw,cpu\n"), None);
        assert_eq!(mounted(b""), None);
    }

    #[test]
    fn it_is_told_whether_it_is_hidden_or_not_mounted() {
        const WITHOUT: &str = "24 1 0:22 / /proc rw,nosuid - proc proc rw\n";
        const WITH: &str = "43 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let proc = std::env::temp_dir().join(format!("bwmon-cgroup-{}", std::process::id()));
        for process in ["self", "1"] {
            std::fs::create_dir_all(proc.join(process)).unwrap();
        }
        let why = |of_first| {
            std::fs::write(proc.join("self/mountinfo"), WITHOUT).unwrap();
            std::fs::write(proc.join("1/mountinfo"), of_first).unwrap();
            root(&proc).unwrap_err()
        };
        let (hidden, missing) = (why(WITH), why(WITHOUT));
        std::fs::remove_dir_all(&proc).unwrap();
        assert!(hidden.contains("nsenter --net=") && !hidden.contains("mount it"), "{hidden}");
        assert!(missing.contains("not mounted (mount it: "), "{missing}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (mounted(&text), unescaped(&text));
        }
    }
}
