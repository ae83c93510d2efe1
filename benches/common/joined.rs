//! Two network namespaces with a link between them. Connections are tracked in one of them.

use std::net::Ipv4Addr;

use crate::common::{inside, run};
use crate::tracked::Namespace;

pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// What the link is called at both ends.
pub(crate) const LINK: &str = "bench";

/// Both, for as long as this lives.
pub(crate) struct Joined {
    /// Where connections are tracked.
    pub(crate) here: Namespace,
    pub(crate) there: Namespace,
}

impl Joined {
    /// With room for so many entries.
    pub(crate) fn new(entries: usize) -> anyhow::Result<Joined> {
        let there_name = format!("bwmon-bench-{}-there", std::process::id());
        let there = Namespace::begin(&there_name, "")?;
        let here = Namespace::tracking(entries)?;
        let link = ["link", "add", LINK, "type", "veth", "peer", LINK, "netns", &there_name];
        run(inside(&here.path, "ip").args(link))?;
        for (namespace, address) in [(&here, HERE), (&there, THERE)] {
            let address = format!("{address}/24");
            run(inside(&namespace.path, "ip").args(["addr", "add", &address, "dev", LINK]))?;
            run(inside(&namespace.path, "ip").args(["link", "set", LINK, "up"]))?;
        }
        Ok(Joined { here, there })
    }
}
