//! The commands of notifications that the manual and the sample recommend.

use std::process;

use super::*;
use crate::notify::Command;

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
