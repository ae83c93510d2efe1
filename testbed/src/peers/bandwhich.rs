//! bandwhich in its raw mode (`--raw`).

use super::Shown;

/// A line `process: <TIME> "NAME" up/down Bps: UP/DOWN connections: NUMBER`.
pub fn line(line: &str) -> Option<Shown<'_>> {
    let (name, rest) = line.strip_prefix("process: <")?.split_once("\" up/down Bps: ")?;
    let (_, name) = name.split_once('"')?;
    let (sent, received) = rest.split(' ').next()?.split_once('/')?;
    Some(Shown { name, received: received.parse().ok()?, sent: sent.parse().ok()? })
}
