//! A monitor: its settings and their keys.

use regex::bytes::Regex;

use super::keys::{Fallback, Key, Kind};
use super::monitors::{SectionType, section_type};
use super::values;
use crate::filter::Filter;
use crate::model::SourceChoice;

/// A monitor: a selection of processes.
#[derive(Clone, Debug)]
pub struct MonitorSettings {
    /// The name of its section. Raw bytes.
    pub name: Vec<u8>,
    /// The selected command lines. A file gives at most one `include` and one `exclude`.
    pub filter: Filter,
    /// Whether bytes that stay on this host are left out (`ignorelocal`).
    pub ignore_local: bool,
    /// The source; `None` for that of `--source`.
    pub source: Option<SourceChoice>,
}

impl MonitorSettings {
    /// The monitor that applies without a monitor file: it selects everything.
    pub fn all() -> MonitorSettings {
        MonitorSettings::new(b"all")
    }

    /// The settings of a section without keys.
    pub(super) fn new(name: &[u8]) -> MonitorSettings {
        let (name, filter) = (name.to_vec(), Filter::default());
        MonitorSettings { name, filter, ignore_local: false, source: None }
    }
}

type MonitorKey<T> = Key<MonitorSettings, T>;

/// The keys of a monitor.
pub(super) static MONITOR: Kind<MonitorSettings> = Kind {
    name: SectionType::Monitor.name(),
    keys: &[&TYPE, &INCLUDE, &EXCLUDE, &IGNORELOCAL, &SOURCE],
};

static TYPE: MonitorKey<SectionType> = section_type(|_| Some(SectionType::Monitor));

pub(crate) static INCLUDE: MonitorKey<Regex> = Key {
    name: "include",
    help: "Show only processes whose command line this regular expression matches, anywhere in it",
    default: Fallback::Nothing("every process"),
    value: &values::PATTERN,
    set: |monitor, pattern| monitor.filter.include = vec![pattern],
    get: |monitor| monitor.filter.include.first().cloned(),
};

pub(crate) static EXCLUDE: MonitorKey<Regex> = Key {
    name: "exclude",
    help: "Leave out processes whose command line this regular expression matches, anywhere in \
           it, even if they are included",
    default: Fallback::Nothing("none"),
    value: &values::PATTERN,
    set: |monitor, pattern| monitor.filter.exclude = vec![pattern],
    get: |monitor| monitor.filter.exclude.first().cloned(),
};

pub(crate) static IGNORELOCAL: MonitorKey<bool> = Key {
    name: "ignorelocal",
    help: "Leave out traffic that never leaves this host: both ends are loopback addresses, or \
           addresses of this host",
    default: Fallback::Value("false"),
    value: &values::TRUTH,
    set: |monitor, ignore| monitor.ignore_local = ignore,
    get: |monitor| Some(monitor.ignore_local),
};

pub(crate) static SOURCE: MonitorKey<SourceChoice> = Key {
    name: "source",
    help: "Where bytes are counted",
    default: Fallback::Nothing("the value of --source"),
    value: &values::SOURCE,
    set: |monitor, source| monitor.source = Some(source),
    get: |monitor| monitor.source,
};
