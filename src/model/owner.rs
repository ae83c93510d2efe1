//! The owner of bytes.

mod reason;

use std::fmt;

use super::ProcessId;

pub use reason::Reason;

/// The owner of bytes, or the reason why they have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// This process.
    Process(ProcessId),
    /// A process of which only the kernel's programs have seen the pid and the short name: it ended before
    /// anything else saw it. Its start time is unknown, and the pid may be another process's by now.
    Unseen {
        /// Its pid in the initial PID namespace.
        pid: u32,
        /// Its short name.
        comm: Comm,
    },
    /// No process is known.
    Nobody(Reason),
}

impl Owner {
    /// The process, if its identity is known.
    pub const fn process(self) -> Option<ProcessId> {
        match self {
            Owner::Process(process) => Some(process),
            Owner::Unseen { .. } | Owner::Nobody(_) => None,
        }
    }

    /// The reason why no process is known.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Owner::Nobody(reason) => Some(reason),
            Owner::Process(_) | Owner::Unseen { .. } => None,
        }
    }
}

impl From<ProcessId> for Owner {
    fn from(process: ProcessId) -> Owner {
        Owner::Process(process)
    }
}

impl From<Reason> for Owner {
    fn from(reason: Reason) -> Owner {
        Owner::Nobody(reason)
    }
}

/// The short name of a program (`TASK_COMM_LEN`), padded with NUL bytes. Untrusted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// The name without its padding.
    pub fn bytes(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.bytes().escape_ascii().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_ends_at_its_padding() {
        assert_eq!(Comm(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0").bytes(), b"curl");
        assert_eq!(Comm([b'x'; 16]).bytes(), [b'x'; 16]);
        assert_eq!(Comm::default().bytes(), b"");
        assert_eq!(format!("{:?}", Comm(*b"a\x1b\0\0\0\0\0\0\0\0\0\0\0\0\0\0")), r#""a\\x1b""#);
    }

    /// Each end of a flow has one, of which there may be hundreds of thousands.
    #[test]
    fn an_owner_is_small() {
        assert_eq!(size_of::<Owner>(), 24);
    }
}
