//! Whether each remote host and interface has its bytes, scene by scene: `-- remotes`.

use std::time::Duration;

use testbed::bytes::Bytes;
use testbed::machine::snapshots;
use testbed::netns::Net;
use testbed::remotes::{End, SCENES, Scene, ends_of};
use testbed::running::Running;
use testbed::wait::{DEADLINE, until};

use super::{PATIENCE, RUNMONITOR, line};

/// How far from the truth a remote end may be, in thousandths.
const MOST: u64 = 1;

/// Prints a line for each remote end, and what holds for all of them.
pub(super) fn table(source: &str) {
    line(&["", "remote end", "true bytes, in / out", "shown, percent"]);
    line(&["---"; 4]);
    let (mut ends, mut wrong) = (0, 0);
    for scene in SCENES {
        let Some(shown) = play(scene, source) else {
            println!("{}: not played: network namespaces take root", scene.title);
            continue;
        };
        for ((address, interface), truth, got) in shown {
            if address == "-" {
                line(&[scene.title, "none", "", &format!("{} bytes", got.total())]);
                continue;
            }
            ends += 1;
            let off = |got: u64, truth: u64| got.abs_diff(truth) * 1000 > truth * MOST;
            wrong += usize::from(off(got.received, truth.received) || off(got.sent, truth.sent));
            let bytes = format!("{} / {}", truth.received, truth.sent);
            let share = |got: u64, truth: u64| 100.0 * got as f64 / truth.max(1) as f64;
            let shares = [share(got.received, truth.received), share(got.sent, truth.sent)];
            let shares = shares.map(|share| format!("{share:.3}")).join(" / ");
            line(&[scene.title, &format!("{address} {interface}"), &bytes, &shares]);
        }
    }
    println!("\n{source}: {ends} remote ends, {wrong} of them further than 0.1 % from the truth");
}

/// The true bytes and the shown ones of each remote end; of others that are shown, too.
fn play(scene: &Scene, source: &str) -> Option<Vec<(End, Bytes, Bytes)>> {
    let net = Net::new()?;
    let mut running = None;
    let played = scene.play(&net, || running = Some(start(scene, &net, source)));
    let running = running?;
    let shown = || {
        let last = snapshots(&running.stdout()).pop()?;
        last.row(&played.process).map(ends_of)
    };
    let expected = played.ends_by(source);
    let is_right = || shown().is_some_and(|shown| shown == expected);
    until(PATIENCE.max(Duration::from_secs(5)), is_right);
    let mut shown = shown().unwrap_or_default();
    running.stop();
    let mut ends: Vec<(End, Bytes, Bytes)> = expected
        .into_iter()
        .map(|(end, truth)| {
            let got = shown.remove(&end).unwrap_or_default();
            (end, truth, got)
        })
        .collect();
    ends.extend(shown.into_iter().map(|(end, got)| (end, Bytes::default(), got)));
    Some(ends)
}

fn start(scene: &Scene, net: &Net, source: &str) -> Running {
    let args = ["--source", source, "--interval", "0.5", "--format", "json", "--details"];
    let running = Running::start(match scene.elsewhere {
        true => RUNMONITOR.anywhere(&net.watched, &args),
        false => RUNMONITOR.inside(&net.watched, &args),
    });
    assert!(until(DEADLINE, || !snapshots(&running.stdout()).is_empty()), "no first refresh");
    running.has_read();
    running
}
