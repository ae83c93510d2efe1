//! As many bytes as go through one connection: iperf3.

use std::process::Command;

use testbed::bench::server::Server;
use testbed::peers::iperf3::received;

use crate::rounds::{Done, Load, cpu_of_ends};
use crate::scene::{Scene, directory};

const PORT: u16 = 5201;

pub(crate) static LOAD: Load = Load {
    title: "Throughput, iperf3",
    needs: &["iperf3"],
    rate: "Gbit/s",
    cost: "s / GB",
    serve,
    run,
};

fn serve(scene: &Scene) -> anyhow::Result<Option<Server>> {
    let mut command: Command = scene.server().command("iperf3");
    command.args(["-s", "-4", "-p", &PORT.to_string()]);
    Server::start(&mut command, directory(), Some(scene.server()), PORT).map(Some)
}

fn run(scene: &Scene, server: Option<&Server>, seconds: u64) -> anyhow::Result<Done> {
    let client = format!("iperf3 -c {} -p {PORT} -t {seconds} -J", scene.address());
    let before = cpu_of_ends(server)?;
    let (bytes, seconds) = received(&scene.client(&client, &[], seconds)?)?;
    let cpu = cpu_of_ends(server)? - before;
    Ok(Done { rate: bytes * 8.0 / 1e9 / seconds, cost: cpu / (bytes / 1e9) })
}
