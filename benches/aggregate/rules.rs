//! Five thousand command lines, and files that say what is monitored, grouped and watched over.

use std::fmt::Write;
use std::path::Path;

use anyhow::anyhow;
use bwmon::alert::Rule;
use bwmon::config::{ConfigError, parse_applications, parse_monitors, parse_notifications};
use bwmon::group::Groups;
use bwmon::selection::{Selection, Selector};

pub(crate) const COMMAND_LINES: usize = 5_000;
pub(crate) const GROUP_RULES: usize = 200;
pub(crate) const ALERTS: usize = 100;

/// The command lines are those of that many services.
const SERVICES: usize = 50;
/// So many group rules find something: these many services' shards 10 to 19.
const FOUND: usize = 20;
/// What the services are run by.
const TEMPLATES: [&str; 5] = [
    "/usr/bin/python3 /srv/SERVICE/worker.py --config /etc/SERVICE/worker.yaml --shard=NUMBER",
    "/usr/lib/jvm/bin/java -Xmx512m -Dlog.dir=/var/log/SERVICE -jar /opt/SERVICE.jar --shard=NUMBER",
    "SERVICE: worker process --shard=NUMBER (idle)",
    "/usr/local/bin/SERVICE --listen=[::]:8443 --peers=db1.internal,db2.internal --shard=NUMBER",
    "node /home/deploy/SERVICE/current/dist/server.js --env=production --shard=NUMBER",
];

/// The command line of a process. What follows it in `/proc` is the argument of `sleep`.
pub(crate) fn command_line(number: usize) -> String {
    let (service, shard) = (number % SERVICES, number / SERVICES);
    TEMPLATES[service % TEMPLATES.len()]
        .replace("SERVICE", &name(service))
        .replace("NUMBER", &shard.to_string())
}

fn name(service: usize) -> String {
    format!("svc{service:02}")
}

/// How many applications there are to be.
pub(crate) fn applications() -> usize {
    COMMAND_LINES - FOUND * 10 + FOUND
}

/// So many monitors: one for each of the first services, and one for all the others. Whatever
/// their number, all command lines are selected.
pub(crate) fn selection(monitors: usize) -> anyhow::Result<Selection> {
    let mut text = String::new();
    for service in 1..monitors {
        let service = name(service - 1);
        writeln!(text, "[{service}]\ntype=monitor\ninclude=\\b{service}\\b")?;
    }
    writeln!(text, "[others]\ntype=monitor\nexclude=^/usr/sbin/(sshd|cron)\\b")?;
    let (monitors, _) = parse_monitors(Path::new("monitors"), text.as_bytes()).map_err(wrong)?;
    let selector = |monitor: bwmon::config::MonitorSettings| Selector {
        filter: monitor.filter,
        ignore_local: monitor.ignore_local,
        here: true,
    };
    Ok(Selection::new(monitors.into_iter().map(selector).collect()))
}

/// Two rules an application. Few of them find anything: most lines are asked about all.
pub(crate) fn groups() -> anyhow::Result<Groups> {
    let mut text = String::new();
    for application in 0..GROUP_RULES / 2 {
        writeln!(text, "[Application {application}]")?;
        writeln!(text, "executable=^/usr/(s?bin|lib(exec)?)/tool{application}d?\\b")?;
        if application < FOUND {
            let service = name(application * 2);
            writeln!(text, "shards=\\b{service}\\b.*--shard=1\\d\\b")?;
        } else {
            writeln!(text, "library=/opt/(vendor|local)/tool{application}/.*\\.(jar|py|js)( |$)")?;
        }
    }
    let applications =
        parse_applications(Path::new("applications"), text.as_bytes()).map_err(wrong)?;
    Ok(Groups::new(applications))
}

/// One rule for everybody, half of the others for some command lines or applications of a service,
/// and half for what isn't there. A tenth of those that find something fire all the time.
pub(crate) fn alerts() -> anyhow::Result<Vec<Rule>> {
    let mut text =
        "[Everybody]\nprocess_filter=.\nnotification_threshold=1000\ninterval=10\n".to_owned();
    for rule in 1..ALERTS {
        let service = name(rule / 2);
        let filter = match rule % 4 {
            0 => format!("\\b{service}\\b.*--shard=\\d\\b"),
            2 => format!("^Application {}$", rule / 4),
            _ => format!("^/usr/s?bin/(tool|helper){rule}\\b"),
        };
        let threshold = if rule % 20 == 0 { "0.01" } else { "500" };
        writeln!(text, "[Rule {rule}]\nprocess_filter={filter}\nin_threshold={threshold}")?;
        writeln!(text, "interval={}\nfor={}", 1 + rule % 30, rule % 3)?;
    }
    let rules = parse_notifications(Path::new("notifications"), text.as_bytes()).map_err(wrong)?;
    Ok(rules.into_iter().map(|notification| notification.rule).collect())
}

fn wrong(errors: Vec<ConfigError>) -> anyhow::Error {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    anyhow!(lines.join("\n"))
}
