use std::io::BufReader;
use std::net::Ipv6Addr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../tests/fixtures/conntrack/", $name))
    };
}

/// Every flow of a fixture, whose lines must all be flows.
fn flows_of(text: &str) -> Vec<Flow> {
    let mut flows = Vec::new();
    let table = read_table(text.as_bytes(), |flow| flows.push(*flow)).unwrap();
    assert_eq!(table.first_error, None);
    assert_eq!((table.flows, table.malformed), (text.lines().count() as u64, 0));
    assert_eq!(table.flows, flows.len() as u64);
    flows
}

fn parse(line: &str) -> Flow {
    parse_line(line.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{line}"))
}

/// The flow whose original tuple reads as `tuple`.
fn find(flows: &[Flow], tuple: &str) -> Flow {
    let mut found = flows.iter().filter(|flow| flow.original.to_string() == tuple);
    let flow = *found.next().unwrap_or_else(|| panic!("{tuple} not in {flows:#?}"));
    assert!(found.next().is_none(), "{tuple} twice");
    flow
}

fn counters(original: u64, reply: u64) -> Option<Counters> {
    Some(Counters { original, reply })
}

// Real output.

#[test]
fn the_flows_of_a_real_table() {
    let flows = flows_of(fixture!("proc.txt"));

    let redirected = find(&flows, "tcp 10.9.0.1:58210 -> 10.9.0.2:9999");
    assert_eq!(redirected.reply.to_string(), "tcp 10.9.0.2:8080 -> 10.9.0.1:58210");
    assert_eq!(redirected.counters, counters(226, 174));
    assert_eq!(redirected.status, Status(Status::SEEN_REPLY | Status::ASSURED));
    assert_eq!((redirected.zone, redirected.generation), (0, None));
    assert_eq!(redirected.counted_at, CountedAt::Path);

    let nobody = find(&flows, "tcp 10.9.0.1:35272 -> 10.9.0.77:81");
    assert_eq!((nobody.zone, nobody.status), (3, Status(0)));
    assert_eq!(nobody.counters, counters(60, 0));

    assert_eq!(find(&flows, "udp 10.9.0.1:40523 -> 10.9.0.2:5353").zone, 7);
    assert_eq!(find(&flows, "udplite 10.9.0.1:59164 -> 10.9.0.2:7000").zone, 9);
    find(&flows, "udp [fd00:9::1]:39721 -> [fd00:9::2]:5354");
    find(&flows, "gre 10.9.0.1:0 -> 10.9.0.2:0");
    find(&flows, "proto-89 10.9.0.1:0 -> 10.9.0.2:0");

    let echo = find(&flows, "icmp 10.9.0.1:4660 -> 10.9.0.2:2048");
    assert_eq!(echo.reply.to_string(), "icmp 10.9.0.2:4660 -> 10.9.0.1:0");
    let echo = find(&flows, "icmpv6 [fd00:9::1]:22136 -> [fd00:9::2]:32768");
    assert_eq!(echo.reply.destination.port, 129 << 8);
}

#[test]
fn the_kernel_and_the_program_tell_of_the_same_flows() {
    let sorted = |text| {
        let mut flows = flows_of(text);
        flows.sort_by_key(|flow| (flow.original, flow.zone));
        flows
    };
    let kernel = sorted(fixture!("proc.txt"));
    assert_eq!(sorted(fixture!("list.txt")), kernel);
    let mut numbered = sorted(fixture!("list-extended-id.txt"));
    for flow in &mut numbered {
        assert!(flow.generation.take().is_some(), "{flow:?}");
    }
    assert_eq!(numbered, kernel);
}

#[test]
fn without_accounting_there_are_no_counters() {
    for text in [fixture!("proc-no-accounting.txt"), fixture!("list-no-accounting.txt")] {
        let flows = flows_of(text);
        assert_eq!(flows.len(), 3);
        assert!(flows.iter().all(|flow| flow.counters.is_none()), "{flows:?}");
    }
}

#[test]
fn timestamps_are_passed_over() {
    let mut listed = flows_of(fixture!("list-timestamps.txt"));
    let echo = find(&listed, "icmpv6 [fd00:9::1]:22136 -> [fd00:9::2]:32768");
    assert_eq!(echo.generation, Some(3_096_803_627));
    listed.iter_mut().for_each(|flow| flow.generation = None);
    assert_eq!(listed, flows_of(fixture!("proc-timestamps.txt")));
}

#[test]
fn what_could_not_be_made_here() {
    let flows = flows_of(fixture!("hand-written.txt"));
    let seen = Status::SEEN_REPLY;

    let soft = find(&flows, "tcp 10.9.0.1:40000 -> 10.9.0.2:443");
    assert_eq!(soft.status, Status(seen | Status::OFFLOAD));
    assert_eq!(soft.counters, counters(1500, 9000));
    let hard = find(&flows, "udp [2001:db8::1]:40001 -> [2001:db8::2]:443");
    assert_eq!(hard.status, Status(seen | Status::OFFLOAD | Status::HW_OFFLOAD));
    assert_eq!((hard.zone, hard.generation), (5, Some(77)));

    let old = find(&flows, "tcp 192.168.1.2:32845 -> 192.0.2.7:22");
    assert_eq!(old.reply.to_string(), "tcp 192.0.2.7:22 -> 203.0.113.1:32845");
    assert_eq!(find(&flows, "udp 192.168.1.2:1024 -> 192.0.2.53:53").status, Status(0));
    let echo = find(&flows, "icmp 192.168.1.2:512 -> 192.0.2.7:2048");
    assert_eq!((echo.counters, echo.generation), (None, None));

    let untracked = find(&flows, "gre 192.168.1.2:0 -> 192.0.2.7:0");
    assert_eq!(untracked.counters, counters(180, 120));
    let call = find(&flows, "gre 192.168.1.2:0 -> 192.0.2.7:49374");
    assert_eq!(call.reply, call.original.reversed());

    find(&flows, "dccp 10.9.0.1:40002 -> 10.9.0.2:5001");
    // The zone of the reply direction alone: the original one is in the default zone.
    assert_eq!(find(&flows, "sctp 10.9.0.1:40003 -> 10.9.0.2:2905").zone, 0);
    find(&flows, "icmpv6 [fe80::1]:9 -> [ff02::1]:32768");
    let labelled = find(&flows, "tcp 10.9.0.1:40004 -> 10.9.0.2:21");
    assert_eq!((labelled.generation, labelled.counters), (Some(5), counters(400, 300)));
}

// Single lines.

const TUPLES: &str = "src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.2 dst=10.0.0.1 \
                      sport=2 dport=1";

#[test]
fn the_protocol_is_its_number_or_else_its_name() {
    for (beginning, protocol) in [
        ("tcp 6", Protocol::TCP),
        ("ipv4 2 tcp 6 300 NO_SUCH_STATE", Protocol::TCP),
        ("tcp ESTABLISHED", Protocol::TCP),
        ("udplite", Protocol::UDPLITE),
        ("unknown 132 600", Protocol::SCTP),
        ("renamed-since 17 [OFFLOAD]", Protocol::UDP),
    ] {
        assert_eq!(parse(&format!("{beginning} {TUPLES}")).original.protocol, protocol);
    }
}

#[test]
fn one_direction_with_bytes_is_enough_for_counters() {
    let line = "udp 17 1 src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 BYTES src=10.0.0.2 \
                dst=10.0.0.1 sport=2 dport=1";
    assert_eq!(parse(&line.replace("BYTES", "bytes=7")).counters, counters(7, 0));
    assert_eq!(parse(&(line.replace("BYTES", "") + " bytes=7")).counters, counters(0, 7));
    let most = line.replace("BYTES", "bytes=18446744073709551615");
    assert_eq!(parse(&most).counters, counters(u64::MAX, 0));
}

#[test]
fn an_ipv6_address_that_maps_an_ipv4_one_is_of_the_ipv6_family() {
    let flow = parse(
        "ipv6 10 udp 17 1 src=::ffff:10.0.0.1 dst=0000:0000:0000:0000:0000:ffff:0a00:0002 \
         sport=1 dport=2 src=::ffff:10.0.0.2 dst=::ffff:a00:1 sport=2 dport=1",
    );
    assert_eq!(flow.original.to_string(), "udp 10.0.0.1:1 -> 10.0.0.2:2");
    assert_eq!(flow.reply, flow.original.reversed());
}

#[test]
fn what_is_no_entry_is_an_error_that_names_the_item() {
    let original = "src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2";
    let reply = "src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1";
    let cases: &[(&str, &str)] = &[
        ("", "protocol"),
        ("ipv4", "family"),
        ("ipv4 tcp 6 1 O R", "family"),
        ("ipv4 2", "protocol"),
        ("src=10.0.0.1", "protocol"),
        ("nobody-knows O R", "protocol"),
        ("tcp 431999 O R", "protocol"),
        ("tcp 99999999999999999999 O R", "protocol"),
        ("tcp 6", "src="),
        ("tcp 6 1 O", "src="),
        ("tcp 6 1 O R R", "src="),
        ("tcp 6 1 dst=10.0.0.1 O R", "dst="),
        ("tcp 6 1 bytes=1 O R", "bytes="),
        ("tcp 6 1 O src=10.0.0.2 sport=2 dport=1", "dst="),
        ("tcp 6 1 O src=10.0.0.2 dst=10.0.0.1", "sport="),
        ("udp 17 1 O src=10.0.0.2 dst=10.0.0.1 sport=2", "dport="),
        ("sctp 132 1 O src=10.0.0.2 dst=10.0.0.1 sport=2", "dport="),
        ("tcp 6 1 O src=10.0.0 dst=10.0.0.1 sport=2 dport=1", "src="),
        ("tcp 6 1 O src=10.0.0.2 dst= sport=2 dport=1", "dst="),
        ("tcp 6 1 O src=10.0.0.2 dst=fd00::1 sport=2 dport=1", "dst="),
        ("tcp 6 1 O src=fd00::2 dst=fd00::1 sport=2 dport=1", "src="),
        ("ipv6 10 tcp 6 1 O R", "src="),
        ("tcp 6 1 O src=10.0.0.2 dst=10.0.0.1 sport=65536 dport=1", "sport="),
        ("tcp 6 1 O src=10.0.0.2 dst=10.0.0.1 sport=2 dport=+1", "dport="),
        ("tcp 6 1 O sport=3 R", "sport="),
        ("tcp 6 1 O R bytes=18446744073709551616", "bytes="),
        ("tcp 6 1 O R bytes=1 bytes=1", "bytes="),
        ("tcp 6 1 O R bytes=", "bytes="),
        ("tcp 6 1 O R id=x", "id="),
        ("tcp 6 1 O R zone=65536", "zone="),
        ("tcp 6 1 O R [start=Mon Nov", "["),
        ("gre 47 1 src=10.0.0.1 dst=10.0.0.2 srckey=0x10000 dstkey=0x0", "srckey="),
        ("gre 47 1 src=10.0.0.1 dst=10.0.0.2 srckey=0x1 dstkey=7", "dstkey="),
        ("icmp 1 1 src=10.0.0.1 dst=10.0.0.2 type=256", "type="),
        ("icmp 1 1 src=10.0.0.1 dst=10.0.0.2 code=-1", "code="),
        ("icmp 1 1 src=10.0.0.1 dst=10.0.0.2 id=65536", "id="),
        ("icmp 1 1 O R", "id="),
        ("icmp 1 1 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 R id=1", "id="),
        ("icmp 1 1 src=10.0.0.1 dst=10.0.0.2 id=1 code=0 R id=1", "type= and code="),
    ];
    for (line, item) in cases {
        let line = line.replace('O', original).replace('R', reply);
        match parse_line(line.as_bytes()) {
            Ok(flow) => panic!("{line}\nis {flow:?}"),
            Err(error) => assert_eq!(error.item(), *item, "{line}\n{error}"),
        }
    }
}

#[test]
fn an_error_shows_little_of_what_it_found_and_nothing_raw() {
    let error = parse_line(b"tcp 6 1 src=\x1b[2J\xff").unwrap_err();
    assert_eq!(error.to_string(), r#"src=: expected an IP address, found "\x1b[2J\xff""#);
    let long = format!("tcp 6 1 src={}", "x".repeat(1000));
    let error = parse_line(long.as_bytes()).unwrap_err();
    let shown = "x".repeat(40);
    assert_eq!(error.to_string(), format!("src=: expected an IP address, found \"{shown}\"..."));
    let error = parse_line(b"tcp 6 1").unwrap_err();
    assert_eq!(error.to_string(), "src=: expected the original tuple, found the end of the line");
}

// Tables.

#[test]
fn a_malformed_line_is_counted_and_the_table_goes_on() {
    let text = format!("\n  \ntcp 6 {TUPLES}\noops\n\nudp 17 {TUPLES}\r\nmore oops\n");
    let mut protocols = Vec::new();
    let table = read_table(text.as_bytes(), |flow| protocols.push(flow.original.protocol)).unwrap();
    assert_eq!(protocols, [Protocol::TCP, Protocol::UDP]);
    assert_eq!((table.flows, table.malformed), (2, 2));
    let (line, error) = table.first_error.unwrap();
    assert_eq!((line, error.item()), (4, "protocol"));
}

#[test]
fn a_last_line_without_its_newline_is_a_flow_if_it_reads_as_one() {
    let whole = format!("tcp 6 {TUPLES}\ntcp 6 {TUPLES}");
    assert_eq!(flows_of(&whole).len(), 2);
    let cut = &whole[..whole.len() - " dport=1".len()];
    let table = read_table(cut.as_bytes(), |_| {}).unwrap();
    assert_eq!((table.flows, table.malformed), (1, 1));
    assert_eq!(table.first_error.unwrap().0, 2);
    assert_eq!(read_table(&b""[..], |_| {}).unwrap(), Table::default());
}

#[test]
fn a_line_is_read_up_to_64_kib() {
    let line = |length: usize| {
        let begun = format!("tcp 6 {TUPLES} secctx=");
        let fill = "x".repeat(length - begun.len());
        begun + &fill
    };
    for (length, flows) in [(LINE_MAX, 2), (LINE_MAX + 1, 1), (3 * LINE_MAX, 1)] {
        for end in ["", "\n"] {
            let text = format!("{}{end}", line(length));
            let after = format!("{text}\nudp 17 {TUPLES}\n");
            let table = read_table(after.as_bytes(), |_| {}).unwrap();
            assert_eq!((table.flows, table.malformed), (flows, 2 - flows), "{length}");
            assert_eq!(table.first_error.is_some(), flows == 1);
            assert_eq!(read_table(text.as_bytes(), |_| {}).unwrap().flows, flows - 1);
        }
    }
}

#[test]
fn a_read_error_ends_the_table_after_the_flows_before_it() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let text = format!("tcp 6 {TUPLES}\ntcp 6");
    let mut flows = 0;
    let input = BufReader::new(text.as_bytes().chain(Failing));
    assert!(read_table(input, |_| flows += 1).is_err());
    assert_eq!(flows, 1);
}

// Properties. The oracle prints what the two writers print.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// `/proc/net/nf_conntrack`.
    Proc,
    /// `conntrack -L`, plain or with `-o extended,id`.
    List { extended: bool, id: bool },
}

/// A line in parts, which can be moved.
struct Parts {
    header: Vec<String>,
    original: Vec<String>,
    reply: Vec<String>,
    /// Words that may stand anywhere after the header.
    flags: Vec<String>,
    /// The entry's id.
    id: Option<String>,
}

fn parts(flow: &Flow, v6: bool, style: Style) -> Parts {
    let number = flow.original.protocol.0;
    let mut header = match (style, v6) {
        (Style::List { extended: false, .. }, _) => vec![],
        (_, false) => vec!["ipv4".to_owned(), "2".to_owned()],
        (_, true) => vec!["ipv6".to_owned(), "10".to_owned()],
    };
    let name = flow.original.protocol.to_string();
    header.push(if name.starts_with("proto-") { "unknown".to_owned() } else { name });
    header.push(number.to_string());

    let direction = |tuple: &Tuple, bytes: Option<u64>| {
        let (source, destination) = (tuple.source, tuple.destination);
        let mut words = vec![
            format!("src={}", printed(source.address, v6, style)),
            format!("dst={}", printed(destination.address, v6, style)),
        ];
        match tuple.protocol {
            Protocol::ICMP | Protocol::ICMPV6 => words.extend([
                format!("type={}", destination.port >> 8),
                format!("code={}", destination.port & 0xff),
                format!("id={}", source.port),
            ]),
            Protocol::GRE => words.extend([
                format!("srckey={:#x}", source.port),
                format!("dstkey={:#x}", destination.port),
            ]),
            // As for those without a tracker.
            _ if (source.port, destination.port) == (0, 0) && !matches!(number, 6 | 17) => {}
            _ => words
                .extend([format!("sport={}", source.port), format!("dport={}", destination.port)]),
        }
        words.extend(bytes.map(|bytes| format!("bytes={bytes}")));
        words
    };
    let mut flags = Vec::new();
    let mut flag = |shown: bool, word: &str| {
        if shown {
            flags.push(word.to_owned());
        }
    };
    flag(!flow.status.has(Status::SEEN_REPLY), "[UNREPLIED]");
    let hardware = flow.status.has(Status::HW_OFFLOAD);
    flag(hardware, "[HW_OFFLOAD]");
    flag(flow.status.has(Status::OFFLOAD) && !hardware, "[OFFLOAD]");
    flag(flow.status.has(Status::ASSURED), "[ASSURED]");
    let key = if flow.zone.is_multiple_of(2) { "zone" } else { "zone-orig" };
    flag(flow.zone != 0 || style == Style::Proc, &format!("{key}={}", flow.zone));
    let with_id = matches!(style, Style::List { id: true, .. });
    Parts {
        header,
        original: direction(&flow.original, flow.counters.map(|counters| counters.original)),
        reply: direction(&flow.reply, flow.counters.map(|counters| counters.reply)),
        flags,
        id: flow.generation.filter(|_| with_id).map(|id| format!("id={id}")),
    }
}

fn printed(address: Address, v6: bool, style: Style) -> String {
    let wide = Ipv6Addr::from(*address.bytes());
    match (v6, style) {
        (false, _) => address.to_string(),
        (true, Style::List { .. }) => wide.to_string(),
        (true, Style::Proc) => wide.segments().map(|group| format!("{group:04x}")).join(":"),
    }
}

/// The line as it is printed: `[UNREPLIED]` between the tuples, the rest after them.
fn write_line(flow: &Flow, v6: bool, style: Style) -> String {
    let Parts { header, original, reply, flags, id } = parts(flow, v6, style);
    let offloaded = flow.status.has(Status::OFFLOAD);
    let timeout = if offloaded { None } else { Some("119".to_owned()) };
    let state = (flow.original.protocol == Protocol::TCP).then(|| "TIME_WAIT".to_owned());
    let (unreplied, flags): (Vec<_>, Vec<_>) =
        flags.into_iter().partition(|flag| flag == "[UNREPLIED]");
    let words = [header, vec![], original, unreplied, reply, flags];
    let mut words: Vec<String> = words.into_iter().flatten().collect();
    let after_header = words.iter().position(|word| word.starts_with("src=")).unwrap();
    words.splice(after_header..after_header, timeout.into_iter().chain(state));
    words.push("use=1".to_owned());
    words.extend(id);
    words.join(" ")
}

fn expected(flow: &Flow, style: Style) -> Flow {
    let with_id = matches!(style, Style::List { id: true, .. });
    Flow { generation: flow.generation.filter(|_| with_id), ..*flow }
}

fn an_address(v6: bool) -> BoxedStrategy<Address> {
    if v6 {
        prop_oneof![
            any::<[u8; 16]>().prop_map(Address::from_v6),
            any::<[u8; 4]>().prop_map(Address::from_v4),
            Just(Address::ANY_V6),
        ]
        .boxed()
    } else {
        any::<[u8; 4]>().prop_map(Address::from_v4).boxed()
    }
}

fn a_tuple(protocol: Protocol, v6: bool) -> impl Strategy<Value = Tuple> {
    // A protocol this program has no name for has no ports in conntrack either.
    let has_ports = !protocol.to_string().starts_with("proto-");
    let port = move || if has_ports { any::<u16>().boxed() } else { Just(0).boxed() };
    (an_address(v6), port(), an_address(v6), port()).prop_map(move |(from, sport, to, dport)| {
        Tuple {
            protocol,
            source: Endpoint::new(from, sport),
            destination: Endpoint::new(to, dport),
        }
    })
}

/// A flow as conntrack can have it, and whether its family is IPv6.
fn a_flow() -> impl Strategy<Value = (Flow, bool)> {
    let protocol = prop_oneof![
        4 => select(vec![1, 6, 17, 33, 47, 58, 132, 136]).prop_map(Protocol),
        1 => any::<u8>().prop_map(Protocol),
    ];
    let offloaded = Status::OFFLOAD | Status::HW_OFFLOAD;
    let status = (select(vec![0, Status::ASSURED, Status::OFFLOAD, offloaded]), any::<bool>())
        .prop_map(|(bits, seen)| Status(bits | if seen { Status::SEEN_REPLY } else { 0 }));
    (protocol, any::<bool>(), any::<u16>(), any::<Option<u32>>(), status).prop_flat_map(
        |(protocol, v6, zone, id, status)| {
            let counters = proptest::option::of((any::<u64>(), any::<u64>()));
            (a_tuple(protocol, v6), a_tuple(protocol, v6), counters).prop_map(
                move |(original, reply, counters)| {
                    let counters = counters.map(|(original, reply)| Counters { original, reply });
                    let generation = id.map(u64::from);
                    let counted_at = CountedAt::Path;
                    let flow = Flow {
                        zone,
                        generation,
                        original,
                        reply,
                        counters,
                        status,
                        closed: false,
                        counted_at,
                        ended: false,
                    };
                    (flow, v6)
                },
            )
        },
    )
}

fn a_style() -> impl Strategy<Value = Style> {
    prop_oneof![
        Just(Style::Proc),
        (any::<bool>(), any::<bool>()).prop_map(|(extended, id)| Style::List { extended, id }),
    ]
}

/// Words without meaning for the flow.
const IDLE: [&str; 18] = [
    "mark=7",
    "secmark=0",
    "use=3",
    "helper=ftp",
    "delta-time=9",
    "secctx=u:r:t:s0",
    "zone-reply=4",
    "labels=src=1,b",
    "labels",
    "timeout=30,",
    "packets=3",
    "future=1",
    "=",
    "[start=Mon Nov 23 07:00:00 2026]",
    "[stop=Mon Nov 23 07:00:07 2026]",
    "[NEWS]",
    "ESTABLISHED",
    "-1",
];

proptest! {
    #[test]
    fn what_is_printed_is_parsed_back((flow, v6) in a_flow(), style in a_style()) {
        let line = write_line(&flow, v6, style);
        prop_assert_eq!(parse_line(line.as_bytes()), Ok(expected(&flow, style)), "{}", line);
    }

    #[test]
    fn the_order_of_words_and_idle_words_change_nothing(
        (flow, v6) in a_flow(),
        style in a_style(),
        idle in vec(select(&IDLE[..]), 0..6),
        places in vec(any::<Index>(), 40),
    ) {
        let mut places = places.iter().cycle();
        let mut insert = |words: &mut Vec<String>, from: usize, word: String| {
            let place = places.next().unwrap().index(words.len() + 1 - from);
            words.insert(from + place, word);
        };
        let Parts { header, original, reply, flags, id } = parts(&flow, v6, style);
        let mut words = header;
        let after_header = words.len();
        for direction in [original, reply] {
            // `src=` opens the tuple; what belongs to it has no order.
            let mut shuffled = Vec::new();
            let mut rest = direction.into_iter();
            shuffled.extend(rest.next());
            rest.for_each(|word| insert(&mut shuffled, 1, word));
            words.extend(shuffled);
        }
        let idle = idle.into_iter().map(str::to_owned);
        flags.into_iter().chain(idle).for_each(|word| insert(&mut words, after_header, word));
        // Where every ICMP tuple has its own identifier already.
        words.extend(id);
        let line = words.join(" ");
        prop_assert_eq!(parse_line(line.as_bytes()), Ok(expected(&flow, style)), "{}", line);
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = parse_line(&bytes);
        let table = read_table(&bytes[..], |_| {}).unwrap();
        let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
        prop_assert!(table.flows + table.malformed <= lines);
    }

    #[test]
    fn no_mutated_line_panics_and_errors_are_printable(
        (flow, v6) in a_flow(),
        style in a_style(),
        end in any::<Index>(),
        swaps in vec((any::<Index>(), any::<Index>()), 0..4),
        drops in vec(any::<Index>(), 0..3),
        flips in vec((any::<Index>(), any::<u8>()), 0..4),
    ) {
        let line = write_line(&flow, v6, style);
        let mut words: Vec<&str> = line.split(' ').collect();
        for (one, other) in swaps {
            let (one, other) = (one.index(words.len()), other.index(words.len()));
            words.swap(one, other);
        }
        for word in drops {
            words.remove(word.index(words.len()));
        }
        let shuffled = words.join(" ").into_bytes();
        let truncated = line.as_bytes()[..end.index(line.len() + 1)].to_vec();
        for mut bytes in [shuffled, truncated, line.clone().into_bytes()] {
            for (place, byte) in &flips {
                if !bytes.is_empty() {
                    let place = place.index(bytes.len());
                    bytes[place] = *byte;
                }
            }
            if let Err(error) = parse_line(&bytes) {
                let text = error.to_string();
                prop_assert!(text.len() < 300, "{}", text);
                prop_assert!(text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
            }
        }
    }

    #[test]
    fn a_table_reads_the_same_through_any_buffer(
        flows in vec((a_flow(), a_style()), 0..5),
        capacity in 1_usize..400,
    ) {
        let lines = flows.iter().map(|((flow, v6), style)| write_line(flow, *v6, *style) + "\n");
        let text: String = lines.collect();
        let mut read = Vec::new();
        let input = BufReader::with_capacity(capacity, text.as_bytes());
        let table = read_table(input, |flow| read.push(*flow)).unwrap();
        let printed: Vec<_> =
            flows.iter().map(|((flow, _), style)| expected(flow, *style)).collect();
        prop_assert_eq!(read, printed);
        prop_assert_eq!(table.flows, flows.len() as u64);
        prop_assert_eq!(table.first_error, None);
    }
}
