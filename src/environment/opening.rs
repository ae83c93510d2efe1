//! How far the network namespaces of the start are opened.

/// Whether the other namespaces are known, in which ends of its flows may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Opening {
    /// As far as they can be.
    #[default]
    Done,
    /// Some of those that were there at the start are not opened yet.
    UnderWay,
    /// The last one was opened since the observation before.
    JustDone,
}
