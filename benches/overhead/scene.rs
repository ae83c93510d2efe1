//! Where a load is: one namespace, or two with a link between them.

use std::net::Ipv4Addr;
use std::path::Path;

use testbed::bench::joined::{Joined, THERE};
use testbed::bench::server::client;
use testbed::netns::Namespace;

/// More than there are ports, and so connections from one address to another.
const ENTRIES: usize = 70_000;

/// A connection for each request leaves two that linger for a minute: there must be ports for the next
/// ones, and the table must not overflow, or a connection's end would cost less as soon as it does.
const SETTINGS: [(&str, &str); 3] = [
    ("net.ipv4.ip_local_port_range", "10000 65535"),
    ("net.ipv4.tcp_tw_reuse", "1"),
    ("net.ipv4.tcp_max_tw_buckets", "262144"),
];

/// What is between the two ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Veth,
    Loopback,
}

/// The namespaces of one load.
pub(crate) struct Scene {
    joined: Joined,
    place: Place,
}

impl Scene {
    pub(crate) fn new(place: Place) -> anyhow::Result<Scene> {
        let joined = Joined::new(ENTRIES)?;
        for namespace in [&joined.here, &joined.there] {
            SETTINGS.iter().for_each(|(key, value)| namespace.set_sysctl(key, value));
        }
        Ok(Scene { joined, place })
    }

    /// The clients' namespace.
    pub(crate) fn watched(&self) -> &Namespace {
        &self.joined.here
    }

    /// The servers' namespace.
    pub(crate) fn server(&self) -> &Namespace {
        match self.place {
            Place::Veth => &self.joined.there,
            Place::Loopback => &self.joined.here,
        }
    }

    /// Where clients find servers.
    pub(crate) fn address(&self) -> Ipv4Addr {
        match self.place {
            Place::Veth => THERE,
            Place::Loopback => Ipv4Addr::LOCALHOST,
        }
    }

    /// What a client prints.
    pub(crate) fn client(
        &self,
        command: &str,
        more: &[&str],
        seconds: u64,
    ) -> anyhow::Result<String> {
        client(Some(self.watched()), command, more, seconds)
    }
}

/// For the files of servers.
pub(crate) fn directory() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}
