//! Conntrack's table as text: one entry a line.
//!
//! Two writers use nearly the same format:
//!
//! - the kernel, in `/proc/net/nf_conntrack` (`ct_seq_show` in
//!   `net/netfilter/nf_conntrack_standalone.c`) and in the `/proc/net/ip_conntrack` of old kernels,
//!   which leaves out the family;
//! - `conntrack -L` (libnetfilter_conntrack's `src/conntrack/snprintf_default.c`), which writes the
//!   family with `-o extended` only and IPv6 addresses in their short form.
//!
//! ```text
//! ipv4     2 tcp      6 431999 ESTABLISHED src=10.9.0.1 dst=10.9.0.2 sport=40000 dport=80
//!   packets=4 bytes=226 src=10.9.0.2 dst=10.9.0.1 sport=80 dport=40000 packets=3 bytes=174
//!   [ASSURED] mark=0 zone=0 use=2
//! ```
//!
//! (on one line). Kernels, their options and modules add and omit words. So a line is read word by
//! word: each `src=` opens a tuple, words of a direction belong to the open tuple, and unknown
//! words are skipped.

use std::io::{self, BufRead, Read};
use std::iter::Peekable;
use std::net::IpAddr;

use thiserror::Error;

use crate::model::flow::{Address, CountedAt, Counters, Endpoint, Flow, Protocol, Status, Tuple};

/// The longest line that is read, in bytes and without its newline. Usual ones have 150 to 500;
/// labels and security contexts can make them longer.
const LINE_MAX: usize = 64 * 1024;

/// How many bytes of an offending word an error repeats.
const FOUND_MAX: usize = 40;

/// Why a line is not an entry of conntrack's table: the wrong item, what was expected, and what was
/// found, escaped and cut so that it can be printed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{item}: expected {expected}, found {found}")]
pub struct LineError {
    item: &'static str,
    expected: &'static str,
    found: String,
}

impl LineError {
    fn new(item: &'static str, expected: &'static str, found: &[u8]) -> LineError {
        let (shown, more) = match found.get(..FOUND_MAX) {
            Some(start) if found.len() > FOUND_MAX => (start, "..."),
            _ => (found, ""),
        };
        LineError { item, expected, found: format!("\"{}\"{more}", shown.escape_ascii()) }
    }

    fn missing(item: &'static str, expected: &'static str) -> LineError {
        LineError { item, expected, found: "the end of the line".to_owned() }
    }

    /// The wrong item, as the line names it (`src=`), or a description of it.
    pub fn item(&self) -> &'static str {
        self.item
    }
}

/// The result of reading a table, beside its flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Number of lines that were flows.
    pub flows: u64,
    /// Number of other lines that were not blank.
    pub malformed: u64,
    /// The first line that was not a flow: its number, from 1, and its error.
    pub first_error: Option<(u64, LineError)>,
}

impl Table {
    fn reject(&mut self, line: u64, error: LineError) {
        self.malformed += 1;
        self.first_error.get_or_insert((line, error));
    }
}

/// Reads a table from `input` and hands every flow to `each`, in the order of the lines.
///
/// Only one line is in memory at a time. A line that is no flow, or has more than 64 KiB, is
/// counted as malformed and does not end the table. A last line without a newline is read as well.
///
/// # Errors
///
/// Those of reading `input`. Flows before the error have been handed on.
pub fn read_table(mut input: impl BufRead, mut each: impl FnMut(&Flow)) -> io::Result<Table> {
    let mut table = Table::default();
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        // Room for the newline: without one, a line of this length is too long.
        if input.by_ref().take(LINE_MAX as u64 + 1).read_until(b'\n', &mut line)? == 0 {
            return Ok(table);
        }
        number += 1;
        if line.len() > LINE_MAX && !line.ends_with(b"\n") {
            input.skip_until(b'\n')?;
            table.reject(number, LineError::new("line", "at most 65536 bytes", &line));
        } else if !line.trim_ascii().is_empty() {
            match parse_line(&line) {
                Ok(flow) => {
                    table.flows += 1;
                    each(&flow);
                }
                Err(error) => table.reject(number, error),
            }
        }
    }
}

/// Parses one line of `/proc/net/nf_conntrack`, `/proc/net/ip_conntrack` or `conntrack -L`, with
/// or without its newline.
///
/// - The first `src=` opens the original tuple, the second one the reply tuple.
/// - The protocol is the number that follows its name; the name counts only without a number.
/// - `bytes=` are IP bytes. Without any the kernel kept no counters; if only one direction has
///   them, the other one's are 0.
/// - `zone` is `zone=` or `zone-orig=`, and `generation` the entry's `id=` (`-o id`).
/// - GRE's `srckey=` and `dstkey=` stand in for the ports, as they do in ctnetlink.
/// - `[HW_OFFLOAD]` is printed instead of `[OFFLOAD]` and means both. Either hides `[ASSURED]`.
///
/// # Errors
///
/// The protocol is unknown. There are not exactly two tuples. A tuple has no `dst=`, or lacks the
/// ports (TCP, UDP) or the type, code and identifier (ICMP) that its protocol always has. A known
/// word appears too often or has an invalid value. An address is not of the line's family.
pub fn parse_line(line: &[u8]) -> Result<Flow, LineError> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).peekable();
    let mut entry = Entry::begin(&mut words)?;
    while let Some(word) = words.next() {
        if word.starts_with(b"[") {
            entry.bracketed(word, &mut words)?;
            continue;
        }
        let mut parts = word.splitn(2, |byte| *byte == b'=');
        // A word without a value is the timeout or the state of the connection. Neither is used,
        // and there are states that this program does not know.
        if let (Some(key), Some(value)) = (parts.next(), parts.next()) {
            entry.assigned(key, value)?;
        }
    }
    entry.finish()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// One direction, as far as it has been read.
struct Direction {
    source: IpAddr,
    destination: Option<IpAddr>,
    /// The port, the GRE key or the ICMP identifier.
    source_port: Option<u16>,
    destination_port: Option<u16>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
    bytes: Option<u64>,
}

/// A line, as far as it has been read.
struct Entry {
    protocol: Protocol,
    family: Option<Family>,
    /// The tuple before the open one.
    closed: Option<Direction>,
    /// The tuple to which the next words belong.
    open: Option<Direction>,
    /// Every bit but `IPS_SEEN_REPLY`, whose absence the text shows as `[UNREPLIED]`.
    status: u32,
    unreplied: bool,
    zone: Option<u16>,
    id: Option<u64>,
}

impl Entry {
    /// Reads the beginning of the line: `[family number] protocol [number]`.
    fn begin<'a>(words: &mut Peekable<impl Iterator<Item = &'a [u8]>>) -> Result<Entry, LineError> {
        let is_number = |word: &&[u8]| word.iter().all(u8::is_ascii_digit);
        let mut name = words.next();
        let family = match name {
            Some(b"ipv4") => Some(Family::V4),
            Some(b"ipv6") => Some(Family::V6),
            _ => None,
        };
        if family.is_some() {
            if words.next_if(is_number).is_none() {
                let expected = "the family's number";
                return Err(match words.peek() {
                    Some(word) => LineError::new("family", expected, word),
                    None => LineError::missing("family", expected),
                });
            }
            name = words.next();
        }
        let name = name.ok_or_else(|| LineError::missing("protocol", "its name"))?;
        if !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') {
            return Err(LineError::new("protocol", "its name", name));
        }
        let protocol = match words.next_if(is_number) {
            Some(number) => Protocol(narrow(number, "protocol", "a number up to 255")?),
            None => protocol_named(name)
                .ok_or_else(|| LineError::new("protocol", "a number or a known name", name))?,
        };
        Ok(Entry {
            protocol,
            family,
            closed: None,
            open: None,
            status: 0,
            unreplied: false,
            zone: None,
            id: None,
        })
    }

    /// Takes a word that begins with a bracket, and from `words` the rest of one with spaces
    /// (`[start=Mon Nov 23 07:00:00 2026]`).
    fn bracketed<'a>(
        &mut self,
        word: &[u8],
        words: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), LineError> {
        match word {
            b"[UNREPLIED]" => self.unreplied = true,
            b"[ASSURED]" => self.status |= Status::ASSURED,
            b"[OFFLOAD]" => self.status |= Status::OFFLOAD,
            b"[HW_OFFLOAD]" => self.status |= Status::OFFLOAD | Status::HW_OFFLOAD,
            _ => {}
        }
        let mut last = word;
        while !last.ends_with(b"]") {
            last = words.next().ok_or_else(|| LineError::new("[", "a closing bracket", word))?;
        }
        Ok(())
    }

    /// Takes a word `key=value`.
    fn assigned(&mut self, key: &[u8], value: &[u8]) -> Result<(), LineError> {
        let icmp = self.protocol.is_icmp();
        match key {
            b"src" => {
                let source = self.address(value, "src=")?;
                if self.closed.is_some() {
                    return Err(LineError::new("src=", "no third tuple", value));
                }
                self.closed = self.open.replace(Direction {
                    source,
                    destination: None,
                    source_port: None,
                    destination_port: None,
                    icmp_type: None,
                    icmp_code: None,
                    bytes: None,
                });
                Ok(())
            }
            b"dst" => {
                let address = self.address(value, "dst=")?;
                set(&mut self.tuple("dst=", value)?.destination, address, "dst=", value)
            }
            b"sport" if !icmp => {
                let port = narrow(value, "sport=", PORT)?;
                set(&mut self.tuple("sport=", value)?.source_port, port, "sport=", value)
            }
            b"dport" if !icmp => {
                let port = narrow(value, "dport=", PORT)?;
                set(&mut self.tuple("dport=", value)?.destination_port, port, "dport=", value)
            }
            b"srckey" if !icmp => {
                let key = gre_key(value, "srckey=")?;
                set(&mut self.tuple("srckey=", value)?.source_port, key, "srckey=", value)
            }
            b"dstkey" if !icmp => {
                let key = gre_key(value, "dstkey=")?;
                set(&mut self.tuple("dstkey=", value)?.destination_port, key, "dstkey=", value)
            }
            b"type" if icmp => {
                let number = narrow(value, "type=", "a number up to 255")?;
                set(&mut self.tuple("type=", value)?.icmp_type, number, "type=", value)
            }
            b"code" if icmp => {
                let number = narrow(value, "code=", "a number up to 255")?;
                set(&mut self.tuple("code=", value)?.icmp_code, number, "code=", value)
            }
            // `id=` names both the ICMP identifier and the entry: each ICMP tuple has its own
            // first.
            b"id" => match &mut self.open {
                Some(tuple) if icmp && tuple.source_port.is_none() => {
                    tuple.source_port = Some(narrow(value, "id=", PORT)?);
                    Ok(())
                }
                _ => set(&mut self.id, decimal(value, "id=")?, "id=", value),
            },
            b"bytes" => {
                let bytes = decimal(value, "bytes=")?;
                set(&mut self.tuple("bytes=", value)?.bytes, bytes, "bytes=", value)
            }
            b"zone" | b"zone-orig" => {
                let zone = narrow(value, "zone=", PORT)?;
                set(&mut self.zone, zone, "zone=", value)
            }
            _ => Ok(()),
        }
    }

    /// The open tuple; `item` and `found` are the word that needs one.
    fn tuple(&mut self, item: &'static str, found: &[u8]) -> Result<&mut Direction, LineError> {
        self.open.as_mut().ok_or_else(|| LineError::new(item, "src= before it", found))
    }

    /// An address of the line's family. A line without a family has that of its first address.
    fn address(&mut self, value: &[u8], item: &'static str) -> Result<IpAddr, LineError> {
        let address: IpAddr = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| LineError::new(item, "an IP address", value))?;
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        if *self.family.get_or_insert(family) != family {
            return Err(LineError::new(item, "an address of the line's family", value));
        }
        Ok(address)
    }

    fn finish(self) -> Result<Flow, LineError> {
        let Some(reply) = self.open else {
            return Err(LineError::missing("src=", "the original tuple"));
        };
        let Some(original) = self.closed else {
            return Err(LineError::missing("src=", "the reply tuple"));
        };
        let counters = match (original.bytes, reply.bytes) {
            (None, None) => None,
            (original, reply) => Some(Counters {
                original: original.unwrap_or_default(),
                reply: reply.unwrap_or_default(),
            }),
        };
        Ok(Flow {
            zone: self.zone.unwrap_or_default(),
            generation: self.id,
            original: original.finish(self.protocol)?,
            reply: reply.finish(self.protocol)?,
            counters,
            status: Status(self.status | if self.unreplied { 0 } else { Status::SEEN_REPLY }),
            counted_at: CountedAt::Path,
            closed: false,
            ended: false,
        })
    }
}

impl Direction {
    fn finish(self, protocol: Protocol) -> Result<Tuple, LineError> {
        let destination =
            self.destination.ok_or_else(|| LineError::missing("dst=", "an IP address"))?;
        let destination_port = match (self.icmp_type, self.icmp_code) {
            (Some(kind), Some(code)) => Some(u16::from_be_bytes([kind, code])),
            _ => self.destination_port,
        };
        // A protocol without a tracker of its own in the kernel has no ports here, whatever it has
        // on the wire. A tuple of one of these four protocols without ports was cut short.
        let needs = matches!(protocol, Protocol::TCP | Protocol::UDP) || protocol.is_icmp();
        let (items, expected) = match protocol.is_icmp() {
            true => (["id=", "type= and code="], "that of the ICMP message"),
            false => (["sport=", "dport="], "a port"),
        };
        let (source_port, destination_port) = match (self.source_port, destination_port) {
            (Some(source), Some(destination)) => (source, destination),
            (None, None) if !needs => (0, 0),
            (None, _) => return Err(LineError::missing(items[0], expected)),
            (_, None) => return Err(LineError::missing(items[1], expected)),
        };
        Ok(Tuple {
            protocol,
            source: Endpoint::new(Address::from(self.source), source_port),
            destination: Endpoint::new(Address::from(destination), destination_port),
        })
    }
}

const PORT: &str = "a number up to 65535";

fn protocol_named(name: &[u8]) -> Option<Protocol> {
    Some(match name {
        b"icmp" => Protocol::ICMP,
        b"tcp" => Protocol::TCP,
        b"udp" => Protocol::UDP,
        b"dccp" => Protocol::DCCP,
        b"gre" => Protocol::GRE,
        b"icmpv6" => Protocol::ICMPV6,
        b"sctp" => Protocol::SCTP,
        b"udplite" => Protocol::UDPLITE,
        _ => return None,
    })
}

/// Fills `slot`. A word that comes twice means that two lines were joined.
fn set<T>(
    slot: &mut Option<T>,
    value: T,
    item: &'static str,
    found: &[u8],
) -> Result<(), LineError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(LineError::new(item, "no second one", found)),
    }
}

/// Digits and nothing else: `str::parse` would take a sign.
fn decimal(value: &[u8], item: &'static str) -> Result<u64, LineError> {
    digits(value, 10).ok_or_else(|| LineError::new(item, "a 64-bit number", value))
}

/// A decimal number that fits a narrower type.
fn narrow<T: TryFrom<u64>>(
    value: &[u8],
    item: &'static str,
    expected: &'static str,
) -> Result<T, LineError> {
    digits(value, 10)
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| LineError::new(item, expected, value))
}

/// GRE's keys are written `0x%x` and have 16 bits in a tuple (`struct nf_conntrack_man_proto`).
fn gre_key(value: &[u8], item: &'static str) -> Result<u16, LineError> {
    value
        .strip_prefix(b"0x")
        .and_then(|hex| digits(hex, 16))
        .and_then(|number| u16::try_from(number).ok())
        .ok_or_else(|| LineError::new(item, "0x and up to four digits", value))
}

fn digits(value: &[u8], radix: u32) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        let digit = char::from(*byte).to_digit(radix)?;
        number.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests;
