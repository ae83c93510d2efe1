//! Traffic that has no socket on this host, as far as connection tracking knows it.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Instant;

use crate::attribution::{Reason, Share};
use crate::conntrack;
use crate::ledger::{Ledger, Options};
use crate::netns::NetnsChoice;
use crate::processes::{LabelBy, Names};
use crate::traffic::Traffic;
use crate::watch::{Looked, Source, Watch, WatchError, flows};

/// What connection tracking says of traffic that has no socket here.
#[derive(Debug)]
pub(super) struct Forwarded {
    watch: Box<Watch>,
    ledger: Ledger,
    forwarded: Extra,
    pings: Extra,
    /// For how many looks what is new has come nobody knows when: it was not accounted while not everything
    /// was read.
    undated: u32,
}

/// What connection tracking knows beyond what was counted at sockets.
#[derive(Debug, Default)]
struct Extra {
    /// What it said at the look before. What is nobody's at first may be somebody's a moment later: only
    /// what stays counts.
    before: Traffic,
    credited: Traffic,
}

impl Extra {
    /// What is new of `total`, of which so much was `counted` at sockets.
    fn grow(&mut self, total: Traffic, counted: Traffic) -> Traffic {
        let stays = |now: u64, before: u64| now.min(before);
        let extra = Traffic {
            received: stays(total.received, self.before.received),
            sent: stays(total.sent, self.before.sent),
        } - counted;
        self.before = total;
        let new = extra - self.credited;
        self.credited += new;
        new
    }
}

impl Forwarded {
    /// `None` where connection tracking doesn't count.
    pub(super) fn open(names: &Names, choice: NetnsChoice, proc: &Path) -> Option<Forwarded> {
        // Where its table is still empty, there may be something to count later.
        let counts = conntrack::state::read(proc).accounting == Some(true);
        let watch = Watch::beside(names, Source::Conntrack, choice, false, proc);
        watch.ok().filter(|_| counts).map(|watch| Forwarded {
            watch: Box::new(Watch { socketless: true, ..watch }),
            ledger: Ledger::new(Options::default()),
            forwarded: Extra::default(),
            pings: Extra::default(),
            undated: 0,
        })
    }

    /// Labels processes as the watch does that shares its table of names: it may read a process first.
    pub(super) fn label_by(&mut self, labels: Vec<LabelBy>) {
        self.watch.label_by(labels);
    }

    /// Descriptors that become readable when there is something for [`Forwarded::drain`].
    pub(super) fn events(&self) -> Vec<BorrowedFd<'_>> {
        self.watch.events().collect()
    }

    /// Takes what was announced since the last time: flows may begin and end between two looks by the ten
    /// thousand, more than the kernel's buffer has room for. Whether it is time for a look.
    pub(super) fn drain(&mut self) -> bool {
        self.watch.drain()
    }

    /// Accounts what is new since the last look: what passed through, and the pings that the kernel has
    /// received and answered, but for what its own sockets have counted of them, `pings`.
    pub(super) fn look(
        &mut self,
        pings: Traffic,
        ledger: &mut Ledger,
        until: Option<Instant>,
    ) -> Result<Looked, WatchError> {
        let looked = self.watch.look_until(&mut self.ledger, until)?;
        if looked.unread.is_anything() {
            // What seems to pass through may be somebody's.
            self.undated = 2;
            return Ok(looked);
        }
        for reason in [Reason::Forwarded, Reason::Kernel] {
            let mut all = self.ledger.unattributed();
            let total =
                all.find(|of| of.reason == reason).map_or(Traffic::ZERO, |of| of.account.total);
            let new = match reason {
                Reason::Forwarded => self.forwarded.grow(total, Traffic::ZERO),
                _ => self.pings.grow(total, pings),
            };
            if !new.is_zero() {
                let to = Err(reason);
                let recent = if self.undated > 0 { Traffic::ZERO } else { new };
                let share = Share { to, traffic: new, recent, from: None, local: false };
                ledger.credit(&share, flows::unknown);
            }
        }
        self.undated = self.undated.saturating_sub(1);
        self.ledger.begin();
        Ok(looked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_and_was_not_counted_at_a_socket_is_new() {
        let mut extra = Extra::default();
        let mut grow = |total: u64, counted: u64| {
            extra.grow(Traffic::new(total, total), Traffic::new(counted, 0))
        };
        // Somebody's, a moment later.
        assert_eq!(grow(100, 0), Traffic::ZERO);
        assert_eq!(grow(0, 0), Traffic::ZERO);
        assert_eq!(grow(500, 0), Traffic::ZERO);
        assert_eq!(grow(500, 200), Traffic::new(300, 500));
        assert_eq!(grow(500, 200), Traffic::ZERO);
        // More was counted at sockets than is known otherwise.
        assert_eq!(grow(600, 900), Traffic::ZERO);
    }
}
