//! Reads what processes can be grouped by.

use std::time::Instant;

use super::containers::Containers;
use super::descriptors::Proc;
use super::label::{Users, unit};
use super::pods::{self, Pods};
use crate::model::Attributes;
use crate::model::traffic::Name;

/// The names of users, containers and pods.
#[derive(Debug, Default)]
pub(super) struct AttributeReader {
    pub(super) users: Users,
    pub(super) containers: Containers,
    pods: Pods,
}

impl AttributeReader {
    /// Reads the attributes of a process with this effective user, except for its program, which is in its command
    /// line.
    pub(super) fn read(&mut self, proc: &Proc, pid: u32, uid: Option<u32>) -> Attributes {
        let cgroup = proc.cgroup(pid).unwrap_or_default();
        let now = Instant::now();
        Attributes {
            program: None,
            exe: proc.exe(pid).map(Name::from),
            user: uid.map(|uid| self.users.name(uid).into()),
            unit: unit(&cgroup).map(Name::from),
            container: self.containers.of(&cgroup, now).map(Name::from),
            pod: pods::uid(&cgroup).map(|uid| self.pods.name(uid, now)),
        }
    }
}
