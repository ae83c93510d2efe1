//! Small requests: wrk and nginx, on connections that are kept and with one for each request.

use testbed::bench::server::{Server, client};
use testbed::peers::web::{CLOSE, Report, nginx};

use crate::figures::{Effort, Figure, Group, Section};
use crate::peers::Forwarder;
use crate::stage::{Stage, WEB};

const HEADINGS: &[&str] = &["10 kept", "64 kept", "1000 kept", "10 new", "64 new", "1000 new"];
/// Connections at a time, and whether they are kept.
const RUNS: [(usize, bool); 6] =
    [(10, true), (64, true), (1000, true), (10, false), (64, false), (1000, false)];
/// More than this are too many for a process each.
const PROCESSES: usize = 100;

pub(crate) static GROUP: Group = Group {
    name: "requests",
    needs: &["nginx", "wrk"],
    remote: WEB,
    sections: &[
        Section {
            title: "thousand requests per second",
            headings: HEADINGS,
            more_is_better: true,
            decimals: 1,
        },
        Section {
            title: "CPU ms of the forwarder per thousand requests",
            headings: HEADINGS,
            more_is_better: false,
            decimals: 1,
        },
    ],
    serve,
    measure,
};

fn serve(stage: &Stage) -> anyhow::Result<Option<Server>> {
    let mut command = nginx(&stage.directory, &format!("127.0.0.1:{WEB}"))?;
    Server::start(&mut command, &stage.directory, None, WEB).map(Some)
}

fn measure(forwarder: &Forwarder, effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for &(connections, kept) in effort.of(&RUNS) {
        let (rate, cost) = if forwarder.forks && connections > PROCESSES {
            (Figure::from(f64::NAN), Figure::from(f64::NAN))
        } else {
            run(forwarder, connections, kept, effort.seconds)?
        };
        rates.push(rate);
        costs.push(cost);
    }
    rates.append(&mut costs);
    Ok(rates)
}

fn run(
    forwarder: &Forwarder,
    connections: usize,
    kept: bool,
    seconds: u64,
) -> anyhow::Result<(Figure, Figure)> {
    let header: &[&str] = if kept { &[] } else { &CLOSE };
    let url = format!("http://127.0.0.1:{}/", forwarder.port);
    let before = forwarder.cpu()?;
    let said =
        client(None, &format!("wrk -t 1 -c {connections} -d {seconds}s {url}"), header, seconds);
    let after = forwarder.cpu()?;
    Ok(match said.and_then(|said| Report::read(&said)) {
        Ok(Report { requests, rate, flaw }) => {
            let cost = (after - before) * 1e3 / (requests / 1e3);
            (Figure { value: rate / 1e3, flaw: flaw.clone() }, Figure { value: cost, flaw })
        }
        Err(error) => (Figure::missing(&error), Figure::missing(&error)),
    })
}
