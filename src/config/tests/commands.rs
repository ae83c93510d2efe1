//! Commands of notifications: where they may run, and those that the manual and the sample recommend.

use std::process;

use super::*;
use crate::notify::Command;

#[test]
fn a_command_with_a_name_in_a_word_needs_a_trusted_directory() {
    let text = b"[a]\nprocess_filter=x\nnotification_command=logger {rule} {value} {print}\n\
        [b]\nprocess_filter=x\nnotification_command=logger x\nresolved_command=logger 'x {app}'\n\
        [c]\nprocess_filter=x\nnotification_command=logger {app}\n";
    let shared = || {
        let why = Box::new(Problem::Writable(0o1777));
        Err(Problem::WorkingDirectory { folder: "/tmp".to_owned(), why })
    };
    let parse = |text, folder| notifications::parse_in(Path::new("f"), text, folder);
    // All would say the same.
    assert_eq!(
        lines(&parse(text, shared).unwrap_err()),
        [
            "f:7: [b] resolved_command: {app} may be taken for a file of the working directory, and /tmp can be \
             written by others than its owner (mode 1777); expected a directory of root or of the user who runs \
             the program (with sudo: who calls it) that nobody else can write; to fix it: start the program \
             elsewhere (cd /), or use $BWMON_APP in a script"
        ]
    );
    assert_eq!(parse(text, || Ok(())).unwrap().len(), 3);
    // Only commands with an application's name need it.
    let first = &text[..text.iter().position(|byte| *byte == b'{').unwrap()];
    assert_eq!(parse(first, shared).unwrap().len(), 1);
    let default = b"[DEFAULT]\nnotification_command=x {app}\n[a]\nprocess_filter=x\n";
    let errors = lines(&parse(default, shared).unwrap_err());
    assert!(errors[0].starts_with("f:2: [DEFAULT] notification_command: "), "{errors:?}");
}

/// The commands in this text that append to a log.
fn recommended(text: &str) -> Vec<&str> {
    let lines = text.lines().map(|line| line.trim_start_matches(['#', ' ']));
    lines
        .map(|line| line.strip_prefix("notification_command=").unwrap_or(line))
        .filter(|line| line.starts_with("sh -c '") && line.contains("$BWMON_APP"))
        .filter(|line| line.contains(">> "))
        .collect()
}

/// The `echo` of dash interprets backslashes.
#[test]
fn what_the_manual_and_the_sample_recommend_writes_one_line() {
    let log = std::env::temp_dir().join(format!("bwmon-recommended-{}", process::id()));
    for text in
        [include_str!("../../../doc/user-manual.md"), include_str!("../../../notify.sample.cfg")]
    {
        let commands = recommended(text);
        assert!(!commands.is_empty());
        for command in commands {
            // As it is read from a file.
            let file = format!("[a]\nprocess_filter=x\nnotification_command={command}\n");
            let read = parse_notifications(Path::new("f"), file.as_bytes()).unwrap();
            let words = read[0].commands.firing.as_ref().map(Command::words).unwrap();
            let [shell, option, script] = words else { panic!("{words:?}") };
            let (script, _) = script.rsplit_once(">> ").unwrap();
            let status = process::Command::new(format!("/bin/{shell}"))
                .args([option, &format!("{script}>> {}", log.display())])
                .env("BWMON_APP", r"e0-\033[2J\033]0;owned\007\nFORGED LINE\c")
                .env("BWMON_THRESHOLD_KIBPS", "100.00")
                .status()
                .unwrap();
            let written = std::fs::read_to_string(&log).unwrap();
            std::fs::remove_file(&log).unwrap();
            assert!(status.success(), "{command}");
            assert_eq!(
                written, "e0-\\033[2J\\033]0;owned\\007\\nFORGED LINE\\c exceeds 100.00 KiB/s\n",
                "{command}"
            );
        }
    }
}
