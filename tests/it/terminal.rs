//! `runmonitor` on a terminal: clearing, its size and a change of it, Ctrl-C.

use std::process::Command;

use crate::netns::{Net, PEER4};
use crate::run::OWN;
use crate::workload::Workload;

struct Seen {
    /// The refreshes at the first and at the second size, without the clear sequence.
    frames: [Vec<String>; 2],
    status: String,
    termios: String,
}

/// Runs the program in a terminal of `sizes` (rows, columns).
fn terminal(net: &Net, sizes: [[u16; 2]; 2], args: &[&str]) -> Seen {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workloads/terminal.py");
    let mut command: Command = net.watched.command("/usr/bin/python3");
    command.arg(script).args(sizes.as_flattened().iter().map(u16::to_string));
    let output =
        command.arg(env!("CARGO_BIN_EXE_runmonitor")).args(OWN).args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut seen =
        Seen { frames: Default::default(), status: String::new(), termios: String::new() };
    let mut size = 0;
    for line in text.lines() {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("FRAME", hex) => seen.frames[size].push(from_hex(hex)),
            ("SIZE", _) => size = 1,
            ("STATUS", status) => seen.status = status.to_owned(),
            ("TERMIOS", termios) => seen.termios = termios.to_owned(),
            other => panic!("{other:?} in {text}"),
        }
    }
    assert!(!seen.status.is_empty(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    seen
}

pub(crate) fn from_hex(hex: &str) -> String {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    String::from_utf8((0..hex.len()).step_by(2).map(byte).collect()).unwrap()
}

/// Four clients of known order, the busiest last.
fn clients(net: &Net) -> [Workload; 4] {
    [1, 2, 3, 4].map(|n| {
        let role = format!("tcp-client host={PEER4} port=9000 up={} down={}", n * 1000, n * 20000);
        let mut client = Workload::start(net, &net.watched, &format!("c{n}"), &role);
        client.go();
        client
    })
}

#[test]
fn a_terminal_is_cleared_and_shows_the_busiest_lines_that_fit() {
    let Some(net) = Net::new() else { return };
    let _server = Workload::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
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
    assert_eq!((seen.status.as_str(), seen.termios.as_str()), ("0", "same"));
}

/// A row that is wrapped can't be read, and pushes another one out.
#[test]
fn a_small_terminal_has_whole_rows() {
    let Some(net) = Net::new() else { return };
    let _server = Workload::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
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
    assert_eq!((seen.status.as_str(), seen.termios.as_str()), ("0", "same"));
}

#[test]
fn a_screen_without_lines_is_not_left_without_a_word() {
    let Some(net) = Net::new() else { return };
    let seen = terminal(&net, [[24, 100], [24, 100]], &["--bandwidth", "--interval", "0.2"]);
    for frame in seen.frames.iter().flatten() {
        assert!(frame.contains("runmonitor: source ebpf: "), "{frame:?}");
        assert!(frame.contains("runmonitor: nothing was received or sent\r\n"), "{frame:?}");
    }
    assert_eq!((seen.status.as_str(), seen.termios.as_str()), ("0", "same"));
}
