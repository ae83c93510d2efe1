//! A refresh with one of everything, for the tests of formats.

use std::sync::Arc;
use std::time::Duration;

use super::Frame;
use crate::model::owner::Reason;
use crate::model::traffic::{Name, Traffic};
use crate::model::{
    Account, Direction, Health, Kind, Looked, Notification, Process, ProcessFacts, Row, Snapshot,
    SourceKind, State, Unattributed, Unread,
};

fn name(text: &str) -> Name {
    text.as_bytes().into()
}

fn account(received: u64, sent: u64) -> Account {
    let total = Traffic::new(received * 10, sent * 10);
    Account { total, recent: Traffic::new(received, sent) }
}

pub(super) fn snapshot() -> Snapshot {
    let facts = ProcessFacts {
        comm: name("wget"),
        cmdline: name("wget\0http://example.com/\0"),
        exe: Some(name("/usr/bin/wget")),
        uid: Some(1000),
        user: Some(name("jo")),
        unit: Some(name("user@1000/app.scope")),
        container: None,
        pod: None,
        netns: Some(4_026_531_840),
    };
    let process = |pid, account, facts| Process {
        pid,
        start: 7_000 + u64::from(pid),
        command_line: name("wget http://example.com/ "),
        account,
        facts,
        ..Process::of(pid)
    };
    let row =
        |name: Name, kind, account, processes| Row { account, processes, ..Row::of(name, kind) };
    let wget = vec![
        process(4711, account(100_000, 2_000), Some(Arc::new(facts))),
        process(4712, account(50_000, 1_000), None),
    ];
    let rows = vec![
        row(name("wget http://example.com/ "), Kind::Process, account(150_000, 3_000), wget),
        row(name("web, \"proxies\""), Kind::Application, account(2, 1), Vec::new()),
        row(name("pipe-8080:db:5432"), Kind::Pipe, account(50, 60), Vec::new()),
        row(name("=1+1\n\u{1b}[2J\\"), Kind::Group, account(1, 0), Vec::new()),
        row((*b"\xff\xfe").into(), Kind::Process, account(0, 9), Vec::new()),
        row(name("(ended)"), Kind::Folded, account(4, 4), Vec::new()),
    ];
    let unattributed = vec![
        Unattributed { reason: Reason::Forwarded, account: account(1_000, 1_000) },
        Unattributed { reason: Reason::NoPermission, account: account(7, 8) },
    ];
    let alert = Notification {
        rule: 0,
        rule_name: name("busy"),
        application: name("web, \"proxies\""),
        direction: Direction::In,
        threshold: 100.0,
        value: 146.5,
        state: State::Firing,
        repeated: false,
    };
    let looked = Looked {
        flows: 12,
        unread: Unread { namespaces: Some((1, 4)), ..Unread::default() },
        ..Looked::default()
    };
    let mut snapshot = Snapshot {
        seq: 3,
        at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        elapsed: Duration::from_millis(1_500),
        rows,
        unattributed,
        left_out: account(5, 6),
        alerts: vec![alert],
        health: vec![Health { source: SourceKind::Ebpf, looked }],
        ..Snapshot::default()
    };
    snapshot.counted = snapshot.sum();
    snapshot
}

pub(super) fn frame(snapshot: Snapshot) -> Frame {
    let above = vec!["a line above the list".to_owned()];
    Frame { snapshot: Arc::new(snapshot), above, if_empty: None, alerts: Vec::new() }
}
