//! The remote ends of bytes that were counted socket by socket.
//!
//! A socket's bytes and those of its remote ends are read one after the other, and its bytes may wait for an owner. So
//! each remote end keeps the bytes that were not handed on yet. What a socket has and none of its remote ends is handed
//! on without one.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::ebpf::{Bytes, RemoteBytes};
use crate::model::Remote;
use crate::model::traffic::Traffic;

/// Observations for which bytes wait for an owner that can be named.
const PATIENCE: u32 = 16;

/// Maximum number of remote ends that wait: those of one reading, and as many that have waited before.
const MOST: usize = 1 << 17;

/// Bytes of a remote end that were not handed on yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    remote: Remote,
    local: bool,
    all: Traffic,
    /// The part of them that was counted since the last observation.
    new: Traffic,
    /// The observation that brought it.
    seen: u32,
}

/// A part of a socket's bytes, with its remote end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) remote: Option<Remote>,
    pub(super) traffic: Traffic,
    pub(super) recent: Traffic,
}

/// The remote ends of all sockets, by their cookies.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Remotes {
    sockets: HashMap<u64, Vec<Waiting>, RandomState>,
    count: usize,
}

impl Remotes {
    /// Adds new bytes of a remote end.
    pub(super) fn add(&mut self, bytes: &RemoteBytes, observation: u32) {
        let RemoteBytes { cookie, remote, local, new } = *bytes;
        let waiting = self.sockets.entry(cookie).or_default();
        match waiting.iter_mut().find(|of| of.remote == remote && of.local == local) {
            Some(known) => {
                let before = if known.seen == observation { known.new } else { Traffic::ZERO };
                *known = Waiting {
                    all: known.all + new,
                    new: before + new,
                    seen: observation,
                    ..*known
                };
            }
            None if self.count < MOST => {
                self.count += 1;
                waiting.push(Waiting { remote, local, all: new, new, seen: observation });
            }
            None => {}
        }
    }

    /// Splits bytes of a socket that are handed on now, those of one place: on the loopback device (`local`) or not.
    /// `recent` is the part of `traffic` that was counted since the last observation.
    pub(super) fn split(
        &mut self,
        cookie: u64,
        local: bool,
        traffic: Traffic,
        recent: Traffic,
        observation: u32,
        mut each: impl FnMut(Split),
    ) {
        let mut rest = Split { remote: None, traffic, recent };
        let mut splits = Vec::new();
        if let Some(waiting) = self.sockets.get_mut(&cookie) {
            for of in waiting.iter_mut().filter(|of| of.local == local) {
                let new = if of.seen == observation { of.new } else { Traffic::ZERO };
                let traffic = least(of.all, rest.traffic);
                let recent = least(least(new, traffic), rest.recent);
                of.all -= traffic;
                of.new -= recent;
                rest.traffic -= traffic;
                rest.recent -= recent;
                splits.push(Split { remote: Some(of.remote), traffic, recent });
            }
            let before = waiting.len();
            waiting.retain(|of| !of.all.is_zero());
            self.count -= before - waiting.len();
            if waiting.is_empty() {
                self.sockets.remove(&cookie);
            }
        }
        // No part can have more recent bytes than bytes.
        let mut excess = rest.recent - rest.traffic;
        rest.recent -= excess;
        for split in &mut splits {
            let more = least(excess, split.traffic - split.recent);
            split.recent += more;
            excess -= more;
        }
        splits
            .into_iter()
            .chain([rest])
            .filter(|split| !split.traffic.is_zero())
            .for_each(&mut each);
    }

    /// Forgets what waits for a socket.
    pub(super) fn forget(&mut self, cookie: u64) {
        self.count -= self.sockets.remove(&cookie).map_or(0, |waiting| waiting.len());
    }

    /// Forgets what has waited for long.
    pub(super) fn end(&mut self, observation: u32) {
        let mut count = 0;
        self.sockets.retain(|_, waiting| {
            waiting.retain(|of| observation - of.seen < PATIENCE);
            count += waiting.len();
            !waiting.is_empty()
        });
        self.count = count;
    }
}

fn least(a: Traffic, b: Traffic) -> Traffic {
    Traffic::new(a.received.min(b.received), a.sent.min(b.sent))
}

/// The bytes of both places, with whether each is the loopback device.
pub(super) fn places(all: Bytes, recent: Bytes) -> [(bool, Traffic, Traffic); 2] {
    [(false, all.remote, recent.remote), (true, all.local, recent.local)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Interface;
    use crate::model::flow::{Address, Endpoint, Protocol};

    fn remote(port: u16) -> Remote {
        let remote = Endpoint::new(Address::ANY_V4, port);
        Remote { protocol: Protocol::UDP, local_port: 5, remote, interface: Interface::LOOPBACK }
    }

    fn bytes(port: u16, received: u64, sent: u64) -> RemoteBytes {
        let new = Traffic::new(received, sent);
        RemoteBytes { cookie: 1, remote: remote(port), local: false, new }
    }

    fn split(remotes: &mut Remotes, all: Traffic, recent: Traffic, at: u32) -> Vec<Split> {
        let mut splits = Vec::new();
        remotes.split(1, false, all, recent, at, |split| splits.push(split));
        splits
    }

    #[test]
    fn bytes_that_waited_go_with_their_remote_ends() {
        let mut remotes = Remotes::default();
        remotes.add(&bytes(1, 10, 0), 1);
        remotes.add(&bytes(2, 5, 5), 2);
        let (all, recent) = (Traffic::new(20, 5), Traffic::new(7, 5));
        let rest = Split { remote: None, traffic: Traffic::new(5, 0), recent: Traffic::new(2, 0) };
        assert_eq!(
            split(&mut remotes, all, recent, 2),
            [
                Split {
                    remote: Some(remote(1)),
                    traffic: Traffic::new(10, 0),
                    recent: Traffic::ZERO
                },
                Split {
                    remote: Some(remote(2)),
                    traffic: Traffic::new(5, 5),
                    recent: Traffic::new(5, 5)
                },
                rest,
            ]
        );
        assert!(remotes.sockets.is_empty() && remotes.count == 0);
    }

    /// A packet that was counted after the socket was read and before its remote ends were.
    #[test]
    fn what_was_read_too_early_is_handed_on_later() {
        let mut remotes = Remotes::default();
        remotes.add(&bytes(1, 30, 0), 1);
        let part = |traffic, recent| Split { remote: Some(remote(1)), traffic, recent };
        let (ten, twenty) = (Traffic::new(10, 0), Traffic::new(20, 0));
        assert_eq!(split(&mut remotes, ten, ten, 1), [part(ten, ten)]);
        // It is recent now.
        assert_eq!(split(&mut remotes, twenty, twenty, 2), [part(twenty, twenty)]);
        assert_eq!(remotes.count, 0);
    }

    #[test]
    fn what_waits_for_nobody_is_forgotten() {
        let mut remotes = Remotes::default();
        remotes.add(&bytes(1, 30, 0), 1);
        remotes.end(PATIENCE);
        assert_eq!(remotes.count, 1);
        remotes.end(PATIENCE + 1);
        assert_eq!((remotes.count, remotes.sockets.len()), (0, 0));
    }

    proptest! {
        #[test]
        fn parts_add_up(
            added in proptest::collection::vec((1_u16..4, 0_u64..50, 0_u64..50, 1_u32..4), 0..12),
            all in (0_u64..99, 0_u64..99), recent in (0_u64..99, 0_u64..99),
        ) {
            let mut remotes = Remotes::default();
            let mut added = added;
            added.sort_by_key(|(.., at)| *at);
            for (port, received, sent, at) in added {
                remotes.add(&bytes(port, received, sent), at);
            }
            let all = Traffic::new(all.0, all.1);
            let recent = least(Traffic::new(recent.0, recent.1), all);
            let splits = split(&mut remotes, all, recent, 3);
            prop_assert_eq!(splits.iter().map(|of| of.traffic).sum::<Traffic>(), all);
            prop_assert_eq!(splits.iter().map(|of| of.recent).sum::<Traffic>(), recent);
            for of in &splits {
                prop_assert_eq!(least(of.recent, of.traffic), of.recent);
            }
            let waiting: usize = remotes.sockets.values().map(Vec::len).sum();
            prop_assert_eq!(waiting, remotes.count);
        }
    }
}
