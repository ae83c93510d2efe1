//! The program's output where stdout is no terminal: refreshes of lines, each ended by an empty
//! line.

/// One line of a refresh.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// KiB per second.
    pub(super) received: f64,
    /// KiB per second.
    pub(super) sent: f64,
    pub(super) name: String,
}

impl Line {
    /// Whether it has no process, and so stands before all that have.
    fn is_reason(&self) -> bool {
        self.name.starts_with('(')
    }
}

/// One refresh.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Refresh {
    pub(super) lines: Vec<Line>,
    /// How many bytes of the output there were when it was complete.
    pub(super) end: usize,
}

impl Refresh {
    /// The line whose name begins so; no other one does.
    pub(super) fn line(&self, beginning: &str) -> Option<&Line> {
        let mut found = self.lines.iter().filter(|line| line.name.starts_with(beginning));
        let line = found.next();
        assert!(found.next().is_none(), "two lines begin {beginning:?}: {:#?}", self.lines);
        line
    }
}

/// All complete refreshes in what was printed so far; a word on the first line that is not as
/// documented.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Refresh>, String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("not UTF-8: {error}"))?;
    let mut refreshes = Vec::new();
    let mut refresh = Refresh::default();
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        end += line.len();
        let Some(line) = line.strip_suffix('\n') else { break };
        if line.is_empty() {
            in_order(&refresh)?;
            refresh.end = end;
            refreshes.push(std::mem::take(&mut refresh));
        } else {
            refresh.lines.push(parse_line(line)?);
        }
    }
    Ok(refreshes)
}

fn parse_line(line: &str) -> Result<Line, String> {
    let parts = line.split_once(" KiB / ").and_then(|(received, rest)| {
        let (sent, name) = rest.split_once(" KiB -- ")?;
        let (received, sent) = (received.trim().parse().ok()?, sent.trim().parse().ok()?);
        Some(Line { received, sent, name: name.to_owned() })
    });
    let parsed = parts.ok_or_else(|| format!("not a line of a refresh: {line:?}"))?;
    let Line { received, sent, name } = &parsed;
    if format!("{received:>10.2} KiB / {sent:>10.2} KiB -- {name}") != line {
        return Err(format!("not formatted as '%10.2f KiB / %10.2f KiB -- %s': {line:?}"));
    }
    if let Some(control) = name.chars().find(|character| character.is_control()) {
        return Err(format!("a raw control character {control:?}: {line:?}"));
    }
    if name.chars().count() > 60 {
        return Err(format!("a name longer than 60 characters: {line:?}"));
    }
    Ok(parsed)
}

/// Ascending by what was received and sent, the lines of reasons before all others. What is the
/// same to two places may differ in the third.
fn in_order(refresh: &Refresh) -> Result<(), String> {
    let key = |line: &Line| (!line.is_reason(), line.received);
    match refresh.lines.windows(2).find(|pair| key(&pair[0]) > key(&pair[1])) {
        Some(pair) => Err(format!("not in ascending order: {:?}, {:?}", pair[0], pair[1])),
        None => Ok(()),
    }
}

#[test]
fn a_refresh_is_parsed_and_what_is_wrong_is_told() {
    let rest = "         1 /";
    let good = "      9.00 KiB /       0.00 KiB -- (kernel)\n      1.50 KiB /       0.00 KiB -- a \n\
                \x20     1.51 KiB /       7.25 KiB -- Web\n\n\n";
    let refreshes = parse([good, rest].concat().as_bytes()).unwrap();
    assert_eq!(refreshes.len(), 2, "the last one is not complete");
    let web = Line { received: 1.51, sent: 7.25, name: "Web".to_owned() };
    assert_eq!(refreshes[0].line("We"), Some(&web));
    assert_eq!(refreshes[1], Refresh { lines: Vec::new(), end: good.len() });
    for bad in [
        "      2.00 KiB /       0.00 KiB -- a\n      1.00 KiB /       9.00 KiB -- b\n\n",
        "      1.00 KiB /       0.00 KiB -- a\n      1.00 KiB /       9.00 KiB -- (x)\n\n",
        "2.00 KiB / 0.00 KiB -- a\n\n",
        "      2.0 KiB /       0.00 KiB -- a\n\n",
        "      1.00 KiB /       0.00 KiB -- a\x1b[2J\n\n",
        "some message\n\n",
    ] {
        assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
}
