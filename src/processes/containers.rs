//! The names of containers, from what their runtimes keep on disk. So no query to a runtime is needed.
//!
//! | runtime | file | name |
//! | --- | --- | --- |
//! | Docker | `/var/lib/docker/containers/ID/config.v2.json` | the key `Name`, without its slash |
//! | Podman, CRI-O | `containers.json` and `volatile-containers.json` of containers/storage | the first of `names` |
//! | Kubernetes | `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`, which the kubelet makes | `CONTAINER` |
//!
//! Only a container that root's runtime can have made is looked up: one in no user's cgroup and in no other
//! container. Users and containers can give their cgroups the id of any container, and can write anything into
//! files of their own. Their containers keep the id.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::label::{self, is_id, is_shown_id};
use super::of_root;
use crate::escape::is_plain;
use crate::model::traffic::Name;

/// Docker's containers, with its default data directory.
const DOCKER: &str = "var/lib/docker/containers";
/// Maximum bytes of a file of Docker about one container.
const DOCKER_MOST: usize = 1 << 20;

/// The containers of containers/storage, which Podman and CRI-O share.
const STORAGE: [&str; 2] = [
    "var/lib/containers/storage/overlay-containers/containers.json",
    "var/lib/containers/storage/overlay-containers/volatile-containers.json",
];
/// Maximum bytes of such a file.
const STORAGE_MOST: usize = 16 << 20;

/// Symbolic links to the logs of Kubernetes' containers.
const LOGS: &str = "var/log/containers";

/// Containers that are remembered, and entries that are read of a directory or a list: a host has some hundred.
const MOST: usize = 10_000;

/// Time for which a container that nothing on disk names is not searched again.
const AGAIN: Duration = Duration::from_secs(10);
/// Time for which a name is kept: a container can be renamed.
const KEPT: Duration = Duration::from_secs(60);
/// Minimum time between two readings of the lists of containers: a new id may come with each process.
const BETWEEN: Duration = Duration::from_secs(1);

/// The names of containers.
#[derive(Debug)]
pub(super) struct Containers {
    /// Where the host's files are: `/` except in tests.
    root: PathBuf,
    known: HashMap<Vec<u8>, Known>,
    /// The names that the lists have, by id.
    listed: HashMap<Vec<u8>, Name>,
    /// When the lists were read.
    read: Option<Instant>,
}

#[derive(Debug)]
struct Known {
    name: Option<Name>,
    /// When it was searched.
    searched: Instant,
}

impl Default for Containers {
    fn default() -> Containers {
        Containers::of_root(PathBuf::from("/"))
    }
}

impl Containers {
    fn of_root(root: PathBuf) -> Containers {
        Containers { root, known: HashMap::new(), listed: HashMap::new(), read: None }
    }

    /// The container of a process with this `/proc/PID/cgroup`; see [`label::container`].
    pub(super) fn of(&mut self, cgroup: &[u8], now: Instant) -> Option<Vec<u8>> {
        label::container(cgroup, |id| self.name(id, now))
    }

    /// The name of the container with this id of 64 digits.
    fn name(&mut self, id: &[u8], now: Instant) -> Option<Name> {
        let known = self.known.get(id);
        if let Some(Known { name, searched }) = known {
            let time = if name.is_some() { KEPT } else { AGAIN };
            if now.saturating_duration_since(*searched) < time {
                return name.clone();
            }
        }
        // A process may outlive what the disk says of its container.
        let before = known.and_then(|known| known.name.clone());
        let mut found = self.docker(id);
        if found.is_none() {
            let is_read = |read| now.saturating_duration_since(read) < BETWEEN;
            let is_read = self.read.is_some_and(is_read);
            if !is_read {
                self.read = Some(now);
                self.listed = self.lists();
            }
            found = self.listed.get(id).cloned();
            if found.is_none() && is_read {
                return before;
            }
        }
        let name = found.or(before);
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(id.to_vec(), Known { name: name.clone(), searched: now });
        name
    }

    fn docker(&self, id: &[u8]) -> Option<Name> {
        let directory = self.root.join(DOCKER).join(OsStr::from_bytes(id));
        of_docker(&of_root::file(&directory.join("config.v2.json"), DOCKER_MOST)?)
    }

    fn lists(&self) -> HashMap<Vec<u8>, Name> {
        let read = |path: &str| of_root::file(&self.root.join(Path::new(path)), STORAGE_MOST);
        let stored = STORAGE.into_iter().filter_map(read).flat_map(|list| of_storage(&list));
        let logs = of_root::names(&self.root.join(LOGS), MOST);
        let logged = logs.iter().filter_map(|log| of_log(log));
        stored.chain(logged).collect()
    }
}

/// The name in Docker's file about a container, which has a slash in front.
fn of_docker(json: &[u8]) -> Option<Name> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(rename = "Name")]
        name: String,
    }
    let Config { name } = serde_json::from_slice(json).ok()?;
    checked(name.strip_prefix('/').unwrap_or(&name).as_bytes())
}

/// The ids and names in a list of containers/storage.
fn of_storage(json: &[u8]) -> Vec<(Vec<u8>, Name)> {
    #[derive(Deserialize)]
    struct Container {
        id: String,
        names: Option<Vec<String>>,
    }
    let containers: Vec<Container> = serde_json::from_slice(json).unwrap_or_default();
    let named = |container: Container| {
        let name = checked(container.names?.first()?.as_bytes())?;
        is_id(container.id.as_bytes()).then_some((container.id.into_bytes(), name))
    };
    containers.into_iter().filter_map(named).take(MOST).collect()
}

/// The id and the name of a container of Kubernetes, from `POD_NAMESPACE_CONTAINER-ID.log`.
fn of_log(name: &[u8]) -> Option<(Vec<u8>, Name)> {
    let stem = name.strip_suffix(b".log")?;
    let hyphen = stem.iter().rposition(|byte| *byte == b'-')?;
    let (rest, id) = (&stem[..hyphen], &stem[hyphen + 1..]);
    // Names of Kubernetes have no underscores.
    let container = rest.splitn(3, |byte| *byte == b'_').nth(2)?;
    is_id(id).then_some((id.to_vec(), checked(container)?))
}

/// The name of a container, or the name that Kubernetes gives it where the runtime's name is
/// `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`.
///
/// `None` if it has other characters than a runtime allows, such as the slash after a user or an outer container,
/// or could be taken for the id of another container.
fn checked(name: &[u8]) -> Option<Name> {
    let mut parts = name.split(|byte| *byte == b'_');
    let is_of_kubernetes = parts.clone().count() >= 6 && parts.next() == Some(b"k8s");
    let name = parts.next().filter(|_| is_of_kubernetes).unwrap_or(name);
    let is_name = name.first().is_some_and(u8::is_ascii_alphanumeric)
        && is_plain(name)
        && !is_shown_id(name)
        && !is_id(name);
    is_name.then(|| name.into())
}

#[cfg(test)]
mod tests;
