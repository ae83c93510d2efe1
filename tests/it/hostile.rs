//! Command lines that want to do something to the terminal.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use testbed::endpoint::Endpoint;
use testbed::netns::{Net, PEER4};
use testbed::running::Running;

use crate::RUNMONITOR;

/// Nothing here may reach stdout as it is; the harness itself refuses control characters and what
/// is not UTF-8.
const NAMES: &[&[u8]] = &[
    b"h0-\x1b[2J\x1b]0;owned\x07",
    b"h1-\r\n         1 /",
    b"h2-\xff\xfe\xc3\x28",
    "h3-\u{9b}31m\u{85}".as_bytes(),
    "h4-\u{202e}txt\u{2066}".as_bytes(),
    "h5-\u{2028}\u{2029}".as_bytes(),
    b"h6-\x7f\x08\t\x0b\x01",
];

#[test]
fn a_hostile_command_line_is_shown_and_does_nothing() {
    let Some(net) = Net::new() else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 up=5000");
    let _clients: Vec<_> = NAMES
        .iter()
        .map(|name| {
            let name = OsStr::from_bytes(name);
            let mut client = Endpoint::start_as(&net, &net.watched, &[], name, &role);
            client.go();
            client
        })
        .collect();
    for source in ["conntrack", "sockets"] {
        let finished =
            Running::start(RUNMONITOR.inside(&net.watched, &["--source", source, "--count", "1"]))
                .finish();
        let refresh = finished.single_refresh();
        finished.expect("lines", refresh.lines.len(), NAMES.len());
        for index in 0..NAMES.len() {
            let beginning = format!("workload.py h{index}-");
            finished.expect(&beginning, refresh.has(&beginning), true);
        }
        let text = String::from_utf8_lossy(&finished.stdout);
        let invisible = |c: char| matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if let Some(found) = text.chars().find(|&c| invisible(c)) {
            finished.fail(&format!("{found:?} stands on stdout"));
        }
    }
}

#[test]
fn a_filter_finds_the_raw_bytes_of_a_command_line() {
    let Some(net) = Net::new() else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 up=5000");
    let name = OsStr::from_bytes(b"raw-\xff\x1b[m");
    let mut client = Endpoint::start_as(&net, &net.watched, &[], name, &role);
    client.go();
    for (pattern, lines) in [(r"(?-u:\xff)\x1b\[m", 1), (r"\\x1b", 0)] {
        let args = ["--source", "sockets", "--count", "1", "--include", pattern];
        let finished = Running::start(RUNMONITOR.inside(&net.watched, &args)).finish();
        finished.expect(pattern, finished.single_refresh().lines.len(), lines);
    }
}
