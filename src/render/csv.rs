//! CSV (RFC 4180): a record for each row and each reason, and a header once.
//!
//! The format is described in `doc/user-manual.md`.

use csv::{Terminator, WriterBuilder};
use serde::Serialize;

use super::{Format, Frame};
use crate::escape::reversible;
use crate::model::{Account, Snapshot, SourceKind};

/// Writes the records of each refresh.
#[derive(Clone, Debug)]
pub(crate) struct Csv {
    /// The name of this host.
    pub host: String,
    /// Whether the header was written.
    is_begun: bool,
}

/// A row, or bytes without a process. The names of the fields are the columns.
#[derive(Serialize)]
struct Record<'a> {
    seq: u64,
    at: &'a str,
    elapsed_seconds: f64,
    host: &'a str,
    source: &'a str,
    kind: &'a str,
    name: String,
    total_rx_bytes: u64,
    total_tx_bytes: u64,
    recent_rx_bytes: u64,
    recent_tx_bytes: u64,
    pids: String,
}

impl Csv {
    /// Starts before the header.
    pub(crate) fn new(host: String) -> Csv {
        Csv { host, is_begun: false }
    }
}

impl Format for Csv {
    fn format(&mut self, frame: &Frame) -> Vec<u8> {
        let snapshot: &Snapshot = &frame.snapshot;
        let is_empty = snapshot.rows.is_empty() && snapshot.unattributed.is_empty();
        let header = !is_empty && !std::mem::replace(&mut self.is_begun, true);
        let mut writer = WriterBuilder::new()
            .has_headers(header)
            .terminator(Terminator::CRLF)
            .from_writer(Vec::new());
        let at = snapshot.at.to_string();
        let source = snapshot.source().map_or("", SourceKind::name);
        let record = |kind, name, Account { total, recent }, pids| Record {
            seq: snapshot.seq,
            at: &at,
            elapsed_seconds: snapshot.elapsed.as_secs_f64(),
            host: &self.host,
            source,
            kind,
            name,
            total_rx_bytes: total.received,
            total_tx_bytes: total.sent,
            recent_rx_bytes: recent.received,
            recent_tx_bytes: recent.sent,
            pids,
        };
        // In the same order at each refresh.
        let mut rows: Vec<_> = snapshot.rows.iter().collect();
        rows.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let rows = rows.into_iter().map(|row| {
            let mut pids: Vec<u32> = row.processes.iter().map(|process| process.pid).collect();
            pids.sort_unstable();
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            record(row.kind.name(), reversible(&row.name), row.account, pids.join(" "))
        });
        let unattributed = snapshot.unattributed.iter().map(|of| {
            record("unattributed", of.reason.name().to_owned(), of.account, String::new())
        });
        for record in rows.chain(unattributed) {
            // Writing to memory doesn't fail, and all records have the same fields.
            if writer.serialize(record).is_err() {
                break;
            }
        }
        writer.into_inner().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::render::examples;

    #[test]
    fn records_of_two_refreshes() {
        let mut csv = Csv::new("example".to_owned());
        let mut bytes = csv.format(&examples::frame(examples::snapshot()));
        bytes.extend(csv.format(&examples::frame(Snapshot { seq: 4, ..examples::snapshot() })));
        let text = String::from_utf8(bytes).unwrap().replace("\r\n", "\n");
        assert_eq!(text, include_str!("../../tests/fixtures/formats/example.csv"));
    }

    #[test]
    fn a_header_comes_with_the_first_record() {
        let mut csv = Csv::new(String::new());
        assert_eq!(csv.format(&examples::frame(Snapshot::default())), b"");
        let bytes = csv.format(&examples::frame(examples::snapshot()));
        assert!(bytes.starts_with(b"seq,at,elapsed_seconds,"), "{}", bytes.escape_ascii());
    }

    proptest! {
        /// Whatever a name is, a record is a line of its own that nobody takes for a formula.
        #[test]
        fn a_name_is_no_more_than_a_name(name in any::<Vec<u8>>()) {
            let mut snapshot = examples::snapshot();
            snapshot.rows.truncate(1);
            snapshot.unattributed.clear();
            snapshot.rows[0].name = name.into();
            let bytes = Csv::new("h".to_owned()).format(&examples::frame(snapshot));
            prop_assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 2);
            let mut reader = csv::Reader::from_reader(&bytes[..]);
            let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
            prop_assert_eq!(records.len(), 1);
            prop_assert!(!records[0][6].starts_with(['=', '+', '-', '@']));
        }
    }
}
