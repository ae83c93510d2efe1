//! How many slots are taken, and which sockets lose theirs for that.

use crate::ebpf::Origin;

/// Number of observations for which a socket without traffic keeps its slot: one that is open; one that is
/// closed (the kernel may still send its remaining data); one that expects no more bytes. It gets another
/// slot when it needs one. A listening socket keeps its own.
pub(super) const IDLE: u32 = 600;
pub(super) const IDLE_CLOSED: u32 = 30;
pub(super) const IDLE_ENDED: u32 = 2;

/// The pressure of other sockets on slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotPressure {
    /// A silent socket keeps its slot for a while.
    Low,
    /// A closed socket loses its slot.
    Medium,
    /// A silent socket loses its slot too.
    High,
}

impl SlotPressure {
    /// The pressure if this many slots are `taken` of `capacity`.
    pub(crate) const fn beside(taken: usize, capacity: usize) -> SlotPressure {
        match capacity / 8 {
            eighth if taken > eighth * 4 => SlotPressure::High,
            eighth if taken > eighth => SlotPressure::Medium,
            _ => SlotPressure::Low,
        }
    }
}

/// Whether a socket without traffic for so many observations may have been silent for long enough: then
/// check its origin.
pub(super) const fn may_be_done(idle: u32, pressure: SlotPressure) -> bool {
    match pressure {
        SlotPressure::Low => {
            idle == IDLE_ENDED || idle >= IDLE_CLOSED && idle.is_multiple_of(IDLE_CLOSED)
        }
        SlotPressure::Medium | SlotPressure::High => true,
    }
}

/// Whether such a socket loses its slot.
pub(super) const fn is_done(idle: u32, origin: &Origin, pressure: SlotPressure) -> bool {
    // Connections that it will accept look it up.
    if origin.listening && !origin.released {
        return false;
    }
    // The kernel itself gives such a slot to another socket.
    if origin.silent && !origin.released {
        return false;
    }
    let patience = match (pressure, origin.released, origin.ended) {
        (SlotPressure::Medium | SlotPressure::High, true, _) => 0,
        (_, _, true) | (SlotPressure::High, ..) => IDLE_ENDED,
        (_, true, false) => IDLE_CLOSED,
        (_, false, false) => IDLE,
    };
    idle >= patience
}
