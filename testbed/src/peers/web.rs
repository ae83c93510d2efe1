//! Small requests: nginx and wrk.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

/// A connection for each request. wrk says nothing about a header without the space, and doesn't
/// send it.
pub const CLOSE: [&str; 2] = ["-H", "Connection: close"];

/// With one worker: there is to be something left for others. `directory` is for its files.
pub fn nginx(directory: &Path, listen: &str) -> anyhow::Result<Command> {
    let path = directory.join("nginx.conf");
    let directory = directory.display();
    let configuration = format!(
        "daemon off; user root; worker_processes 1; pid {directory}/nginx.pid;\n\
         error_log {directory}/nginx.log; worker_rlimit_nofile 8192;\n\
         events {{ worker_connections 8192; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;\n\
         client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;\n\
         fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;\n\
         scgi_temp_path {directory}/scgi;\n\
         server {{ listen {listen} backlog=4096; return 200 \"It works.\"; }} }}\n"
    );
    fs::write(&path, configuration)?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(path);
    Ok(command)
}

/// What wrk says.
pub struct Report {
    pub requests: f64,
    /// Per second.
    pub rate: f64,
    pub flaw: Option<String>,
}

impl Report {
    pub fn read(said: &str) -> anyhow::Result<Report> {
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
