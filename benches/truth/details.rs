//! Whether remote ends add up to the bytes of their rows, workload by workload: `-- details`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use serde_json::Value;
use testbed::bytes::Bytes;
use testbed::machine::{bytes, snapshots};
use testbed::netns::Net;
use testbed::running::Running;
use testbed::wait::{DEADLINE, until};
use testbed::workloads::{Size, Workload};

use super::{EXACTLY, PATIENCE, RUNMONITOR, line};

/// The command lines of workloads.
const OF_WORKLOADS: &str = r"workload\.py|\./short ";

/// What was seen of a workload.
struct Seen {
    rows: usize,
    remotes: usize,
    /// All bytes of the rows, and those with a remote end.
    all: u64,
    placed: u64,
    /// Whether the remote ends of each row come to its bytes.
    adds_up: bool,
}

/// Prints a line for each workload, and what holds for all of them.
pub(super) fn table(workloads: &[&Workload], source: &str) {
    line(&["", "rows", "remote ends", "bytes with a remote end, percent", "remote ends add up"]);
    line(&["---"; 5]);
    let (mut count, mut wrong, mut least) = (0, Vec::new(), (100.0, ""));
    for workload in workloads {
        let played = catch_unwind(AssertUnwindSafe(|| play(workload, source))).ok();
        let Some(seen) = played.flatten() else {
            line(&[workload.title, "", "", "", "not played"]);
            continue;
        };
        let share = 100.0 * seen.placed as f64 / seen.all.max(1) as f64;
        count += 1;
        if share < least.0 {
            least = (share, workload.name);
        }
        if !seen.adds_up || seen.rows == 0 {
            wrong.push(workload.name);
        }
        let (rows, remotes) = (seen.rows.to_string(), seen.remotes.to_string());
        let verdict = match (seen.rows, seen.adds_up) {
            (0, _) => "no row",
            (_, true) => EXACTLY,
            (_, false) => "NO",
        };
        line(&[workload.title, &rows, &remotes, &format!("{share:.2}"), verdict]);
    }
    println!();
    let verdict = if wrong.is_empty() { "all exactly".to_owned() } else { wrong.join(", ") };
    println!(
        "{source}: {count} workloads, remote ends add up: {verdict}; the smallest share with a remote end: {:.2} % ({})",
        least.0, least.1
    );
}

fn play(workload: &Workload, source: &str) -> Option<Seen> {
    let mut running = None;
    let played = workload.play(Size::Full, Some(source), |net| {
        running = Some(start(workload, net, source));
    });
    let (_played, running) = (played?, running?);
    let deadline = Instant::now() + PATIENCE;
    until(PATIENCE, || Instant::now() > deadline);
    let last = snapshots(&running.stdout()).pop()?;
    running.stop();
    let mut seen = Seen { rows: 0, remotes: 0, all: 0, placed: 0, adds_up: true };
    for row in last.rows() {
        let total = bytes(&row["total"]);
        let none = Vec::new();
        let details: &Vec<Value> = row["details"].as_array().unwrap_or(&none);
        let sum = details.iter().fold(Bytes::default(), |sum, of| sum + bytes(&of["total"]));
        let placed = details.iter().filter(|of| !of["remote_address"].is_null());
        let placed = placed.fold(Bytes::default(), |sum, of| sum + bytes(&of["total"]));
        seen.rows += 1;
        seen.remotes += details.len();
        seen.all += total.received + total.sent;
        seen.placed += placed.received + placed.sent;
        seen.adds_up &= sum == total;
    }
    Some(seen)
}

/// Starts the program.
fn start(workload: &Workload, net: &Net, source: &str) -> Running {
    let args = ["--source", source, "--interval", "0.5"];
    let more = ["--format", "json", "--details", "--include", OF_WORKLOADS];
    let args = [&args[..], &more].concat();
    // A container has a network namespace of its own.
    let running = Running::start(match workload.name.starts_with("container") {
        true => RUNMONITOR.anywhere(&net.watched, &args),
        false => RUNMONITOR.inside(&net.watched, &args),
    });
    assert!(until(DEADLINE, || !snapshots(&running.stdout()).is_empty()), "no first refresh");
    running.has_read();
    running
}
