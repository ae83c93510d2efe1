//! Why bytes have no process.

use std::fmt;

/// Why no process can be named for some bytes. The order is that of the reasons' lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Neither end is a socket of this host: it only passed the bytes on.
    Forwarded,
    /// No socket is left (or never was) at the end that is here.
    Exited,
    /// The user may not see who holds the socket.
    NoPermission,
    /// The socket is held by a process outside the PID namespace that can be seen.
    OtherNamespace,
    /// The kernel's own: its sockets, answers to pings, tunnels, connections not yet accepted.
    Kernel,
    /// Several processes share the address, and the kernel doesn't tell which one it was.
    Ambiguous,
    /// This program's own pipes carry them, which account what they forward themselves.
    OwnPipe,
    /// More sockets had traffic at once than there was room to count apart.
    Overflow,
    /// Who has the socket is still being read: the bytes move to the process, or to another reason.
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

    /// A stable name, for machines and for the line of `--unattributed`.
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

    /// Whether it says that somebody had the socket: that stays true when the socket is closed.
    pub(crate) const fn is_lasting(self) -> bool {
        matches!(self, Reason::NoPermission | Reason::OtherNamespace | Reason::Ambiguous)
    }

    /// Its place in [`Reason::ALL`].
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
