//! What the programs print for programs: JSON Lines, held to their schema, and CSV.

use std::fs;
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::Value;

use crate::bytes::Bytes;

/// The schema, as the documentation has it.
fn schema() -> &'static Validator {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../doc/snapshot.schema.json");
        let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        jsonschema::validator_for(&schema).unwrap()
    })
}

/// A line of `--format json`, which has to be what the schema says.
pub struct Snapshot(pub Value);

/// The snapshots of an output of whole lines; what follows the last newline is left out.
pub fn snapshots(output: &[u8]) -> Vec<Snapshot> {
    let end = output.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    output[..end].split_inclusive(|byte| *byte == b'\n').map(Snapshot::read).collect()
}

impl Snapshot {
    /// Reads one, and compares it with the schema.
    pub fn read(line: &[u8]) -> Snapshot {
        let shown = || String::from_utf8_lossy(line).into_owned();
        let value: Value = serde_json::from_slice(line)
            .unwrap_or_else(|error| panic!("no JSON: {error}\n{}", shown()));
        let errors: Vec<String> =
            schema().iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path)).collect();
        assert!(errors.is_empty(), "not as the schema says: {errors:?}\n{}", shown());
        Snapshot(value)
    }

    /// Which one it is.
    pub fn seq(&self) -> u64 {
        self.0["seq"].as_u64().unwrap()
    }

    /// The rows.
    pub fn rows(&self) -> &[Value] {
        self.0["rows"].as_array().unwrap()
    }

    /// The row whose name contains this.
    pub fn row(&self, part: &str) -> Option<&Value> {
        let is_it = |row: &&Value| row["name"].as_str().is_some_and(|name| name.contains(part));
        self.rows().iter().find(is_it)
    }

    /// What all rows, reasons and what is left out come to in `total` or `recent`.
    pub fn sum(&self, what: &str) -> Bytes {
        let all = self.rows().iter().chain(self.0["unattributed"].as_array().unwrap());
        let all = all.chain([&self.0["left_out"]]);
        all.map(|account| bytes(&account[what])).fold(Bytes::default(), |sum, of| sum + of)
    }
}

/// The bytes of an object with `rx_bytes` and `tx_bytes`.
pub fn bytes(of: &Value) -> Bytes {
    let number = |key: &str| of[key].as_u64().unwrap();
    Bytes { received: number("rx_bytes"), sent: number("tx_bytes") }
}
