//! `--include`, `--exclude` and `--ignore-local`.

use testbed::endpoint::Endpoint;
use testbed::netns::{Net, PEER4, WATCHED4, WATCHED6};

use crate::RUNMONITOR;

/// Three clients with a few bytes each, of which these have lines.
fn shown(args: &[&str], expected: &[&str]) {
    let Some(net) = Net::new() else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    // The note lies behind the 60th character: regular expressions see the uncut command line.
    let role = |note| format!("tcp-client host={PEER4} port=9000 up=5000 note={note}");
    let _clients = [("alpha", "behind-one"), ("beta", "behind-two"), ("gamma", "behind-one")].map(
        |(name, note)| {
            let mut client = Endpoint::start(&net, &net.watched, name, &role(note));
            client.go();
            client
        },
    );
    for source in ["conntrack", "sockets"] {
        let mut all = vec!["--source", source];
        all.extend(args);
        let refresh = RUNMONITOR.once(&net.watched, &all);
        for name in ["alpha", "beta", "gamma"] {
            let has = refresh.workload(name).total() > 0;
            assert_eq!(has, expected.contains(&name), "{name} with {all:?}: {refresh:#?}");
        }
        assert_eq!(refresh.lines.len(), expected.len(), "{all:?}: {refresh:#?}");
    }
}

#[test]
fn without_a_filter_all_are_shown() {
    shown(&[], &["alpha", "beta", "gamma"]);
}

#[test]
fn include_searches_anywhere() {
    shown(&["--include", "lph|amm"], &["alpha", "gamma"]);
}

#[test]
fn include_sees_the_uncut_command_line() {
    shown(&["--include=behind-one"], &["alpha", "gamma"]);
}

#[test]
fn several_includes_are_an_or() {
    shown(&["--include", "alpha", "--include", "beta"], &["alpha", "beta"]);
}

#[test]
fn the_command_line_ends_in_one_space() {
    shown(&["--include", "behind-two $"], &["beta"]);
}

#[test]
fn exclude_leaves_out() {
    shown(&["--exclude", "alpha", "--exclude=beta"], &["gamma"]);
}

#[test]
fn exclude_overrides_include() {
    shown(&["--exclude", "gamma", "--include", "behind-one"], &["alpha"]);
}

#[test]
fn the_beginning_of_a_flag_is_enough() {
    shown(&["--inc", "alpha"], &["alpha"]);
}

#[test]
fn a_value_may_begin_with_a_dash() {
    shown(&["--include", "-two"], &["beta"]);
}

#[test]
fn ignore_local_leaves_out_what_stays_on_this_host() {
    let Some(net) = Net::new() else { return };
    let serve = |namespace, name: &str| {
        Endpoint::start(&net, namespace, name, "tcp-server mode=threaded host=:: dual port=9000")
    };
    let _servers = [serve(&net.watched, "near-server"), serve(&net.peer, "far-server")];
    let hosts = [
        ("local-1", "127.0.0.1"),
        ("local-2", "127.9.9.9"),
        ("local-3", "::1"),
        ("local-4", WATCHED4),
        ("local-5", WATCHED6),
        ("local-6", "::ffff:127.0.0.1"),
        ("remote", PEER4),
    ];
    let _clients = hosts.map(|(name, host)| {
        let role = format!("tcp-client host={host} port=9000 up=5000");
        let mut client = Endpoint::start(&net, &net.watched, name, &role);
        client.go();
        client
    });
    for source in ["conntrack", "sockets"] {
        let all = RUNMONITOR.once(&net.watched, &["--source", source]);
        assert_eq!(all.lines.len(), hosts.len() + 1, "{source}: {all:#?}");
        let remote = RUNMONITOR.once(&net.watched, &["--source", source, "--ignore-local"]);
        assert_eq!(remote.lines.len(), 1, "{source}: {remote:#?}");
        assert_eq!(remote.workload("remote"), all.workload("remote"), "{source}");
    }
}
