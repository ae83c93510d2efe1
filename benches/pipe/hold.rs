//! One contestant and the servers behind it, for somebody with a profiler.

use std::io;

use crate::peers::{Forwarder, Peer};
use crate::stage::{BULK, FORWARDER, SECOND, Stage, WEB};
use crate::{bulk, requests};

/// Keeps them until Enter is pressed.
pub(crate) fn hold(stage: &Stage, peer: &Peer) -> anyhow::Result<()> {
    let _servers = ((bulk::GROUP.serve)(stage)?, (requests::GROUP.serve)(stage)?);
    let to_bulk = Forwarder::start(peer, stage, FORWARDER, BULK)?;
    let to_web = Forwarder::start(peer, stage, SECOND, WEB)?;
    for (forwarder, client) in [
        (&to_bulk, format!("iperf3 -c 127.0.0.1 -p {}", to_bulk.port)),
        (&to_web, format!("wrk -t 1 -c 64 -d 10s http://127.0.0.1:{}/", to_web.port)),
    ] {
        let process = forwarder.group().map_or_else(|| "none".to_owned(), |pid| pid.to_string());
        println!("nsenter --net={} {client}", stage.path);
        println!("    goes through {}, process {process}", peer.name);
    }
    println!("Enter ends it");
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}
