//! Connections that are not sockets yet, as the programs in the kernel keep them (`program/handshakes.h`).
//!
//! A connection's own socket takes over the bytes of its handshake, mostly within microseconds. The bytes of
//! a handshake without a connection (no answer, or a scan) are given to the listening socket: an entry that
//! is old enough is settled, and its bytes stay that socket's whatever happens to the connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::slots::Bytes;
use crate::model::traffic::Traffic;

/// Entries in a set (`HANDSHAKE_WAYS`), and number of sets (`HANDSHAKE_SETS`).
const WAYS: usize = 3;
pub(super) const SETS: usize = 8192;

const SETTLED: u32 = 1 << 31;
const ON_LOOPBACK: u32 = 1 << 31;

/// Time after which the bytes of a connection that is no socket are given to the listening socket. Longer than
/// the first retransmission of an answer, which comes after one second.
const PATIENCE: Duration = Duration::from_secs(3);

/// `struct handshakes`
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Set {
    listener: [AtomicU64; WAYS],
    tag: [AtomicU32; WAYS],
    sent: [AtomicU32; WAYS],
    received: [AtomicU32; WAYS],
}

const _: () = assert!(size_of::<Set>() == 64);

/// Handshakes that were seen before.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// By their indexes, with their tags.
    since: HashMap<usize, (u32, Instant), RandomState>,
    /// Number of packets of handshakes at the last look.
    packets: u64,
}

impl Waiting {
    /// Settles entries that are old enough, at a total of `packets`: `each` receives the listening socket's
    /// cookie and bytes.
    pub(super) fn settle(
        &mut self,
        sets: &[Set],
        packets: u64,
        now: Instant,
        mut each: impl FnMut(u64, Bytes),
    ) {
        if packets == self.packets && self.since.is_empty() {
            return;
        }
        self.packets = packets;
        let mut since = HashMap::default();
        for (at, set) in sets.iter().enumerate() {
            for way in 0..WAYS {
                let tag = set.tag[way].load(Acquire);
                if tag == 0 || set.sent[way].load(Relaxed) & SETTLED != 0 {
                    continue;
                }
                let place = at * WAYS + way;
                let before = self.since.get(&place).filter(|(before, _)| *before == tag);
                let begun = before.map_or(now, |(_, begun)| *begun);
                if now.saturating_duration_since(begun) < PATIENCE {
                    since.insert(place, (tag, begun));
                    continue;
                }
                let listener = set.listener[way].load(Relaxed);
                let sent = set.sent[way].fetch_or(SETTLED, Relaxed);
                // It may have become a socket in this moment, which then has its bytes. Another handshake in
                // its entry has left them.
                if set.tag[way].load(Acquire) == 0 || sent & SETTLED != 0 {
                    continue;
                }
                let received = set.received[way].load(Relaxed);
                let traffic = Traffic::new((received & !ON_LOOPBACK).into(), sent.into());
                let mut bytes = Bytes::default();
                match received & ON_LOOPBACK != 0 {
                    true => bytes.local = traffic,
                    false => bytes.remote = traffic,
                }
                each(listener, bytes);
            }
        }
        self.since = since;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(tag: u32, sent: u32, received: u32) -> Set {
        let set = Set::default();
        set.listener[1].store(7, Relaxed);
        set.tag[1].store(tag, Relaxed);
        set.sent[1].store(sent, Relaxed);
        set.received[1].store(received, Relaxed);
        set
    }

    fn settled(waiting: &mut Waiting, sets: &[Set], now: Instant) -> Vec<(u64, Bytes)> {
        let mut all = Vec::new();
        waiting.settle(sets, 1, now, |listener, bytes| all.push((listener, bytes)));
        all
    }

    #[test]
    fn what_has_waited_for_long_is_the_listening_sockets_once() {
        let sets = [set(5, 60, 40), set(9, 1, 2 | ON_LOOPBACK)];
        let mut waiting = Waiting::default();
        let start = Instant::now();
        assert_eq!(settled(&mut waiting, &sets, start), []);
        // Another connection in the same place begins anew.
        sets[1].tag[1].store(11, Relaxed);
        let later = start + PATIENCE;
        let remote = Bytes { remote: Traffic::new(40, 60), ..Bytes::default() };
        assert_eq!(settled(&mut waiting, &sets, later), [(7, remote)]);
        let local = Bytes { local: Traffic::new(2, 1), ..Bytes::default() };
        assert_eq!(settled(&mut waiting, &sets, later + PATIENCE), [(7, local)]);
        assert_eq!(settled(&mut waiting, &sets, later + PATIENCE * 3), []);
        assert!(waiting.since.is_empty());
    }

    #[test]
    fn what_became_a_socket_is_not() {
        let sets = [set(5, 60, 40)];
        let mut waiting = Waiting::default();
        let start = Instant::now();
        settled(&mut waiting, &sets, start);
        sets[0].tag[1].store(0, Relaxed);
        assert_eq!(settled(&mut waiting, &sets, start + PATIENCE), []);
        assert_eq!(sets[0].sent[1].load(Relaxed), 60);
    }
}
