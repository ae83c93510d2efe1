//! Small requests, with a connection for each: wrk and nginx.

use anyhow::ensure;
use testbed::bench::server::Server;
use testbed::peers::web::{CLOSE, Report, nginx};

use crate::rounds::{Done, Load, cpu_of_ends};
use crate::scene::{Scene, directory};

const PORT: u16 = 8080;
const CONNECTIONS: usize = 64;

pub(crate) static LOAD: Load = Load {
    title: "Requests with a connection each, wrk and nginx",
    needs: &["nginx", "wrk"],
    rate: "requests/s",
    cost: "µs / request",
    serve,
    run,
};

fn serve(scene: &Scene) -> anyhow::Result<Option<Server>> {
    let nginx = nginx(directory(), &PORT.to_string())?;
    let mut command = scene.server().command("nginx");
    command.args(nginx.get_args());
    Server::start(&mut command, directory(), Some(scene.server()), PORT).map(Some)
}

fn run(scene: &Scene, server: Option<&Server>, seconds: u64) -> anyhow::Result<Done> {
    let url = format!("http://{}:{PORT}/", scene.address());
    let client = format!("wrk -t 1 -c {CONNECTIONS} -d {seconds}s {url}");
    let before = cpu_of_ends(server)?;
    let report = Report::read(&scene.client(&client, &CLOSE, seconds)?)?;
    let cpu = cpu_of_ends(server)? - before;
    ensure!(report.flaw.is_none(), "{}", report.flaw.unwrap_or_default());
    Ok(Done { rate: report.rate, cost: cpu * 1e6 / report.requests })
}
