//! Replays of the recordings in `tests/fixtures/recordings`.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::*;

/// Every recording.
fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recordings");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|e| e == "jsonl")).collect();
    files.sort();
    files
}

/// Replays a recording. Fails unless the results are those of the run, no byte is lost or doubled, and the right names
/// have the bytes that nft has counted.
fn replay(path: &Path) {
    let name = path.file_name().unwrap().to_string_lossy();
    let mut player = Player::open(BufReader::new(File::open(path).unwrap())).unwrap();
    let mut last = Figures::default();
    for (number, refresh) in player.by_ref().enumerate() {
        let Replayed { recorded, replayed, snapshot } =
            refresh.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(recorded, replayed, "{name}, refresh {number}: in the run, and now");
        assert_eq!(snapshot.sum(), snapshot.counted, "{name}, refresh {number}");
        assert_eq!(replayed.sum(), replayed.counted, "{name}, refresh {number}");
        let (before, now) = (last.counted.0, replayed.counted.0);
        assert!(now[0] >= before[0] && now[1] >= before[1], "{name}: a total has fallen");
        last = replayed;
    }
    let truth = player.truth().unwrap_or_else(|| panic!("{name}: no truth"));
    // Sockets count payload, which nft doesn't.
    assert_eq!(truth.owners.is_empty(), player.source() == "sockets", "{name}");
    for (names, bytes) in &truth.owners {
        let got = last.owned(names);
        for (got, truth_of) in got.iter().zip(bytes) {
            let share = 100.0 * *got as f64 / *truth_of as f64;
            let range = truth.floor..=100.1;
            assert!(range.contains(&share), "{name}: {names:?} have {got} of {truth_of}");
        }
    }
    if let Some(sum) = truth.sum {
        assert_eq!(last.sum().0, sum, "{name}: all rows and reasons, and what nft has counted");
    }
}

/// A test for each recording, and a check that each recording has one.
macro_rules! replayed {
    ($($name:ident: $file:literal,)*) => {
        $(
            #[test]
            fn $name() {
                let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recordings");
                replay(&folder.join(concat!($file, ".jsonl")));
            }
        )*

        #[test]
        fn every_recording_is_replayed() {
            let stem = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
            let recordings: Vec<String> = recordings().iter().map(stem).collect();
            let mut replayed = [$($file),*];
            replayed.sort_unstable();
            assert_eq!(recordings, replayed);
        }
    };
}

replayed! {
    short_connections: "conntrack-churn",
    connections_that_are_reset: "conntrack-resets",
    one_tuple_again_and_again_reset: "conntrack-reuse_reset",
    one_tuple_again_and_again_closed: "conntrack-reuse_close",
    a_table_that_is_flushed: "conntrack-flush",
    processes_that_live_a_moment: "conntrack-processes_5ms",
    a_forking_server: "conntrack-forking",
    a_forking_server_of_short_connections: "conntrack-forking_short",
    a_preforked_server: "conntrack-preforked",
    a_preforked_server_of_short_connections: "conntrack-preforked_short",
    a_redirected_server: "conntrack-redirected",
    a_connection_that_is_accepted_late: "conntrack-accepted_late",
    a_client_in_a_container: "conntrack-container_client",
    a_client_in_a_container_that_tracks: "conntrack-container_tracks",
    a_server_in_a_container: "conntrack-container_server_short",
    short_connections_counted_by_sockets: "sockets-churn",
    a_connection_that_is_accepted_late_counted_in_the_kernel: "ebpf-accepted_late",
    short_connections_counted_in_the_kernel: "ebpf-churn",
    a_forking_server_counted_in_the_kernel: "ebpf-forking",
    a_forking_server_of_short_connections_counted_in_the_kernel: "ebpf-forking_short",
    a_preforked_server_counted_in_the_kernel: "ebpf-preforked",
    a_preforked_server_of_short_connections_counted_in_the_kernel: "ebpf-preforked_short",
    processes_that_live_a_moment_counted_in_the_kernel: "ebpf-processes_5ms",
}

/// The error of replaying these lines.
fn error(lines: &[&str]) -> String {
    match Player::open(lines.join("\n").as_bytes()) {
        Ok(player) => player
            .map(|refresh| refresh.map(drop))
            .find_map(Result::err)
            .map_or_else(|| "no error".to_owned(), |error| error.to_string()),
        Err(error) => error.to_string(),
    }
}

const HEADER: &str = r#"{"bwmon-recording":1,"source":"conntrack","lookback":true}"#;

#[test]
fn what_is_no_recording_of_this_version_is_refused() {
    let version = HEADER.replace(":1", ":2");
    assert_eq!(
        error(&[&version]),
        "line 1: not a recording of version 1 (it is of version 2): it begins with \
         {\"bwmon-recording\":1,...}; record it again"
    );
    for text in ["", "tcp 6 src=10.0.0.1", "{}"] {
        let error = error(&[text]);
        assert!(error.starts_with("line 1: not a recording of version 1"), "{error}");
    }
}

#[test]
fn a_line_that_is_not_understood_is_named() {
    let unknown = error(&[HEADER, r#"{"look":1}"#, r#"{"glance":1}"#]);
    assert!(unknown.starts_with("line 3: unknown variant `glance`"), "{unknown}");
    for (line, why) in [
        (r#"{"flows":[7]}"#, "line 2: number 7 of 0"),
        (r#"{"quiet":[0]}"#, "line 2: number 0 of 0"),
        (r#"{"addresses":[0,["here"],[]]}"#, "line 2: no address: \"here\""),
        (
            r#"{"share":["weather",[1,1],[0,0],null,false]}"#,
            "line 2: no owner: Nobody(\"weather\")",
        ),
        (r#"{"slot":[[4294967295,1],[1,1,0,0],0,null]}"#, "line 2: slot 4294967295 of 16777216"),
    ] {
        assert_eq!(error(&[HEADER, line]), why);
    }
}

/// A core that queries more than the recorded one gets no answer that looks right.
#[test]
fn a_question_that_was_not_recorded_is_an_error() {
    let share = r#"{"share":[[12,345],[10,20],[0,0],null,false]}"#;
    assert_eq!(
        error(&[HEADER, share]),
        "line 2: nothing is recorded of how process 12, begun at 345, is named; if the core rightly asks, \
         record it again"
    );
}

#[test]
fn rows_are_read_back_as_they_were_written() {
    use crate::recording::format::TupleText;

    for text in ["6 10.77.0.1:40000 [fd77::1]:9000", "1 [::1]:0 0.0.0.0:65535"] {
        let TupleText(tuple) = TupleText::try_from(text.to_owned()).unwrap();
        assert_eq!(String::from(TupleText(tuple)), text);
    }
    for text in [
        "",
        "6",
        "6 10.0.0.1 10.0.0.2:1",
        "x 10.0.0.1:1 10.0.0.2:1",
        "6 a:1 b:2",
        "6 1.1.1.1:1 1.1.1.1:1 x",
    ] {
        assert!(TupleText::try_from(text.to_owned()).is_err(), "{text}");
    }
    let raw = Text::from(&b"a\xff"[..]);
    assert_eq!(serde_json::to_string(&raw).unwrap(), "[97,255]");
    assert_eq!(serde_json::from_str::<Text>("[97,255]").unwrap(), raw);
}
