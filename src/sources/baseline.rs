//! What was counted before the programs in the kernel were attached.
//!
//! The programs are attached first, and then the past is read, by a thread of its own: that takes a while. What is
//! read contains bytes that the slots have counted, too, of every socket that was busy meanwhile. All that a slot
//! has counted stands on the account of its socket anyway, so what is left of the past without it is new.

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
use crate::model::traffic::Traffic;
use crate::netns::{self, NetnsChoice, NetnsId};
use crate::recording::Recorder;
use overlap::{Slots, without_overlap};
use past::Past;

type Map<K, V> = HashMap<K, V, RandomState>;

/// How many sockets can lose their slots while the past is read; the others keep them until it is.
const GONE: usize = 262_144;

/// The reading of the past.
#[derive(Debug)]
pub(super) struct Baseline {
    thread: JoinHandle<()>,
    result: Receiver<Past>,
    past: Option<Past>,
    /// Every socket that had bytes in its slot before that.
    before: Map<u64, Bytes>,
    /// The sockets that have lost their slots since it began, with what these had counted.
    gone: Map<u64, (Counted, Origin)>,
}

impl Baseline {
    /// Begins to read; `None` where no thread is to be had.
    pub(super) fn begin(reader: &ebpf::Reader, environment: &mut Environment) -> Option<Baseline> {
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
        let read = move || drop(sender.send(Past::read(&proc, &others)));
        let thread = thread::Builder::new().name("baseline".to_owned()).spawn(read).ok()?;
        Some(Baseline { thread, result, past: None, before, gone: Map::default() })
    }

    /// Whether there is something to account that was not there at the last look.
    pub(super) fn has_arrived(&self) -> bool {
        self.past.is_none() && self.thread.is_finished()
    }

    /// Takes what was announced to it since the last time.
    pub(super) fn drain(&mut self) {
        if let Some(past) = &mut self.past {
            past.drain();
        }
    }

    /// Whether no more sockets can be remembered that lose their slots.
    pub(super) fn is_full(&self) -> bool {
        self.gone.len() >= GONE
    }

    /// A socket has lost its slot.
    pub(super) fn let_go(&mut self, socket: &Counted, origin: &Origin) {
        let before = self.gone.get(&socket.cookie).map(|(before, _)| before.bytes);
        let bytes = socket.bytes + before.unwrap_or_default();
        self.gone.insert(socket.cookie, (Counted { bytes, ..*socket }, *origin));
    }

    /// These were the last bytes in a slot that was taken from its socket, where so many stood `before`.
    pub(super) fn last(&mut self, socket: &Counted, before: Bytes) {
        if let Some((gone, _)) = self.gone.get_mut(&socket.cookie) {
            gone.bytes = gone.bytes + (socket.bytes - before);
        }
    }

    /// Accounts the past, once it and the holders of sockets are read. `only` is the network namespace that is
    /// watched if it is but one. Returns whether that is done.
    pub(super) fn poll(
        &mut self,
        reader: &ebpf::Reader,
        only: Option<u64>,
        recorder: Option<&Recorder>,
        round: &mut Round<'_>,
    ) -> bool {
        if self.past.is_none() {
            match self.receive(round.until) {
                Ok(past) => self.past = past,
                Err(_) => return true, // the thread has failed: counting begins now
            }
        }
        let left = round.environment.unread().is_anything();
        let Some(mut past) = self.past.take_if(|_| !left) else { return false };
        let Round { environment, pipes, looked, credit, .. } = round;
        let inodes = past.namespaces.iter().flat_map(|of| of.namespace.table.inodes());
        environment.owners.look_also(inodes.collect::<HashSet<_>>());
        let mut accounts = past.attribute(&mut environment.owners, pipes);
        past.add_to(looked);
        let slots = Slots { reader, gone: std::mem::take(&mut self.gone) };
        without_overlap(&mut past, &slots, &self.before, only, pipes, &mut accounts);
        for ((to, local), traffic) in accounts {
            if !traffic.is_zero() {
                let share = Share { to, traffic, recent: Traffic::ZERO, from: None, local };
                credit(&share, &mut environment.owners);
                if let Some(recorder) = recorder {
                    recorder.share(&share);
                }
            }
        }
        true
    }

    /// What was read, if it is by then: `None` if not.
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
