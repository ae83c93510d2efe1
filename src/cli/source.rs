//! `--source`: what is asked for, and what this kernel and user allow.

use std::path::Path;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::notices::Notices;
use crate::conntrack::state::{self, State};
use crate::netns::NetnsChoice;
use crate::watch::{Looked, Source, SourceChoice, Watch, WatchError};

impl ValueEnum for SourceChoice {
    fn value_variants<'a>() -> &'a [SourceChoice] {
        &SourceChoice::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            SourceChoice::Ebpf => "IP bytes of every socket, counted in the kernel from now on",
            SourceChoice::Conntrack => "IP bytes of every tracked flow, from connection tracking",
            SourceChoice::Sockets => "Payload bytes of TCP, from the sockets themselves",
            SourceChoice::Auto => "eBPF where it is allowed, else conntrack, else sockets",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

impl ValueEnum for NetnsChoice {
    fn value_variants<'a>() -> &'a [NetnsChoice] {
        &[NetnsChoice::All, NetnsChoice::Own]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            NetnsChoice::All => {
                PossibleValue::new("all").help("Those of all processes, containers among them")
            }
            NetnsChoice::Own => {
                PossibleValue::new("own").help("Only the one in which the program runs")
            }
        })
    }
}

/// Switches counting on.
pub(super) const MEND_ACCOUNTING: &str = "sudo sysctl -w net.netfilter.nf_conntrack_acct=1";
/// Makes the kernel have connection tracking.
pub(super) const MEND_MODULE: &str = "sudo modprobe nf_conntrack";
/// Makes the kernel track: any rule that asks for a connection's state does.
pub(super) const MEND_HOOKS: &str = "sudo nft 'add table inet bwmon { chain track { \
    type filter hook input priority 0; ct state new; }; }'";

/// What eBPF doesn't count where its programs can't read the kernel's structures, and why.
pub(super) const UNREAD_KERNEL: &str = "what packet sockets send and packets without a socket are not counted, and \
    short Multipath TCP connections have no process, because eBPF can't read this kernel's structures (no BTF, or \
    lockdown)";
/// Lets eBPF read them.
pub(super) const MEND_UNREAD_KERNEL: &str = "use a kernel that has /sys/kernel/btf/vmlinux \
    (CONFIG_DEBUG_INFO_BTF) and is not booted with lockdown=confidentiality";

/// Why connection tracking doesn't count here, with what mends it; `None` if it does.
pub(super) fn impediment(state: State) -> Option<(&'static str, &'static str)> {
    match state {
        State { accounting: None, .. } => {
            Some(("this kernel has no connection tracking loaded", MEND_MODULE))
        }
        State { accounting: Some(false), .. } => Some((
            "conntrack's accounting is off (net.netfilter.nf_conntrack_acct=0)",
            MEND_ACCOUNTING,
        )),
        State { entries: Some(0), .. } => Some((
            "conntrack's table is empty: no rule makes the kernel track in this network \
             namespace, or nothing was sent yet",
            MEND_HOOKS,
        )),
        _ => None,
    }
}

/// The source to watch where eBPF is not, and a line on it where there is something to say.
fn choose(choice: SourceChoice, proc: &Path) -> (Source, Option<String>) {
    let impediment = impediment(state::read(proc));
    match (choice, impediment) {
        (SourceChoice::Ebpf, _) => (Source::Ebpf, None),
        (SourceChoice::Sockets, _) => (Source::Sockets, None),
        (SourceChoice::Conntrack, None) => (Source::Conntrack, None),
        (SourceChoice::Conntrack, Some((why, mend))) => {
            (Source::Conntrack, Some(format!("{why}; to mend it: {mend}")))
        }
        (SourceChoice::Auto, None) => (
            Source::Conntrack,
            Some("source conntrack: it is on and counts the bytes of all flows".to_owned()),
        ),
        (SourceChoice::Auto, Some((why, mend))) => {
            (Source::Sockets, Some(instead_of_conntrack(why, mend)))
        }
    }
}

/// What a choice comes to, if that is among those that are `open` already.
pub(super) fn known(
    choice: SourceChoice,
    proc: &Path,
    mut open: impl Iterator<Item = Source>,
) -> Option<Source> {
    let source = match choice {
        // Whether it is allowed is known only by trying.
        SourceChoice::Auto => Source::Ebpf,
        choice => choose(choice, proc).0,
    };
    open.find(|open| *open == source)
}

/// Opens what was chosen, takes the `first` look at it, and says what there is to say; `auto` takes
/// the next source where one can't be read.
pub(super) fn open(
    choice: SourceChoice,
    netns: NetnsChoice,
    lookback: bool,
    proc: &Path,
    notices: &mut Notices,
    mut first: impl FnMut(&mut Watch) -> Result<Looked, WatchError>,
) -> Result<Watch, WatchError> {
    let mut no_ebpf = None;
    if choice == SourceChoice::Auto {
        match Watch::open(Source::Ebpf, netns, lookback, proc) {
            Ok(mut watch) => {
                let looked = first(&mut watch)?;
                notices.say("source ebpf: the kernel counts the bytes of every socket from now on");
                notices.tell(&looked, Source::Ebpf);
                return Ok(watch);
            }
            Err(WatchError::Ebpf(error)) => no_ebpf = Some(error),
            Err(error) => return Err(error),
        }
    }
    let opened = open_without_ebpf(choice, netns, lookback, proc, &mut first);
    let unprivileged = no_ebpf.as_ref().is_some_and(|error| error.mend().is_some());
    match opened {
        // What each source lacks is the same, and can be said at once.
        Ok((watch, looked, _))
            if unprivileged && watch.source() == Source::Sockets && looked.denied > 0 =>
        {
            notices.tell_unprivileged(&looked);
            notices.tell(&looked, Source::Sockets);
            Ok(watch)
        }
        opened => {
            if let Some(error) = no_ebpf {
                notices.say(&format!("no source ebpf: {error}"));
            }
            let (watch, looked, note) = opened?;
            if let Some(note) = note {
                notices.say(&note);
            }
            notices.tell(&looked, watch.source());
            Ok(watch)
        }
    }
}

/// Opens what was chosen, or what `auto` takes after eBPF, and takes the first look at it. There may
/// be a line to say on it.
fn open_without_ebpf(
    choice: SourceChoice,
    netns: NetnsChoice,
    lookback: bool,
    proc: &Path,
    first: &mut impl FnMut(&mut Watch) -> Result<Looked, WatchError>,
) -> Result<(Watch, Looked, Option<String>), WatchError> {
    let (source, note) = choose(choice, proc);
    let mut watch = Watch::open(source, netns, lookback, proc)?;
    match first(&mut watch) {
        Err(WatchError::Conntrack(error)) if choice == SourceChoice::Auto => {
            let mend =
                if error.is_permission() { "run it as root (CAP_NET_ADMIN)" } else { MEND_MODULE };
            let note = instead_of_conntrack(&error.to_string(), mend);
            let mut watch = Watch::open(Source::Sockets, netns, lookback, proc)?;
            let looked = first(&mut watch)?;
            Ok((watch, looked, Some(note)))
        }
        looked => Ok((watch, looked?, note)),
    }
}

/// The line that says why `auto` watches sockets.
fn instead_of_conntrack(why: &str, mend: &str) -> String {
    format!("source sockets (payload bytes of TCP only): {why}; to mend it: {mend}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conntrack_counts_where_it_is_on_and_has_flows() {
        let alive = State { accounting: Some(true), entries: Some(1), ..State::default() };
        assert_eq!(impediment(alive), None);
        assert_eq!(impediment(State { entries: None, ..alive }), None);
        let mend = |state| impediment(state).map(|(_, mend)| mend);
        assert_eq!(mend(State::default()), Some(MEND_MODULE));
        assert_eq!(mend(State { accounting: Some(false), ..alive }), Some(MEND_ACCOUNTING));
        assert_eq!(mend(State { entries: Some(0), ..alive }), Some(MEND_HOOKS));
    }
}
