//! Kubernetes pods: the pod of a process, and its name.
//!
//! The kubelet makes a cgroup for each pod, also for one in the host's network namespace, with the pod's UID in its
//! name. In `/var/log/pods` it makes a directory `NAMESPACE_NAME_UID` for each pod that has logs. So no query to the
//! container runtime or the API server is needed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::label::{container_part, paths, user_of};
use super::of_root;
use crate::model::traffic::Name;

/// The directory of the kubelet's logs of pods.
const LOGS: &str = "/var/log/pods";

/// Time for which a pod that the directory did not have is not searched again.
const AGAIN: Duration = Duration::from_secs(10);

/// Number of names that are read of the directory: a host has some hundred pods.
const MOST: usize = 10_000;

/// The UID in the name of a pod's cgroup: `podUID`, or as a slice of systemd `kubepods-burstable-podUID.slice` with
/// underscores for hyphens. The UID of a static pod is the hash of its file, which has only hexadecimal digits.
fn uid_in(part: &[u8]) -> Option<Vec<u8>> {
    let uid = match part.strip_suffix(b".slice") {
        Some(slice) => {
            let at = slice.windows(4).rposition(|at| at == b"-pod")?;
            slice[at + 4..].iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect()
        }
        None => part.strip_prefix(b"pod")?.to_vec(),
    };
    let is_uid = |(at, byte): (usize, &u8)| match (uid.len(), at) {
        (36, 8 | 13 | 18 | 23) => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    (matches!(uid.len(), 32 | 36) && uid.iter().enumerate().all(is_uid)).then_some(uid)
}

/// The UID of the pod of a process with this `/proc/PID/cgroup`. Only the kubelet's own cgroups apply: users and
/// containers can make others below theirs.
pub(super) fn uid(cgroup: &[u8]) -> Option<Vec<u8>> {
    paths(cgroup).find_map(|path| {
        let (mut is_kubelets, mut before) = (false, None);
        for part in path.split(|byte| *byte == b'/') {
            is_kubelets |= part.windows(8).any(|at| at == b"kubepods");
            if is_kubelets && let Some(uid) = uid_in(part) {
                return Some(uid);
            }
            // Cgroups below are made by others. A node may be a container itself, with the
            // kubelet's cgroups below.
            if user_of(part).is_some() || is_kubelets && container_part(part, before).is_some() {
                return None;
            }
            before = Some(part);
        }
        None
    })
}

/// The names of pods.
#[derive(Debug)]
pub(super) struct Pods {
    logs: PathBuf,
    names: HashMap<Vec<u8>, Name>,
    read: Option<Instant>,
}

impl Default for Pods {
    fn default() -> Pods {
        Pods { logs: PathBuf::from(LOGS), names: HashMap::new(), read: None }
    }
}

impl Pods {
    /// `NAMESPACE/NAME` of a pod, or its UID if it has no logs.
    pub(super) fn name(&mut self, uid: Vec<u8>, now: Instant) -> Name {
        let is_due = self.read.is_none_or(|read| now.saturating_duration_since(read) >= AGAIN);
        if !self.names.contains_key(&uid) && is_due {
            self.read = Some(now);
            self.read_all();
        }
        self.names.get(&uid).cloned().unwrap_or_else(|| uid.into())
    }

    fn read_all(&mut self) {
        self.names.clear();
        for name in of_root::names(&self.logs, MOST) {
            let mut parts = name.splitn(3, |byte| *byte == b'_');
            if let (Some(namespace), Some(name), Some(uid)) =
                (parts.next(), parts.next(), parts.next())
            {
                self.names.insert(uid.to_vec(), [namespace, b"/", name].concat().into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const UID: &str = "0b3a2c1d-4e5f-6789-abcd-ef0123456789";
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_pod_is_in_the_path_of_the_cgroup() {
        let slice = UID.replace('-', "_");
        let hash = "0123456789abcdef0123456789abcdef";
        for (path, expected) in [
            // The kubelet's own driver, and systemd's; version 1 has a hierarchy for each controller.
            (format!("0::/kubepods/burstable/pod{UID}/{ID}"), Some(UID)),
            (format!("0::/kubepods/pod{UID}/{ID}"), Some(UID)),
            (
                format!(
                    "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{slice}.slice/cri-containerd-{ID}.scope"
                ),
                Some(UID),
            ),
            (
                format!(
                    "11:memory:/kubepods/besteffort/pod{UID}/{ID}\n1:name=systemd:/kubepods/besteffort/pod{UID}/{ID}"
                ),
                Some(UID),
            ),
            (
                format!("0::/kubepods.slice/kubepods-pod{slice}.slice/crio-{ID}.scope/container"),
                Some(UID),
            ),
            // A node that is a container itself.
            (
                format!(
                    "0::/system.slice/docker-{ID}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slice}.slice/cri-containerd-{ID}.scope"
                ),
                Some(UID),
            ),
            // A static pod.
            (format!("0::/kubepods/burstable/pod{hash}/{ID}"), Some(hash)),
            // Nobody's, and what others have made.
            (format!("0::/system.slice/docker-{ID}.scope"), None),
            (
                format!("0::/user.slice/user-1000.slice/user@1000.service/kubepods/pod{UID}/{ID}"),
                None,
            ),
            (format!("0::/kubepods/pod-of-peas/{ID}/kubepods/pod{UID}"), None),
            (format!("0::/pod{UID}"), None),
            ("0::/kubepods/podcast".to_owned(), None),
            (String::new(), None),
        ] {
            let uid = uid(path.as_bytes()).map(|uid| String::from_utf8(uid).unwrap());
            assert_eq!(uid.as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn the_directory_of_logs_has_the_names() {
        let logs = std::env::temp_dir().join(format!("bwmon-pods-{}", std::process::id()));
        fs::create_dir_all(logs.join(format!("kube-system_coredns-abc_{UID}/coredns"))).unwrap();
        fs::set_permissions(&logs, Permissions::from_mode(0o755)).unwrap();
        let mut pods = Pods { logs: logs.clone(), ..Pods::default() };
        let now = Instant::now();
        assert_eq!(&*pods.name(UID.into(), now), b"kube-system/coredns-abc");
        fs::create_dir(logs.join("default_web_another")).unwrap();
        // It is asked again a while later.
        assert_eq!(&*pods.name(b"another".to_vec(), now), b"another");
        assert_eq!(&*pods.name(b"another".to_vec(), now + AGAIN), b"default/web");
        assert_eq!(&*pods.name(UID.into(), now + AGAIN), b"kube-system/coredns-abc");
        fs::remove_dir_all(&logs).unwrap();
        // Where there are no pods there is none.
        assert_eq!(&*Pods { logs, ..Pods::default() }.name(UID.into(), now), UID.as_bytes());
    }
}
