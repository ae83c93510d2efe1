//! The true bytes, counted by nft in the watched namespace.
//!
//! nft's input and output hooks see the packets that conntrack sees, super-packets included, so the
//! counts are equal to the byte. Frames of packet sockets pass neither: a device's egress hook counts
//! them, with their Ethernet headers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use crate::bytes::Bytes;
use crate::netns::Namespace;
use crate::wait::DEADLINE;

const EGRESS: &str = "egress";

/// The watched namespace's device towards its peer.
const DEVICE: &str = "peer";

/// What one name counts: an nft match for what it receives and one for what it sends.
pub struct Count<'a> {
    name: &'a str,
    hooks: [&'static str; 2],
    received: String,
    sent: String,
}

impl<'a> Count<'a> {
    /// Someone here who talks to a server's port: `proto` as nft says it, like `tcp`.
    pub fn client(name: &'a str, proto: &str, port: u16) -> Count<'a> {
        Count {
            name,
            hooks: ["input", "output"],
            received: format!("{proto} sport {port}"),
            sent: format!("{proto} dport {port}"),
        }
    }

    /// A server here.
    pub fn server(name: &'a str, proto: &str, port: u16) -> Count<'a> {
        Count {
            name,
            hooks: ["input", "output"],
            received: format!("{proto} dport {port}"),
            sent: format!("{proto} sport {port}"),
        }
    }

    /// What passes through, as the side that asks the server's port sees it.
    pub fn forwarded(name: &'a str, proto: &str, port: u16) -> Count<'a> {
        Count { hooks: ["forward", "forward"], ..Count::client(name, proto, port) }
    }

    /// The same flow on loopback, where its packets are sent: some are larger where they arrive,
    /// and conntrack has counted them by then.
    pub fn looped(self) -> Count<'a> {
        Count { hooks: ["output", "output"], ..self }
    }

    /// What passes through as the server's side sees it.
    pub fn forwarded_server(name: &'a str, proto: &str, port: u16) -> Count<'a> {
        Count { hooks: ["forward", "forward"], ..Count::server(name, proto, port) }
    }

    /// Frames that leave by the device `DEVICE`.
    pub fn frames(name: &'a str, sent: &str) -> Count<'a> {
        Count { name, hooks: ["none", EGRESS], received: String::new(), sent: sent.to_owned() }
    }

    /// Any two matches of what passes through.
    pub fn forwarded_matching(name: &'a str, received: &str, sent: &str) -> Count<'a> {
        Count { hooks: ["forward", "forward"], ..Count::matching(name, received, sent) }
    }

    /// Any two matches at the input and output hooks.
    pub fn matching(name: &'a str, received: &str, sent: &str) -> Count<'a> {
        Count {
            name,
            hooks: ["input", "output"],
            received: received.to_owned(),
            sent: sent.to_owned(),
        }
    }
}

const STEP: Duration = Duration::from_millis(250);

/// The counters of one test.
pub struct Truth<'a> {
    namespace: &'a Namespace,
    /// Of the tables that count.
    families: Vec<&'static str>,
}

impl<'a> Truth<'a> {
    pub fn start(namespace: &'a Namespace, counts: &[Count<'_>]) -> Truth<'a> {
        let (frames, packets): (Vec<&Count<'_>>, Vec<&Count<'_>>) =
            counts.iter().partition(|count| count.hooks.contains(&EGRESS));
        let hooks = ["input", "output", "forward"].map(|hook| (hook, format!("hook {hook}")));
        let mut families = Vec::new();
        if !packets.is_empty() {
            families.push("inet");
            namespace.nft(&script("inet", &packets, &hooks));
        }
        if !frames.is_empty() {
            families.push("netdev");
            let hook = (EGRESS, format!("hook {EGRESS} device {DEVICE}"));
            namespace.nft(&script("netdev", &frames, &[hook]));
        }
        Truth { namespace, families }
    }

    /// The counts when nothing is under way any more: the same for longer than an acknowledgement may be
    /// delayed (200 ms), and where sleeps last longer than they should, for longer.
    pub fn settled(&self) -> BTreeMap<String, Bytes> {
        let deadline = Instant::now() + DEADLINE;
        let mut last = self.read("bytes");
        let (mut quiet, mut late) = (Duration::ZERO, Duration::ZERO);
        loop {
            let begin = Instant::now();
            thread::sleep(STEP);
            late = late.max(begin.elapsed() - STEP);
            let now = self.read("bytes");
            quiet = if now == last { quiet + STEP } else { Duration::ZERO };
            // What is late for this thread may be late for the kernel's timers, too.
            if quiet >= STEP + 3 * late {
                return now;
            }
            assert!(Instant::now() < deadline, "still traffic: {last:?}, then {now:?}");
            last = now;
        }
    }

    /// The counts while more may come.
    pub fn so_far(&self) -> BTreeMap<String, Bytes> {
        self.read("bytes")
    }

    /// By which the counts can be read again.
    pub fn families(&self) -> Vec<&'static str> {
        self.families.clone()
    }

    /// What counts already, in tables of these families.
    pub fn started(namespace: &'a Namespace, families: Vec<&'static str>) -> Truth<'a> {
        Truth { namespace, families }
    }

    /// How many packets these were.
    pub fn packets(&self) -> BTreeMap<String, Bytes> {
        self.read("packets")
    }

    fn read(&self, unit: &str) -> BTreeMap<String, Bytes> {
        let list = |family| self.namespace.run(&format!("nft list counters table {family} truth"));
        parse_counters(&self.families.iter().map(list).collect::<String>(), unit)
    }
}

/// Whether what is missing of a TCP connection's bytes may be what came after its socket's end, in TIME_WAIT. The
/// other side's FIN may come after its acknowledgement of ours, or more than once; by then the kernel has put a small
/// entry into the place of the socket, and neither that FIN nor its answer is a socket's. A second answer finds
/// nobody, and a reset comes back, which has no options. `header` is the length of the IP header, `bare` that of a TCP
/// header without data.
pub fn came_in_time_wait(missing: Bytes, header: u64, bare: u64) -> bool {
    let answers = missing.sent / (header + bare);
    let resets = missing.received.saturating_sub(missing.sent) / (header + TCP_HEADER);
    let whole = answers * (header + bare);
    missing == Bytes::new(whole + resets * (header + TCP_HEADER), whole) && resets <= answers
}

/// Whether these may be second answers to the last packet of TCP connections whose sockets here are gone by then, and
/// the resets with which the kernel refuses them: who waits long for the answer to its FIN repeats it, and each is
/// answered. They are no socket's. The lengths are those of `came_in_time_wait`.
pub fn came_after_the_end(nobodys: Bytes, header: u64, bare: u64) -> bool {
    let resets = nobodys.sent / (header + TCP_HEADER);
    nobodys == Bytes::new(resets * (header + bare), resets * (header + TCP_HEADER))
}

/// The length of a TCP header without options.
const TCP_HEADER: u64 = 20;

#[test]
fn what_comes_in_time_wait_is_fins_their_answers_and_resets() {
    let may = |received, sent| came_in_time_wait(Bytes::new(received, sent), 20, 32);
    assert!(may(0, 0) && may(52, 52) && may(300, 260) && may(104 + 80, 104));
    assert!(!may(40, 0) && !may(52, 0) && !may(0, 52) && !may(60, 60) && !may(52 + 80, 52));
}

#[test]
fn what_comes_after_the_end_is_answers_and_a_reset_for_each() {
    let may = |received, sent| came_after_the_end(Bytes::new(received, sent), 20, 32);
    assert!(may(0, 0) && may(52, 40) && may(364, 280));
    assert!(!may(52, 0) && !may(0, 40) && !may(52, 52) && !may(60, 40) && !may(104, 40));
}

/// A table that counts: at each hook, how nft says it.
fn script(family: &str, counts: &[&Count<'_>], hooks: &[(&str, String)]) -> String {
    let mut script = format!("table {family} truth {{\n");
    for Count { name, .. } in counts {
        writeln!(script, " counter {name}_in {{\n }}\n counter {name}_out {{\n }}").unwrap();
    }
    for (hook, place) in hooks {
        writeln!(script, " chain {hook} {{\n  type filter {place} priority 10").unwrap();
        for count in counts {
            let directions = [(&count.received, "in"), (&count.sent, "out")];
            for (at, (matching, direction)) in count.hooks.iter().zip(directions) {
                if at == hook {
                    let name = count.name;
                    writeln!(script, "  {matching} counter name {name}_{direction}").unwrap();
                }
            }
        }
        script.push_str(" }\n");
    }
    script.push_str("}\n");
    script
}

/// Reads `counter NAME_in { packets N bytes N }` blocks.
fn parse_counters(text: &str, unit: &str) -> BTreeMap<String, Bytes> {
    let mut counts = BTreeMap::<String, Bytes>::new();
    let words: Vec<&str> = text.split_whitespace().collect();
    for block in words.windows(7) {
        let ["counter", name, "{", "packets", packets, "bytes", bytes] = block else { continue };
        let value = if unit == "packets" { packets } else { bytes }.parse().unwrap();
        let (name, direction) = name.rsplit_once('_').unwrap();
        let count = counts.entry(name.to_owned()).or_default();
        match direction {
            "in" => count.received = value,
            _ => count.sent = value,
        }
    }
    assert!(!counts.is_empty(), "no counters in nft's output:\n{text}");
    counts
}

#[test]
fn counters_are_read_as_nft_prints_them() {
    let text = "table inet truth {\n\tcounter a_in {\n\t\tpackets 2 bytes 120\n\t}\n\
                \tcounter a_out {\n\t\tpackets 1 bytes 60\n\t}\n}\n";
    let both = |received, sent| BTreeMap::from([("a".to_owned(), Bytes::new(received, sent))]);
    assert_eq!(parse_counters(text, "bytes"), both(120, 60));
    assert_eq!(parse_counters(text, "packets"), both(2, 1));
}
