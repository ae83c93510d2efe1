//! Progress of opening the network namespaces of the start.

/// Whether the other namespaces, which may have ends of flows, are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Opening {
    /// All that can be opened are.
    #[default]
    Done,
    /// Some of those from the start are not opened yet.
    UnderWay,
    /// The last one was opened since the observation before.
    JustDone,
}
