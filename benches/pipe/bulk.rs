//! As much as goes through: iperf3, with one stream and with four, up and down.

use std::process::Command;

use testbed::bench::server::{Server, client};
use testbed::peers::iperf3::received;

use crate::figures::{Effort, Figure, Group, Section};
use crate::peers::Forwarder;
use crate::stage::{BULK, Stage};

const HEADINGS: &[&str] = &["1 up", "1 down", "4 up", "4 down"];
const RUNS: [&str; 4] = ["-P 1", "-P 1 -R", "-P 4", "-P 4 -R"];

pub(crate) static GROUP: Group = Group {
    name: "bulk",
    needs: &["iperf3"],
    remote: BULK,
    sections: &[
        Section { title: "GB/s", headings: HEADINGS, more_is_better: true, decimals: 2 },
        Section {
            title: "CPU seconds of the forwarder per GB",
            headings: HEADINGS,
            more_is_better: false,
            decimals: 2,
        },
    ],
    serve,
    measure,
};

fn serve(stage: &Stage) -> anyhow::Result<Option<Server>> {
    let mut command = Command::new("iperf3");
    command.args(["-s", "-4", "-p", &BULK.to_string()]);
    Server::start(&mut command, &stage.directory, None, BULK).map(Some)
}

fn measure(forwarder: &Forwarder, effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let (mut speeds, mut costs) = (Vec::new(), Vec::new());
    for run in effort.of(&RUNS) {
        let (port, seconds) = (forwarder.port, effort.seconds);
        let before = forwarder.cpu()?;
        let said = client(
            None,
            &format!("iperf3 -c 127.0.0.1 -p {port} -t {seconds} {run} -J"),
            &[],
            seconds,
        );
        let after = forwarder.cpu()?;
        let (speed, cost) = match said.and_then(|said| received(&said)) {
            Ok((bytes, seconds)) => {
                let gigabytes = bytes / 1e9;
                ((gigabytes / seconds).into(), ((after - before) / gigabytes).into())
            }
            Err(error) => (Figure::missing(&error), Figure::missing(&error)),
        };
        speeds.push(speed);
        costs.push(cost);
    }
    speeds.append(&mut costs);
    Ok(speeds)
}
