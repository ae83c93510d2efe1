//! The program's output where stdout is no terminal: refreshes of lines, each ended by an empty
//! line.

use crate::bytes::Bytes;

/// One line of a refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub bytes: Bytes,
    pub command: String,
}

/// With what the lines of this name's processes begin, of either kind of workload.
pub fn beginnings(name: &str) -> [String; 2] {
    ["/usr/bin/python3 workload.py", "./short"].map(|program| format!("{program} {name} "))
}

/// One refresh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refresh {
    pub lines: Vec<Line>,
}

impl Refresh {
    /// The bytes on the workload's line; nothing if it has none.
    pub fn workload(&self, name: &str) -> Bytes {
        self.starting_with(&format!("/usr/bin/python3 workload.py {name} "))
    }

    /// The bytes on all lines of this name's processes, of either kind of workload.
    pub fn named(&self, name: &str) -> Bytes {
        let beginnings = beginnings(name);
        let of_it = |line: &&Line| beginnings.iter().any(|b| line.command.starts_with(b));
        self.lines.iter().filter(of_it).map(|line| line.bytes).sum()
    }

    /// The bytes of an owner: a process's name, or a reason in parentheses.
    pub fn owned(&self, owner: &str) -> Bytes {
        if owner.starts_with('(') { self.reason(owner) } else { self.named(owner) }
    }

    /// The bytes on all lines of reasons.
    pub fn unattributed(&self) -> Bytes {
        let reasons = self.lines.iter().filter(|line| line.command.starts_with('('));
        reasons.map(|line| line.bytes).sum()
    }

    /// The bytes on the line of a reason, like `(forwarded)`.
    pub fn reason(&self, name: &str) -> Bytes {
        self.starting_with(name)
    }

    /// All bytes, both directions.
    pub fn total(&self) -> u64 {
        self.lines.iter().map(|line| line.bytes.total()).sum()
    }

    /// Whether some line's command holds this.
    pub fn has(&self, part: &str) -> bool {
        self.lines.iter().any(|line| line.command.contains(part))
    }

    /// The bytes on the only line that begins so.
    pub fn starting_with(&self, beginning: &str) -> Bytes {
        let mut found = self.lines.iter().filter(|line| line.command.starts_with(beginning));
        let bytes = found.next().map_or_else(Bytes::default, |line| line.bytes);
        assert!(found.next().is_none(), "two lines begin {beginning:?}: {:#?}", self.lines);
        bytes
    }
}

/// All complete refreshes in what was printed so far; a word on the first line that is not as
/// documented.
pub fn parse(text: &[u8]) -> Result<Vec<Refresh>, String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("not UTF-8: {error}"))?;
    let mut refreshes = Vec::new();
    let mut refresh = Refresh::default();
    for line in text.split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else { break };
        if line.is_empty() {
            in_order(&refresh)?;
            refreshes.push(std::mem::take(&mut refresh));
        } else {
            refresh.lines.push(parse_line(line)?);
        }
    }
    Ok(refreshes)
}

/// The parts of a line `IN / OUT -- COMMAND`, however it is formatted.
pub fn split(line: &str) -> Option<Line> {
    let (received, rest) = line.split_once(" / ")?;
    let (sent, command) = rest.split_once(" -- ")?;
    let bytes = Bytes::new(received.trim().parse().ok()?, sent.trim().parse().ok()?);
    Some(Line { bytes, command: command.to_owned() })
}

fn parse_line(line: &str) -> Result<Line, String> {
    let parsed = split(line).ok_or_else(|| format!("not a line of a refresh: {line:?}"))?;
    let Line { bytes: Bytes { received, sent }, command } = &parsed;
    if format!("{received:>10} / {sent:>10} -- {command}") != line {
        return Err(format!("not formatted as '%10d / %10d -- %s': {line:?}"));
    }
    if let Some(control) = command.chars().find(|character| character.is_control()) {
        return Err(format!("a raw control character {control:?}: {line:?}"));
    }
    if command.chars().count() > 60 {
        return Err(format!("a command longer than 60 characters: {line:?}"));
    }
    if parsed.bytes == Bytes::default() {
        return Err(format!("a line without bytes: {line:?}"));
    }
    Ok(parsed)
}

/// Ascending by bytes; where the lines of reasons stand is free.
fn in_order(refresh: &Refresh) -> Result<(), String> {
    let lines: Vec<_> =
        refresh.lines.iter().filter(|line| !line.command.starts_with('(')).collect();
    match lines.windows(2).find(|pair| pair[0].bytes > pair[1].bytes) {
        Some(pair) => Err(format!("not in ascending order: {:?}, {:?}", pair[0], pair[1])),
        None => Ok(()),
    }
}

#[test]
fn a_refresh_is_parsed_and_what_is_wrong_is_told() {
    let good = b"       100 /          0 -- a \n       100 /          7 -- b \n\n\n         1 /";
    let refreshes = parse(good).unwrap();
    assert_eq!(refreshes.len(), 2, "the last one is not complete");
    assert_eq!(refreshes[0].lines[1].bytes, Bytes::new(100, 7));
    assert_eq!(refreshes[0].lines[1].command, "b ");
    assert_eq!(refreshes[0].total(), 207);
    for bad in [
        "         2 /          0 -- a \n         1 /          0 -- b \n\n",
        "2 / 0 -- a \n\n",
        "         0 /          0 -- a \n\n",
        "         1 /          0 -- a\x1b[2J\n\n",
        "some message\n\n",
    ] {
        assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
}
