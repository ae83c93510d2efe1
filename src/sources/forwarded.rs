//! Traffic without a socket on this host, from connection tracking, beside a source that counts at
//! sockets: forwarded flows, and the pings that the kernel receives and answers.

use std::time::Instant;

use super::flow_reading::{Counted, FlowReading};
use super::{Needs, Round, Source};
use crate::attribution::Share;
use crate::conntrack;
use crate::environment::{Environment, Lists, WatchError};
use crate::model::flow::Flow;
use crate::model::owner::{Owner, Reason};
use crate::model::traffic::Traffic;
use crate::netns::NetnsKey;
use crate::processes::Owners;

/// Reads connection tracking's tables for it.
#[derive(Debug)]
pub(crate) struct Forwarded {
    /// `None` once the tables can't be read any more.
    flows: Option<FlowReading>,
    forwarded: Extra,
    pings: Extra,
    /// Number of looks for which new bytes have no known time: nothing was accounted while the first
    /// reading went on.
    undated: u32,
}

/// Bytes that connection tracking has counted and no socket has.
#[derive(Debug, Default)]
struct Extra {
    /// The sum at this look, and at the look before. Bytes without an owner may get one a moment later, so
    /// only bytes that stay at two looks are accounted.
    total: Traffic,
    before: Traffic,
    credited: Traffic,
}

impl Extra {
    /// Adds a share to this reason, or subtracts it.
    fn take(&mut self, reason: Reason, share: &Share) {
        if share.from == Some(reason) {
            self.total -= share.traffic - share.recent;
        }
        if share.to == Owner::Nobody(reason) {
            self.total += share.traffic;
        }
    }

    /// The new bytes, if sockets have `counted` this much.
    fn grow(&mut self, counted: Traffic) -> Traffic {
        let stays = |now: u64, before: u64| now.min(before);
        let extra = Traffic {
            received: stays(self.total.received, self.before.received),
            sent: stays(self.total.sent, self.before.sent),
        } - counted;
        self.before = self.total;
        let new = extra - self.credited;
        self.credited += new;
        new
    }
}

impl Forwarded {
    /// Counts from the next look on; `None` if connection tracking doesn't count.
    pub(crate) fn open(environment: &mut Environment) -> Option<Forwarded> {
        // An empty table may get entries later.
        let counts = conntrack::sysctls::read(environment.proc()).accounting == Some(true);
        counts.then(|| {
            environment.open_flows();
            Forwarded {
                flows: Some(FlowReading::new(Counted::ByTables, false, false)),
                forwarded: Extra::default(),
                pings: Extra::default(),
                undated: 0,
            }
        })
    }
}

impl Source for Forwarded {
    /// An end that has a socket is not forwarded.
    fn prepare(&mut self, _: Option<Instant>) -> Needs {
        let lists = if self.flows.is_some() { Lists::All } else { Lists::Nothing };
        Needs { lists, ..Needs::default() }
    }

    /// Accounts what is new since the last look, but for what the kernel's own sockets have counted of pings.
    fn poll(&mut self, round: &mut Round<'_>) -> Result<(), WatchError> {
        let Some(flows) = &mut self.flows else { return Ok(()) };
        let Round { environment, looked, pings, credit, .. } = round;
        let (forwarded, own_pings) = (&mut self.forwarded, &mut self.pings);
        let mut each = |flow: Option<&Flow>, share: Share, _: &mut Owners| {
            forwarded.take(Reason::Forwarded, &share);
            // Other kernel's traffic than pings is a socket's.
            if flow.is_some_and(|flow| flow.original.protocol.is_icmp()) {
                own_pings.take(Reason::Kernel, &share);
            }
        };
        match flows.poll(environment, looked, &mut each) {
            Ok(observation) => {
                looked.flows += observation.flows;
                looked.uncounted += observation.uncounted;
            }
            Err(error) => {
                looked.forwarded_error = Some(WatchError::from(error).to_string());
                self.flows = None;
                environment.close_flows();
                return Ok(());
            }
        }
        if environment.unread().is_anything() {
            // Traffic that seems forwarded may belong to a socket.
            self.undated = 2;
            return Ok(());
        }
        for (reason, new) in [
            (Reason::Forwarded, self.forwarded.grow(Traffic::ZERO)),
            (Reason::Kernel, self.pings.grow(*pings)),
        ] {
            if !new.is_zero() {
                let recent = if self.undated > 0 { Traffic::ZERO } else { new };
                let to = reason.into();
                let share =
                    Share { to, traffic: new, recent, from: None, local: false, remote: None };
                credit(&share, &mut environment.owners);
            }
        }
        self.undated = self.undated.saturating_sub(1);
        Ok(())
    }

    fn forget(&mut self, netns: NetnsKey) {
        if let Some(flows) = &mut self.flows {
            flows.forget(netns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_and_was_not_counted_at_a_socket_is_new() {
        let mut extra = Extra::default();
        let mut grow = |total: u64, counted: u64| {
            extra.total = Traffic::new(total, total);
            extra.grow(Traffic::new(counted, 0))
        };
        // A moment later it has an owner.
        assert_eq!(grow(100, 0), Traffic::ZERO);
        assert_eq!(grow(0, 0), Traffic::ZERO);
        assert_eq!(grow(500, 0), Traffic::ZERO);
        assert_eq!(grow(500, 200), Traffic::new(300, 500));
        assert_eq!(grow(500, 200), Traffic::ZERO);
        // More was counted at sockets than is known otherwise.
        assert_eq!(grow(600, 900), Traffic::ZERO);
    }

    #[test]
    fn what_moves_to_somebody_is_not_forwarded_any_more() {
        let mut extra = Extra::default();
        let traffic = Traffic::new(100, 10);
        let to = Owner::Nobody(Reason::Forwarded);
        let recent = traffic;
        let share = Share { to, traffic, recent, from: None, local: false, remote: None };
        extra.take(Reason::Forwarded, &share);
        extra.take(Reason::Kernel, &share);
        assert_eq!(extra.total, traffic);
        let process = crate::processes::ProcessId { start_time: 1, pid: 1 };
        let moved = Share {
            to: process.into(),
            traffic: Traffic::new(150, 10),
            recent: Traffic::new(50, 0),
            from: Some(Reason::Forwarded),
            local: false,
            remote: None,
        };
        extra.take(Reason::Forwarded, &moved);
        assert_eq!(extra.total, Traffic::ZERO);
    }
}
