//! Small requests: wrk and nginx, on connections that are kept and with one for each request.

use std::fs;
use std::process::Command;

use anyhow::Context;

use crate::figures::{Effort, Figure, Group, Section};
use crate::peers::Forwarder;
use crate::server::{Server, client};
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

/// One worker: there is to be something left for the forwarder.
fn serve(stage: &Stage) -> anyhow::Result<Option<Server>> {
    let directory = stage.directory.display();
    let path = stage.directory.join("nginx.conf");
    let configuration = format!(
        "daemon off; user root; worker_processes 1; pid {directory}/nginx.pid;\n\
         error_log {directory}/nginx.log; worker_rlimit_nofile 8192;\n\
         events {{ worker_connections 8192; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;\n\
         client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;\n\
         fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;\n\
         scgi_temp_path {directory}/scgi;\n\
         server {{ listen 127.0.0.1:{WEB} backlog=4096; return 200 \"It works.\"; }} }}\n"
    );
    fs::write(&path, configuration)?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(path);
    Server::start(&mut command, stage, WEB).map(Some)
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
    // wrk says nothing about a header without the space, and doesn't send it.
    let header: &[&str] = if kept { &[] } else { &["-H", "Connection: close"] };
    let url = format!("http://127.0.0.1:{}/", forwarder.port);
    let before = forwarder.cpu()?;
    let said = client(&format!("wrk -t 1 -c {connections} -d {seconds}s {url}"), header, seconds);
    let after = forwarder.cpu()?;
    Ok(match said.and_then(|said| Report::read(&said)) {
        Ok(Report { requests, rate, flaw }) => {
            let cost = (after - before) * 1e3 / (requests / 1e3);
            (Figure { value: rate / 1e3, flaw: flaw.clone() }, Figure { value: cost, flaw })
        }
        Err(error) => (Figure::missing(&error), Figure::missing(&error)),
    })
}

/// What wrk says.
struct Report {
    requests: f64,
    rate: f64,
    flaw: Option<String>,
}

impl Report {
    fn read(said: &str) -> anyhow::Result<Report> {
        let number = |line: &str| line.split_whitespace().next().and_then(|n| n.parse().ok());
        let requests = said.lines().find(|line| line.contains(" requests in ")).and_then(number);
        let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
        let (requests, rate) =
            requests.zip(rate.and_then(number)).with_context(|| format!("wrk said {said:?}"))?;
        // Neither line is there if all is well.
        let wrong = |line: &&str| line.contains("Socket errors") || line.contains("Non-2xx");
        let flaws: Vec<&str> = said.lines().filter(wrong).map(str::trim).collect();
        let flaw = (!flaws.is_empty()).then(|| flaws.join("; "));
        Ok(Report { requests, rate, flaw })
    }
}
