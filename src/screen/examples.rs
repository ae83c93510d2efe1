//! Refreshes of a host with a bit of everything, for tests and pictures.

use std::sync::Arc;
use std::time::Duration;

use crate::model::flow::{Endpoint, Protocol};
use crate::model::owner::Reason;
use crate::model::traffic::{Name, Traffic};
use crate::model::{
    Account, Attributes, Detail, Health, Interface, Kind, Looked, Process, ProcessFacts, Remote,
    Row, Snapshot, SourceKind, Unattributed,
};
use crate::render::Frame;

/// A row of the example.
pub(super) struct Example {
    pub name: &'static str,
    pub kind: Kind,
    pub pids: &'static [u32],
    pub user: &'static str,
    pub unit: &'static str,
    pub container: &'static str,
    /// Protocol, port here, remote end, interface, and the part of the bytes in percent.
    pub ends: &'static [(Protocol, u16, &'static str, &'static str, u64)],
    /// Received and sent bytes in each second, in turns.
    pub bytes: &'static [(u64, u64)],
}

const TCP: Protocol = Protocol::TCP;
const UDP: Protocol = Protocol::UDP;

/// The rows of the example.
pub(super) const ROWS: &[Example] = &[
    Example {
        name: "wget -q -O /dev/null --limit-rate=3M https://mirror.example.org/debian-12.iso",
        kind: Kind::Process,
        pids: &[4711],
        user: "jo",
        unit: "session-3.scope",
        container: "",
        ends: &[(TCP, 40122, "198.51.100.7:443", "eth0", 100)],
        bytes: &[(52, 52), (0, 0), (104, 52), (12_007_576, 61_000)],
    },
    Example {
        name: "nginx: worker process",
        kind: Kind::Process,
        pids: &[812, 813, 814, 815],
        user: "www-data",
        unit: "nginx.service",
        container: "",
        ends: &[
            (TCP, 443, "203.0.113.9:51820", "eth0", 50),
            (TCP, 443, "203.0.113.77:40001", "eth0", 30),
            (TCP, 443, "[2001:db8::17]:39444", "eth0", 15),
            (TCP, 80, "192.0.2.200:33012", "eth0", 5),
        ],
        bytes: &[
            (81_000, 1_930_000),
            (77_500, 2_100_000),
            (90_400, 1_800_000),
            (79_000, 2_250_000),
            (60_000, 1_500_000),
        ],
    },
    Example {
        name: "postgres: 15/main: walreceiver streaming",
        kind: Kind::Process,
        pids: &[1203],
        user: "postgres",
        unit: "postgresql@15-main.service",
        container: "",
        ends: &[(TCP, 50112, "10.8.0.4:5432", "wg0", 100)],
        bytes: &[(410_000, 9_000), (433_000, 9_400), (395_000, 8_800)],
    },
    Example {
        name: "redis-server *:6379",
        kind: Kind::Process,
        pids: &[2290],
        user: "999",
        unit: "docker-4f1cb0ddf3a2.scope",
        container: "4f1cb0ddf3a2",
        ends: &[
            (TCP, 6379, "172.17.0.3:48200", "docker0", 60),
            (TCP, 6379, "172.17.0.4:48822", "docker0", 40),
        ],
        bytes: &[(120_000, 88_000), (118_000, 84_000)],
    },
    Example {
        name: "/usr/bin/python3 /opt/backup/agent.py --target s3://archive --part-size 8M",
        kind: Kind::Process,
        pids: &[3101, 3102],
        user: "backup",
        unit: "backup.service",
        container: "",
        ends: &[(TCP, 45000, "[2001:db8:52::12]:443", "eth0", 100)],
        bytes: &[(900, 0), (1_200, 620_000), (800, 640_000), (700, 30)],
    },
    Example {
        name: "ssh -N bastion.example.org -L 5900:desk:5900",
        kind: Kind::Process,
        pids: &[5120],
        user: "jo",
        unit: "session-3.scope",
        container: "",
        ends: &[(TCP, 51011, "10.8.0.1:22", "wg0", 100)],
        bytes: &[(1_500, 900), (1_400, 800), (0, 0)],
    },
    Example {
        name: "/usr/sbin/chronyd -F 1",
        kind: Kind::Process,
        pids: &[655],
        user: "_chrony",
        unit: "chrony.service",
        container: "",
        ends: &[(UDP, 33000, "192.0.2.123:123", "eth0", 100)],
        bytes: &[(76, 76), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)],
    },
    Example {
        name: "pipe-8080:db:5432",
        kind: Kind::Pipe,
        pids: &[],
        user: "",
        unit: "",
        container: "",
        ends: &[],
        bytes: &[(5_000, 7_000), (5_100, 7_700)],
    },
    Example {
        name: "(ended)",
        kind: Kind::Folded,
        pids: &[],
        user: "",
        unit: "",
        container: "",
        ends: &[],
        bytes: &[(0, 0)],
    },
];

fn name(text: &str) -> Name {
    text.as_bytes().into()
}

fn optional(text: &str) -> Option<Name> {
    (!text.is_empty()).then(|| name(text))
}

fn part(of: Account, percent: u64) -> Account {
    let part = |of: Traffic| Traffic::new(of.received * percent / 100, of.sent * percent / 100);
    Account { total: part(of.total), recent: part(of.recent) }
}

fn row(example: &Example, second: u64) -> Row {
    let bytes = |second: u64| {
        let (received, sent) = example.bytes[second as usize % example.bytes.len()];
        // No traffic is quite the same in each second.
        let seed = (second + 7) * (example.name.len() as u64 + 3) * 2_654_435_761;
        let percent = 70 + (seed >> 9) % 60;
        Traffic::new(received * percent / 100, sent * percent / 100)
    };
    let before = Traffic::new(123_456_789, 9_876_543);
    let total = (0..=second).map(bytes).fold(before, |sum, of| sum + of);
    let account = Account { total, recent: bytes(second) };
    let program = example.name.split(' ').next().unwrap().rsplit('/').next().unwrap();
    let attributes = Arc::new(Attributes {
        program: optional(program),
        exe: optional(&format!("/usr/bin/{}", program.trim_end_matches(':'))),
        user: optional(example.user),
        unit: optional(example.unit),
        container: optional(example.container),
        pod: None,
    });
    let facts = Arc::new(ProcessFacts { comm: name(program), ..ProcessFacts::default() });
    let details = example.ends.iter().map(|(protocol, local_port, end, interface, percent)| {
        let end: std::net::SocketAddr = end.parse().unwrap();
        let remote = Remote {
            protocol: *protocol,
            local_port: *local_port,
            remote: Endpoint::new(end.ip().into(), end.port()),
            interface: Interface::named(interface.as_bytes()),
        };
        Detail { remote: Some(remote), account: part(account, *percent) }
    });
    let details: Vec<Detail> = details.collect();
    let share = 100 / example.pids.len().max(1) as u64;
    let of_process = |detail: &Detail| Detail { account: part(detail.account, share), ..*detail };
    let processes = example.pids.iter().map(|pid| Process {
        start: 100 + u64::from(*pid),
        command_line: name(example.name),
        account: part(account, share),
        attributes: Some(attributes.clone()),
        facts: Some(facts.clone()),
        details: details.iter().map(of_process).collect(),
        ..Process::of(*pid)
    });
    Row {
        account,
        processes: processes.collect(),
        details: details.clone(),
        ..Row::of(name(example.name), example.kind)
    }
}

/// The refresh of this second, from 0.
pub(super) fn at(second: u64) -> Snapshot {
    of_rows(second, ROWS.iter().map(|example| row(example, second)).collect())
}

/// A refresh of this second with these rows.
pub(super) fn of_rows(second: u64, rows: Vec<Row>) -> Snapshot {
    let account = |bytes: u64| Account {
        total: Traffic::new(bytes * 40 * (second + 1), bytes * (second + 1)),
        recent: Traffic::new(bytes * 40, bytes),
    };
    let unattributed = vec![
        Unattributed { reason: Reason::Kernel, account: account(120) },
        Unattributed { reason: Reason::Exited, account: account(11) },
    ];
    let looked = Looked { flows: 12, ..Looked::default() };
    let epoch = Snapshot::default();
    // One moment for the whole of a test.
    let begun = *BEGUN.get_or_init(|| epoch.instant);
    let mut snapshot = Snapshot {
        seq: second + 1,
        at: "2026-01-02T03:04:05Z".parse().unwrap(),
        instant: begun + Duration::from_secs(second),
        elapsed: if second == 0 { Duration::ZERO } else { Duration::from_secs(1) },
        rows,
        unattributed,
        health: vec![Health { source: SourceKind::Ebpf, looked }],
        ..epoch
    };
    snapshot.counted = snapshot.sum();
    snapshot
}

static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();

/// A refresh.
pub(super) fn snapshot() -> Snapshot {
    at(3)
}

/// A refresh without messages.
pub(super) fn frame(snapshot: Snapshot) -> Frame {
    let (above, alerts) = Default::default();
    let if_empty = Some("runmonitor: nothing was received or sent".to_owned());
    Frame { snapshot: Arc::new(snapshot), above, if_empty, alerts }
}
