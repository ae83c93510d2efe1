//! The monitor file: monitors and pipes.

use std::net::IpAddr;
use std::path::Path;

use super::error::{ConfigError, Problem, shown};
use super::ini::{self, Section};
use super::keys::{Fallback, Key, MONITORS};
use super::monitor::{MONITOR, MonitorSettings};
use super::pipe::{PIPE, PipeSettings};
use super::section::Reading;
use super::values::{Expected, Syntax, Wrong};

/// What a section describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SectionType {
    Monitor,
    Pipe,
}

impl SectionType {
    const ALL: [SectionType; 2] = [SectionType::Monitor, SectionType::Pipe];

    /// The value of `type`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            SectionType::Monitor => "monitor",
            SectionType::Pipe => "pipe",
        }
    }
}

/// The key `type` for one of the kinds.
pub(super) const fn section_type<S>(get: fn(&S) -> Option<SectionType>) -> Key<S, SectionType> {
    Key {
        name: "type",
        help: "What the section describes",
        default: Fallback::Required,
        value: &SECTION_TYPE,
        set: |_, _| {},
        get,
    }
}

/// The key `type` for sections whose kind is not known yet.
static TYPE: Key<(), SectionType> = section_type(|()| None);

static SECTION_TYPE: Syntax<SectionType> = Syntax {
    name: "TYPE",
    expected: Expected::OneOf(&[SectionType::ALL[0].name(), SectionType::ALL[1].name()]),
    example: SectionType::Monitor.name(),
    parse: |text| SectionType::ALL.into_iter().find(|one| one.name() == text).ok_or(Wrong::Value),
    show: |section_type| section_type.name().to_owned(),
};

/// Reads the bytes of a monitor file. `file` is the path for messages.
///
/// # Errors
/// All errors in the file.
pub fn parse_monitors(
    file: &Path,
    bytes: &[u8],
) -> Result<(Vec<MonitorSettings>, Vec<PipeSettings>), Vec<ConfigError>> {
    let (document, errors) = ini::parse(file, bytes);
    let mut reading = Reading::new(&document, errors, &MONITORS);
    let mut monitors = Vec::new();
    let mut pipes: Vec<(&Section, PipeSettings)> = Vec::new();
    for section in document.sections() {
        match reading.get(section, &TYPE) {
            Some(SectionType::Monitor) => {
                monitors.extend(reading.read(section, &MONITOR, MonitorSettings::new));
            }
            Some(SectionType::Pipe) => {
                let Some(pipe) = reading.read(section, &PIPE, PipeSettings::new) else { continue };
                if let Some((other, _)) = pipes.iter().find(|(_, other)| collide(other, &pipe)) {
                    let (other, line) = (shown(&other.name), other.line);
                    let problem = Problem::SamePort { port: pipe.port, other, line };
                    reading.wrong(section, "port", problem);
                }
                pipes.push((section, pipe));
            }
            None => {}
        }
    }
    reading.finish((monitors, pipes.into_iter().map(|(_, pipe)| pipe).collect()))
}

/// Whether two pipes would listen on the same port of the same address.
fn collide(a: &PipeSettings, b: &PipeSettings) -> bool {
    a.port == b.port && overlap(a.bind, b.bind)
}

/// Whether listening on one address prevents listening on the other.
fn overlap(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    let (Some(a), Some(b)) = (a.map(|a| a.to_canonical()), b.map(|b| b.to_canonical())) else {
        return true;
    };
    // `::` includes all IPv4 addresses.
    let everywhere =
        |any: IpAddr, other: IpAddr| any.is_unspecified() && (any.is_ipv6() || other.is_ipv4());
    a == b || everywhere(a, b) || everywhere(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_in_each_others_way() {
        let parse = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        for (a, b, expected) in [
            ("", "", true),
            ("", "127.0.0.1", true),
            ("", "::1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("127.0.0.1", "::1", false),
            ("0.0.0.0", "127.0.0.1", true),
            ("0.0.0.0", "::1", false),
            ("::", "127.0.0.1", true),
            ("::", "::1", true),
            ("::", "0.0.0.0", true),
            ("::ffff:127.0.0.1", "127.0.0.1", true),
        ] {
            assert_eq!(overlap(parse(a), parse(b)), expected, "{a} {b}");
            assert_eq!(overlap(parse(b), parse(a)), expected, "{b} {a}");
        }
    }
}
