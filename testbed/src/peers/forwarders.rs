//! Forwarders of TCP: how each is told what to forward.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What to forward: from a port on 127.0.0.1 to another.
pub struct Route<'a> {
    /// For configurations.
    pub directory: &'a Path,
    /// Threads that a forwarder may have.
    pub cores: usize,
    /// Where clients connect to.
    pub port: u16,
    /// Where the server listens.
    pub remote: u16,
}

/// haproxy in the foreground.
///
/// # Errors
///
/// If its configuration can't be written.
pub fn haproxy(route: &Route<'_>) -> anyhow::Result<Command> {
    let Route { cores, port, remote, .. } = route;
    let path = write(
        route,
        "haproxy",
        &format!(
            "global\n nbthread {}\n maxconn 4000\n\
             defaults\n mode tcp\n option splice-auto\n maxconn 4000\n timeout connect 5s\n \
             timeout client 1h\n timeout server 1h\n\
             listen pipe\n bind 127.0.0.1:{port}\n server remote 127.0.0.1:{remote}\n",
            cores
        ),
    )?;
    Ok(command("haproxy", &format!("-db -f {path}")))
}

/// rinetd in the foreground.
///
/// # Errors
///
/// If its configuration can't be written.
pub fn rinetd(route: &Route<'_>) -> anyhow::Result<Command> {
    let Route { directory, port, remote, .. } = route;
    let pid = directory.join(format!("rinetd-{port}.pid"));
    let rule = format!("127.0.0.1 {port} 127.0.0.1 {remote}\npidlogfile {}\n", pid.display());
    let path = write(route, "rinetd", &rule)?;
    Ok(command("rinetd", &format!("-f -c {path}")))
}

/// socat in the foreground.
///
/// # Errors
///
/// If its configuration can't be written.
pub fn socat(route: &Route<'_>) -> anyhow::Result<Command> {
    let Route { port, remote, .. } = route;
    // Its own backlog of 5 would make a thousand connections wait for SYNs to be sent again.
    let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=4096");
    Ok(command("socat", &format!("{listen} TCP:127.0.0.1:{remote},nodelay")))
}

/// simpleproxy in the foreground.
///
/// # Errors
///
/// If its configuration can't be written.
pub fn simpleproxy(route: &Route<'_>) -> anyhow::Result<Command> {
    let Route { port, remote, .. } = route;
    Ok(command("simpleproxy", &format!("-L 127.0.0.1:{port} -R 127.0.0.1:{remote}")))
}

/// A program with arguments that are separated by spaces.
pub fn command(program: &str, arguments: &str) -> Command {
    let mut command = Command::new(program);
    command.args(arguments.split(' '));
    command
}

fn write(route: &Route<'_>, name: &str, text: &str) -> anyhow::Result<String> {
    let path = route.directory.join(format!("{name}-{}.conf", route.port));
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}
