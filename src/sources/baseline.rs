//! Bytes that were counted before the programs in the kernel were attached.
//!
//! The programs are attached first. Then a thread reads the past, which takes a while. The past therefore also
//! contains bytes that the slots of busy sockets have counted meanwhile. All bytes in slots are accounted anyway,
//! so the past is accounted without them.

mod overlap;
mod past;

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use foldhash::fast::RandomState;

use super::Round;
use crate::attribution::Share;
use crate::ebpf::{self, Bytes, Counted, Origin};
use crate::environment::Environment;
use crate::model::owner::Owner;
use crate::model::traffic::Traffic;
use crate::netns::{self, NetnsChoice, NetnsId};
use crate::recording::Recorder;
use overlap::{Slots, assigned, name, without_overlap};
use past::{Account, Past};

type Map<K, V> = HashMap<K, V, RandomState>;

/// Number of sockets that can lose their slots while the past is read; further ones keep them until
/// then.
const GONE: usize = 262_144;

/// The reading of the past.
#[derive(Debug)]
pub(super) struct Baseline {
    thread: JoinHandle<()>,
    result: Receiver<Past>,
    past: Option<Past>,
    /// The bytes in the slot of every socket before the reading, and when the past had arrived.
    before: Map<u64, Bytes>,
    after: Map<u64, Bytes>,
    /// Sockets that have lost their slots since the reading started, with the bytes in those slots.
    gone: Map<u64, (Counted, Origin)>,
}

impl Baseline {
    /// Starts the reading; `None` if no thread can be started. With `details`, remote ends are told apart.
    pub(super) fn begin(
        reader: &ebpf::Reader,
        environment: &mut Environment,
        details: bool,
    ) -> Option<Baseline> {
        let before = reader.peek().filter(Counted::has_bytes);
        let before = before.map(|of| (of.cookie, of.bytes)).collect();
        let proc = environment.proc().to_owned();
        let mut others: HashMap<NetnsId, u32> = HashMap::new();
        if environment.choice() == NetnsChoice::All {
            others.extend(environment.owners.namespaces());
            if let Ok(own) = netns::of(&proc, "self") {
                others.remove(&own);
            }
        }
        let others: Vec<(NetnsId, u32)> = others.into_iter().collect();
        let (sender, result) = mpsc::channel();
        let read = move || drop(sender.send(Past::read(&proc, &others, details)));
        let thread = thread::Builder::new().name("baseline".to_owned()).spawn(read).ok()?;
        let (after, gone) = Default::default();
        Some(Baseline { thread, result, past: None, before, after, gone })
    }

    /// Whether the past has been read since the last look.
    pub(super) fn has_arrived(&self) -> bool {
        self.past.is_none() && self.thread.is_finished()
    }

    /// Takes announcements of new flows.
    pub(super) fn drain(&mut self) {
        if let Some(past) = &mut self.past {
            past.drain();
        }
    }

    /// Whether no more sockets that lose their slots can be remembered.
    pub(super) fn is_full(&self) -> bool {
        self.gone.len() >= GONE
    }

    /// Remembers a socket that has lost its slot.
    pub(super) fn let_go(&mut self, socket: &Counted, origin: &Origin) {
        let before = self.gone.get(&socket.cookie).map(|(before, _)| before.bytes);
        let bytes = socket.bytes + before.unwrap_or_default();
        self.gone.insert(socket.cookie, (Counted { bytes, ..*socket }, *origin));
    }

    /// Remembers the last bytes of a slot that its socket has lost; `before` are those accounted
    /// earlier.
    pub(super) fn last(&mut self, socket: &Counted, before: Bytes) {
        if let Some((gone, _)) = self.gone.get_mut(&socket.cookie) {
            gone.bytes = gone.bytes + (socket.bytes - before);
        }
    }

    /// Accounts the past, once it and the holders of sockets are read. `only` is the watched network namespace
    /// if there is only one; `seen` is the owner of a socket by what the kernel saw of it. Returns whether the past
    /// is accounted.
    pub(super) fn poll(
        &mut self,
        reader: &ebpf::Reader,
        only: Option<u64>,
        recorder: Option<&Recorder>,
        round: &mut Round<'_>,
        seen: impl Fn(&Counted, &Origin, &mut Round<'_>) -> Option<Owner>,
    ) -> bool {
        let slots = Slots { reader, gone: &self.gone };
        if self.past.is_none() {
            match self.receive(round.until) {
                Ok(past) => self.past = past,
                Err(_) => return true, // the thread has failed: counting begins now
            }
            if self.past.is_some() {
                self.after = slots.peek().map(|of| (of.cookie, of.bytes)).collect();
            }
        }
        let left = round.environment.unread().is_anything();
        let Some(mut past) = self.past.take_if(|_| !left) else { return false };
        let Round { environment, pipes, looked, .. } = round;
        let inodes = past.namespaces.iter().flat_map(|of| of.namespace.table.inodes());
        environment.owners.look_also(inodes.collect::<HashSet<_>>());
        let mut accounts = past.attribute(&mut environment.owners, pipes);
        past.add_to(looked);
        let pipes = *pipes;
        let mut sockets = assigned(&mut past, &slots, &self.before, &self.after, only);
        name(&past, &mut sockets, pipes, &mut accounts, |socket| {
            seen(socket, &slots.origin(socket)?, round)
        });
        without_overlap(&mut past, &slots, sockets, pipes, &mut accounts);
        let Round { environment, credit, .. } = round;
        for (Account { to, local, remote }, traffic) in accounts {
            if !traffic.is_zero() {
                let recent = Traffic::ZERO;
                let share = Share { to, traffic, recent, from: None, local, remote };
                credit(&share, &mut environment.owners);
                if let Some(recorder) = recorder {
                    recorder.share(&share);
                }
            }
        }
        true
    }

    /// The past, or `None` if it is not read by then.
    fn receive(&self, until: Option<Instant>) -> Result<Option<Past>, RecvTimeoutError> {
        let Some(until) = until else {
            return self.result.recv().map(Some).map_err(|_| RecvTimeoutError::Disconnected);
        };
        match self.result.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => Ok(None),
            received => received.map(Some),
        }
    }
}
