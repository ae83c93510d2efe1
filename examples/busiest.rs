//! Prints, five times, which process has used the network most in the last second.
//!
//! Run it as root to see the processes of all users.

use std::time::Duration;

use bwmon::monitor::{Monitor, Options};

fn main() -> anyhow::Result<()> {
    let mut monitor = Monitor::open(&Options::default())?;
    for notice in monitor.notices() {
        eprintln!("{notice}");
    }
    for snapshot in monitor.snapshots(Duration::from_secs(1)).take(5) {
        let snapshot = snapshot?;
        match snapshot.rows.iter().max_by_key(|row| row.account.recent.total()) {
            Some(row) if !row.account.recent.is_zero() => {
                let rate = snapshot.rate(&row.account);
                let name = bwmon::escape::visible(&row.name);
                println!("{:.0} B/s in, {:.0} B/s out: {name}", rate.received, rate.sent);
            }
            _ => println!("nothing was received or sent"),
        }
    }
    Ok(())
}
