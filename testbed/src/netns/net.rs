//! The namespaces of one test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use super::turn::{Gate, Turn};
use super::{FAR4, Namespace, PEER_MAC, PEER4, PEER6, WATCHED_MAC, WATCHED4, WATCHED6};
use crate::command::output;
use crate::leftovers::PREFIX;
use crate::programs::WORKLOAD;
use crate::requirements::namespaces_are_possible;

/// What a test wants of its namespaces.
#[derive(Clone, Copy)]
pub struct Setup {
    /// A rule in `watched` that turns connection tracking on.
    pub tracking: bool,
    /// `nf_conntrack_acct` in `watched`.
    pub accounting: bool,
    /// The third namespace.
    pub routed: bool,
    /// No other test's namespaces meanwhile, also not of other test processes.
    pub alone: bool,
}

impl Setup {
    /// Tracking and accounting.
    const PLAIN: Setup = Setup { tracking: true, accounting: true, routed: false, alone: false };
}

/// The namespaces of one test, and a directory that every user may read.
pub struct Net {
    pub watched: Namespace,
    pub peer: Namespace,
    pub far: Option<Namespace>,
    pub dir: PathBuf,
    /// A number that no other `Net` of this test process has.
    pub number: u32,
    _turn: Option<Turn>,
}

impl Net {
    /// `watched` and `peer`, with tracking and accounting; `None` where that can't be had.
    pub fn new() -> Option<Net> {
        Net::with(Setup::PLAIN)
    }

    /// With `far` behind `watched`.
    pub fn routed() -> Option<Net> {
        Net::with(Setup { routed: true, ..Setup::PLAIN })
    }

    /// As `new`, while no other test on this host has any.
    pub fn alone() -> Option<Net> {
        Net::with(Setup { alone: true, ..Setup::PLAIN })
    }

    pub fn with(setup: Setup) -> Option<Net> {
        namespaces_are_possible().then(|| Net::made(setup, Some(Gate::take(setup.alone).pass())))
    }

    /// As `new`, also while another test is alone: nothing happens there before a [`Turn`] is taken.
    pub(crate) fn still() -> Option<Net> {
        namespaces_are_possible().then(|| Net::made(Setup::PLAIN, None))
    }

    fn made(setup: Setup, turn: Option<Turn>) -> Net {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("{PREFIX}-{}-{number}", process::id());
        let dir = std::env::temp_dir().join(&id);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        WORKLOAD.put(&dir);

        let net = Net {
            watched: Namespace::new(format!("{id}-watched")),
            peer: Namespace::new(format!("{id}-peer")),
            far: setup.routed.then(|| Namespace::new(format!("{id}-far"))),
            dir,
            number,
            _turn: turn,
        };
        net.join(&net.peer, "peer");
        net.watched.address("peer", &format!("{WATCHED4}/24"));
        net.peer.address("watched", &format!("{PEER4}/24"));
        if let Some(far) = &net.far {
            net.join(far, "far");
            net.watched.address("far", "10.77.1.1/24");
            far.address("watched", &format!("{FAR4}/24"));
            far.run("ip route add default via 10.77.1.1");
            net.peer.run(&format!("ip route add default via {WATCHED4}"));
            net.watched.set_sysctl("net.ipv4.ip_forward", 1);
        } else {
            net.watched.address("peer", &format!("{WATCHED6}/64"));
            net.peer.address("watched", &format!("{PEER6}/64"));
            // Nobody has to ask where the other one is.
            let [of_peer, of_watched] = [PEER_MAC, WATCHED_MAC].map(link_local);
            for (namespace, address, at, link) in [
                (&net.watched, PEER6, PEER_MAC, "peer"),
                (&net.watched, &of_peer, PEER_MAC, "peer"),
                (&net.peer, WATCHED6, WATCHED_MAC, "watched"),
                (&net.peer, &of_watched, WATCHED_MAC, "watched"),
            ] {
                let neighbour = format!("{address} lladdr {at} dev {link} nud permanent");
                namespace.run(&format!("ip -6 neigh replace {neighbour}"));
            }
        }
        net.watched.set_sysctl("net.netfilter.nf_conntrack_acct", u8::from(setup.accounting));
        if setup.tracking {
            net.watched.track();
        }
        net
    }

    /// A pair of links: `link` in `watched`, and `watched` in the other.
    pub fn join(&self, other: &Namespace, link: &str) {
        // Made at both ends at once: a name of its own in the host's namespace might be taken. The
        // addresses are given because of programs beside which ours is measured: one of them takes a
        // frame to an address that begins with a 4 or a 6 for an IP packet.
        let ends = [(link, &self.watched.name), ("watched", &other.name)];
        let [here, there] = ends.map(|(link, namespace)| ["name", link, "netns", namespace]);
        output(
            Command::new("ip")
                .args(["link", "add", "address", WATCHED_MAC])
                .args(here)
                .args(["type", "veth", "peer", "address", PEER_MAC])
                .args(there),
        );
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The link-local address that a kernel makes of a device's own (RFC 4291, appendix A).
fn link_local(mac: &str) -> String {
    let mut bytes: Vec<u8> =
        mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes[0] ^= 2;
    let words = [[bytes[0], bytes[1]], [bytes[2], 0xff], [0xfe, bytes[3]], [bytes[4], bytes[5]]];
    let words = words.map(|word| format!("{:x}", u16::from_be_bytes(word)));
    format!("fe80::{}", words.join(":"))
}
