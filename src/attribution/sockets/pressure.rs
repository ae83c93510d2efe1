//! How many slots are taken, and so which sockets do without theirs.

use crate::ebpf::Origin;

/// For how many observations a socket without traffic keeps its slot where there is room for others: one
/// that is open, one that is closed (the kernel may still send what is left), and one of which nothing more
/// comes. It gets another slot if it needs it; one that accepts connections keeps its own.
pub(super) const IDLE: u32 = 600;
pub(super) const IDLE_CLOSED: u32 = 30;
pub(super) const IDLE_ENDED: u32 = 2;

/// How much pressure there is for sockets other than those that have a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotPressure {
    /// Whoever is silent can keep his slot for a while.
    Low,
    /// Whoever was let go of does without it.
    Medium,
    /// And whoever is silent.
    High,
}

impl SlotPressure {
    /// With so many slots `taken` of `capacity`.
    pub(crate) const fn beside(taken: usize, capacity: usize) -> SlotPressure {
        match capacity / 8 {
            eighth if taken > eighth * 4 => SlotPressure::High,
            eighth if taken > eighth => SlotPressure::Medium,
            _ => SlotPressure::Low,
        }
    }
}

/// Whether a socket that has had no traffic for so many observations may have been so for long enough: then
/// its origin is worth a look.
pub(super) const fn may_be_done(idle: u32, pressure: SlotPressure) -> bool {
    match pressure {
        SlotPressure::Low => {
            idle == IDLE_ENDED || idle >= IDLE_CLOSED && idle.is_multiple_of(IDLE_CLOSED)
        }
        SlotPressure::Medium | SlotPressure::High => true,
    }
}

/// Whether such a socket does without its slot.
pub(super) const fn is_done(idle: u32, origin: &Origin, pressure: SlotPressure) -> bool {
    // Connections that it has yet to accept ask for it.
    if origin.listening && !origin.released {
        return false;
    }
    // The kernel gives such a slot to another socket that needs it.
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
