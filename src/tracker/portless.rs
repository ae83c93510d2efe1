//! Flows of raw and ping sockets: ICMP, and all protocols that the kernel leaves to user space.

use std::time::Instant;

use super::retry::Lookup;
use super::worker::{Answer, Worker};
use crate::model::flow::Address;
use crate::sockets::{Match, Socket};

impl Worker {
    /// Reads the raw and ping sockets of a namespace and answers the lookups at the indexes in `group`,
    /// which all belong to it. If no time is left for that, the next look answers them.
    pub(super) fn ask_portless(
        &mut self,
        lookups: &[Lookup],
        group: &[usize],
        answers: &mut [Answer],
    ) {
        let start = Instant::now();
        self.raw_reading.refill(start);
        if !self.raw_reading.spend(start) {
            return;
        }
        self.search.peek();
        let at = lookups[group[0]].at;
        let Some(netns_listener) =
            self.netns_listeners.iter_mut().find(|netns_listener| netns_listener.key == at)
        else {
            return;
        };
        let netns = netns_listener.id;
        let is_of = |v4: bool| {
            let source = |place: &usize| lookups[*place].tuple().source.address;
            group.iter().map(source).any(|address: Address| address.is_v4() == v4)
        };
        if netns_listener.raw.read(is_of(true), is_of(false)).is_err() {
            return;
        }
        let found = |place: &usize| -> Vec<Socket> {
            let matching = netns_listener.raw.find(&lookups[*place].tuple());
            matching.into_iter().flat_map(Match::sockets).copied().collect()
        };
        let found: Vec<Vec<Socket>> = group.iter().map(found).collect();
        self.raw_reading.spend(Instant::now());
        for (place, sockets) in group.iter().zip(found) {
            let each = sockets.into_iter();
            let each = each.map(|socket| self.resolve(&lookups[*place], Some(socket), netns));
            answers[*place] = one_of(each);
        }
    }
}

/// The answer for a flow that may belong to any of several sockets: their process if all have the
/// same one.
fn one_of(answers: impl Iterator<Item = Answer>) -> Answer {
    let mut common = None;
    for answer in answers {
        match (answer, common) {
            (Answer::Held(seen), None) => common = Some(seen),
            (Answer::Held(seen), Some(other)) if seen == other => {}
            (Answer::Held(_) | Answer::Gone, _) => return Answer::Gone,
            (pending, _) => return pending,
        }
    }
    common.map_or(Answer::Gone, Answer::Held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::NetnsKey;
    use crate::processes::ProcessId;
    use crate::tracker::Seen;

    fn held(pid: u32) -> Answer {
        Answer::Held(Seen { process: ProcessId { start_time: 1, pid }, netns: NetnsKey::OWN })
    }

    fn process(answers: impl IntoIterator<Item = Answer>) -> Option<u32> {
        match one_of(answers.into_iter()) {
            Answer::Held(seen) => Some(seen.process.pid),
            _ => None,
        }
    }

    #[test]
    fn several_sockets_are_one_processs_or_nobodys() {
        assert_eq!(process([]), None);
        assert_eq!(process([held(1)]), Some(1));
        assert_eq!(process([held(1), held(1)]), Some(1));
        assert_eq!(process([held(1), held(2)]), None);
        assert_eq!(process([held(1), Answer::Gone]), None);
        assert!(matches!(one_of([held(1), Answer::Pending].into_iter()), Answer::Pending));
    }
}
