//! What a program shows, as far as it says whether it knows whose the bytes are.

/// What those who send and receive here are called: the benches' roles, `brief.c`'s program, and
/// programs of the system's.
const NAMES: [&str; 6] = ["watching-", "overhead-", "brief", "iperf3", "wrk", "nginx"];

/// Sums over all that was shown: bytes, or bytes per second; the ratio is what counts.
#[derive(Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) named: f64,
    pub(crate) all: f64,
}

impl Seen {
    pub(crate) fn add(&mut self, line: &str) {
        let Some(bytes) = classic(line).or_else(|| bandwhich(line)).or_else(|| nethogs(line))
        else {
            return;
        };
        self.all += bytes;
        if NAMES.iter().any(|name| line.contains(name)) {
            self.named += bytes;
        }
    }

    /// In percent; not a number if nothing was shown.
    pub(crate) fn share(self) -> f64 {
        self.named / self.all * 100.0
    }
}

/// `IN / OUT -- NAME`
fn classic(line: &str) -> Option<f64> {
    sum(line.split_once(" -- ")?.0.split_once('/')?)
}

/// `process: <TIME> "NAME" up/down Bps: UP/DOWN connections: NUMBER`
fn bandwhich(line: &str) -> Option<f64> {
    let (_, numbers) = line.split_once(" up/down Bps: ")?;
    sum(numbers.split_once(' ')?.0.split_once('/')?)
}

/// `NAME/PID/UID`, sent and received, with tabs in between.
fn nethogs(line: &str) -> Option<f64> {
    let (rest, received) = line.rsplit_once('\t')?;
    sum((rest.rsplit_once('\t')?.1, received))
}

fn sum((a, b): (&str, &str)) -> Option<f64> {
    let [a, b] = [a, b].map(|text| text.trim().parse::<f64>());
    Some(a.ok()? + b.ok()?)
}
