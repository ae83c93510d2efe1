//! `runmonitor` on a terminal: clearing, its size and a change of it, Ctrl-C.

use std::ffi::OsStr;

use testbed::endpoint::Endpoint;
use testbed::netns::{Net, PEER4};
use testbed::program::OWN;
use testbed::programs::PYTHON;
use testbed::terminal::{Seen, Sizes, on_terminal};

use crate::RUNMONITOR;

/// Runs the program in a terminal of these sizes.
fn terminal(net: &Net, sizes: Sizes, args: &[&str]) -> Seen {
    let mut command = net.watched.command(PYTHON);
    on_terminal(&mut command, sizes, RUNMONITOR);
    Seen::of(&command.args(OWN).args(args).output().unwrap())
}

/// Four clients of known order, the busiest last.
fn clients(net: &Net) -> [Endpoint; 4] {
    [1, 2, 3, 4].map(|n| {
        let role = format!("tcp-client host={PEER4} port=9000 up={} down={}", n * 1000, n * 20000);
        let mut client = Endpoint::start(net, &net.watched, &format!("c{n}"), &role);
        client.go();
        client
    })
}

#[test]
fn a_terminal_is_cleared_and_shows_the_busiest_lines_that_fit() {
    let Some(net) = Net::new() else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let _clients = clients(&net);
    let seen = terminal(&net, [[24, 100], [3, 100]], &["--source", "sockets", "--interval", "0.2"]);
    let names = |frame: &String| -> Vec<String> {
        let workload =
            |line: &str| line.split("workload.py ").nth(1).map(|rest| rest[..2].to_owned());
        frame.lines().filter_map(workload).collect()
    };
    assert!(seen.frames[0].len() >= 3 && seen.frames[1].len() >= 2);
    for frame in &seen.frames[0] {
        assert_eq!(names(frame), ["c1", "c2", "c3", "c4"], "{frame:?}");
        // The terminal makes two bytes of each newline.
        assert!(frame.ends_with("\r\n") && !frame.ends_with("\r\n\r\n"), "{frame:?}");
        assert!(!frame.contains('\x1b') && !frame.contains("$<"), "{frame:?}");
    }
    // The last row is the cursor's. Whether the frame under way was of the first size is a race.
    for frame in &seen.frames[1][1..] {
        assert_eq!(names(frame), ["c3", "c4"], "{frame:?}");
    }
    seen.expect_clean_end();
}

/// A row that is wrapped can't be read, and pushes another one out.
#[test]
fn a_small_terminal_has_whole_rows() {
    let Some(net) = Net::new() else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let _clients = clients(&net);
    let sizes = [[8, 40], [4, 20]];
    let seen = terminal(&net, sizes, &["--source", "sockets", "--interval", "0.2"]);
    // Whether the frame under way was of the first size is a race.
    let frames = [&seen.frames[0][..], &seen.frames[1][1..]];
    for (frames, [rows, columns]) in frames.into_iter().zip(sizes) {
        assert!(!frames.is_empty());
        for frame in frames {
            let lines: Vec<&str> = frame.split_terminator("\r\n").collect();
            let expected = usize::from(rows - 1).min(4);
            assert_eq!(lines.len(), expected, "{frame:?}");
            for line in lines {
                assert_eq!(line.chars().count(), usize::from(columns), "{frame:?}");
                let name = if columns == 40 { " -- /usr/bin/p..." } else { " /usr/bi..." };
                assert!(line.ends_with(name), "{frame:?}");
            }
        }
    }
    seen.expect_clean_end();
}

#[test]
fn a_screen_without_lines_is_not_left_without_a_word() {
    let Some(net) = Net::new() else { return };
    let seen = terminal(&net, [[24, 100], [24, 100]], &["--bandwidth", "--interval", "0.2"]);
    for frame in seen.frames.iter().flatten() {
        assert!(frame.contains("runmonitor: source ebpf: "), "{frame:?}");
        assert!(frame.contains("runmonitor: nothing was received or sent\r\n"), "{frame:?}");
    }
    seen.expect_clean_end();
}

/// To a terminal of eight bits the second byte of U+00DB is CSI.
#[test]
fn a_terminal_that_is_not_utf8_gets_ascii() {
    let Some(net) = Net::new() else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 up=5000");
    let name = OsStr::new("\u{db}2J-\u{4e9b}");
    let mut client = Endpoint::start_as(&net, &net.watched, &[], name, &role);
    client.go();
    for (locale, expected) in [
        ("C", r"\u{db}2J-\u{4e9b}"),
        ("de_DE.ISO-8859-1", r"\u{db}2J-\u{4e9b}"),
        ("C.UTF-8", "\u{db}2J-\u{4e9b}"),
    ] {
        let mut command = net.watched.command(PYTHON);
        on_terminal(&mut command, [[24, 200], [24, 100]], RUNMONITOR);
        command.args(OWN).args(["--source", "sockets", "--interval", "0.2"]);
        let seen = Seen::of(&command.env("LC_ALL", locale).output().unwrap());
        for frame in seen.frames.iter().flatten() {
            assert!(frame.contains(expected), "{locale}: {frame:?}");
            assert!(frame.is_ascii() || locale == "C.UTF-8", "{locale}: {frame:?}");
        }
        seen.expect_clean_end();
    }
}
