//! Why bytes have no process.

use std::fmt;

/// The reason why bytes have no process. The order is that of the lines of `--unattributed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Forwarded: neither end is a socket of this host.
    Forwarded,
    /// The end on this host has no socket (any more).
    Exited,
    /// The user may not see the holder of the socket.
    NoPermission,
    /// The holder of the socket is outside the visible PID namespace.
    OtherNamespace,
    /// The kernel itself: its sockets, answers to pings, tunnels, connections not yet accepted.
    Kernel,
    /// Several processes share the address, and the kernel doesn't report which one it was.
    Ambiguous,
    /// A pipe of this program carries them, and accounts what it forwards itself.
    OwnPipe,
    /// More sockets had traffic at once than the kernel's table has slots.
    Overflow,
    /// The holder of the socket is not read yet. The bytes move to the process, or to another
    /// reason.
    Unread,
}

impl Reason {
    /// Every reason, in order.
    pub const ALL: [Reason; 9] = [
        Reason::Forwarded,
        Reason::Exited,
        Reason::NoPermission,
        Reason::OtherNamespace,
        Reason::Kernel,
        Reason::Ambiguous,
        Reason::OwnPipe,
        Reason::Overflow,
        Reason::Unread,
    ];

    /// A stable name, for machines and for the lines of `--unattributed`.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Forwarded => "forwarded",
            Reason::Exited => "exited",
            Reason::NoPermission => "no permission",
            Reason::OtherNamespace => "other namespace",
            Reason::Kernel => "kernel",
            Reason::Ambiguous => "ambiguous",
            Reason::OwnPipe => "own pipe",
            Reason::Overflow => "overflow",
            Reason::Unread => "not read yet",
        }
    }

    /// Whether the socket had a holder, which stays true when the socket is closed.
    pub(crate) const fn is_lasting(self) -> bool {
        matches!(self, Reason::NoPermission | Reason::OtherNamespace | Reason::Ambiguous)
    }

    /// Its index in [`Reason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_at_its_index() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }
}
