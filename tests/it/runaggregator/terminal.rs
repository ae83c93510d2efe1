//! `runaggregator` on a terminal.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use testbed::leftovers::Dir;
use testbed::ports::free_port;
use testbed::programs::PYTHON;
use testbed::streams::{LOCAL, Remote, connect, listens};
use testbed::terminal::{Seen, on_terminal};
use testbed::wait::eventually;

use super::{FILES, pipe, write_files};
use crate::RUNAGGREGATOR;

#[test]
fn a_screen_is_cleared_and_an_alert_stays_on_it() {
    let (remote, port, dir) = (Remote::new(), free_port(), Dir::new());
    let rule = "[Rule]\nprocess_filter=.\nin_threshold=1\nrepeat_interval=3600\ninterval=60\n";
    let monitors = pipe(port, "127.0.0.1", remote.address().port());
    write_files(&dir.0, &monitors, "[Upload]\na=^pipe-\n", rule);
    let mut command = Command::new(PYTHON);
    on_terminal(&mut command, [[24, 100], [20, 90]], RUNAGGREGATOR);
    command.args(FILES).args(["--interval", "0.7", "--drain-timeout", "0.1"]).current_dir(&dir.0);
    command.env("HOLD", "hold");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the program listens", || listens(child.id(), port));
    // Until the program cuts it.
    let client = connect((LOCAL, port).into());
    let mut served = remote.accept();
    super::write(&dir.0, "hold", "");
    let busy = thread::spawn(move || {
        let mut block = [0; 20_000];
        while (&client).write_all(&block).is_ok() && served.read_exact(&mut block).is_ok() {
            thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    let output = child.wait_with_output().unwrap();
    busy.join().unwrap();
    let seen = Seen::of(&output);
    let frames = seen.frames.concat();
    assert!(frames.len() >= 4, "{frames:#?}");
    let alert = "Upload exceeding 'in' bandwidth limit       1.00: ";
    // The line itself is written once, which the next refresh wipes away. From then on the screen
    // has it above the list.
    let first = frames.iter().position(|frame| frame.contains(alert)).expect("an alert");
    assert!(first + 1 < frames.len(), "{frames:#?}");
    for frame in &frames[first + 1..] {
        let lines: Vec<&str> = frame.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 2, "{frame:?}");
        assert!(lines[0].contains(alert) && lines[1].ends_with(" KiB -- Upload"), "{frame:?}");
    }
    assert!(frames.iter().all(|frame| !frame.contains('\x1b')), "{frames:#?}");
    seen.expect_clean_end();
}
