//! Two network namespaces with a link between them. Connections are tracked in one of them.

use std::net::Ipv4Addr;
use std::process;

use super::tracked::Kept;

/// The address where connections are tracked, and the other one.
pub const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// See [`HERE`].
pub const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// What the link is called at both ends.
pub const LINK: &str = "bench";

/// Both, for as long as this lives.
pub struct Joined {
    /// Where connections are tracked.
    pub here: Kept,
    /// The other one.
    pub there: Kept,
}

impl Joined {
    /// With room for so many entries.
    ///
    /// # Errors
    ///
    /// As [`Kept::tracking`].
    pub fn new(entries: usize) -> anyhow::Result<Joined> {
        let there = Kept::new(format!("bwmon-bench-{}-there", process::id()), "", "")?;
        let here = Kept::tracking(entries)?;
        here.run(&format!("ip link add {LINK} type veth peer {LINK} netns {}", there.name));
        for (namespace, address) in [(&here, HERE), (&there, THERE)] {
            namespace.address(LINK, &format!("{address}/24"));
        }
        Ok(Joined { here, there })
    }
}
