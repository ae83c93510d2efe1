use proptest::prelude::*;

use super::pressure::{IDLE, IDLE_CLOSED, IDLE_ENDED, is_done, may_be_done};
use super::*;
use crate::ebpf::{Outside, Task};
use crate::model::flow::{Address, Endpoint, Protocol};
use crate::model::{Interface, Remote};
use crate::processes::Ownership;

const MAKER: ProcessId = ProcessId { start_time: 10, pid: 100 };
const WORKER: ProcessId = ProcessId { start_time: 20, pid: 200 };

const MADE: Origin = Origin {
    maker: Some(Task { pid: 100, start: Some(10), name: [0; 16] }),
    made: 1,
    closer: None,
    accepted: false,
    listener: 0,
    released: false,
    ended: false,
    listening: false,
    silent: false,
    multipath: false,
    token: 0,
    netns: 1,
    ports: [1, 2],
    protocol: Protocol::TCP,
};
const NOTHING: Candidates = Candidates { holder: None, maker: None, closer: None };

fn remote(received: u64, sent: u64) -> Bytes {
    Bytes { remote: Traffic { received, sent }, local: Traffic::ZERO }
}

fn counted(slot: u32, cookie: u64, bytes: Bytes) -> Counted {
    Counted { slot, cookie, inode: None, bytes }
}

/// A source with given owners, which keeps the shares.
struct Decided {
    origin: Origin,
    resolution: Option<Resolution>,
    shares: Vec<Share>,
}

impl Decided {
    fn on(origin: Origin, to: Owner) -> Decided {
        let resolution = Some(Resolution { to, held: false, inode: None });
        Decided { origin, resolution, shares: Vec::new() }
    }
}

impl Decided {
    /// Takes one socket, which may not be remembered, or lose its slot afterwards.
    fn take(
        &mut self,
        attribution: &mut SocketAttribution,
        counted: &Counted,
        pressure: SlotPressure,
    ) -> Option<Origin> {
        if attribution.is_passing(counted, &self.origin, pressure) {
            self.pass(attribution, counted.bytes);
            return Some(self.origin);
        }
        self.read(attribution, counted);
        let done = attribution.may_be_done(counted, pressure)
            && attribution.is_done(counted, &self.origin, pressure);
        done.then_some(self.origin)
    }

    /// Takes the last bytes in a slot; `before` were taken earlier.
    fn last(&mut self, attribution: &mut SocketAttribution, counted: &Counted, before: Bytes) {
        if attribution.is_remembered(counted) {
            self.read(attribution, counted);
            attribution.forget(counted);
        } else {
            self.pass(attribution, counted.bytes - before);
        }
    }

    fn read(&mut self, attribution: &mut SocketAttribution, counted: &Counted) {
        let Some(change) = attribution.read(counted) else { return };
        let Decided { origin, resolution, shares } = self;
        attribution.account(counted, &change, origin, *resolution, |share| shares.push(share));
    }

    fn pass(&mut self, attribution: &mut SocketAttribution, new: Bytes) {
        let shares = &mut self.shares;
        attribution.account_in_passing(7, new, self.resolution, |share| shares.push(share));
    }
}

/// One observation of one socket with a given owner.
fn observe(
    attribution: &mut SocketAttribution,
    counted: Counted,
    origin: Origin,
    to: Owner,
) -> Vec<Share> {
    attribution.begin();
    let mut decided = Decided::on(origin, to);
    decided.take(attribution, &counted, SlotPressure::Low);
    decided.shares
}

#[test]
fn whoever_holds_a_socket_has_it_and_else_its_maker() {
    let held =
        |holder| Candidates { holder: Some(holder), maker: Some(Owner::Process(MAKER)), ..NOTHING };
    let by_worker = held(Ownership::Process(WORKER));
    assert_eq!(resolve(&MADE, &by_worker, None), WORKER.into());
    assert_eq!(resolve(&MADE, &held(Ownership::Nobody), None), MAKER.into());
    assert_eq!(resolve(&MADE, &held(Ownership::Denied), None), MAKER.into());
    // What was a descriptor once may be another socket's by now.
    let released = Origin { released: true, ..MADE };
    assert_eq!(resolve(&released, &by_worker, None), MAKER.into());
    assert_eq!(resolve(&released, &by_worker, Some(WORKER)), WORKER.into());
}

#[test]
fn an_accepted_socket_is_its_holders_or_its_closers_and_waits_until_there_is_one() {
    let accepted = Origin { accepted: true, ..MADE };
    let known = Candidates { maker: Some(Owner::Process(MAKER)), ..NOTHING };
    assert_eq!(resolve(&accepted, &known, None), Owner::Nobody(Reason::Kernel));
    let released = Origin { released: true, ..accepted };
    let closed = Candidates { closer: Some(Owner::Process(WORKER)), ..known };
    assert_eq!(resolve(&released, &closed, None), WORKER.into());
    // A listening socket that is closed takes those with it that were never accepted.
    assert_eq!(resolve(&released, &known, None), MAKER.into());
}

#[test]
fn of_a_socket_older_than_the_program_there_is_a_holder_or_a_reason() {
    let old = Origin { maker: None, ..MADE };
    let reason = |holder| resolve(&old, &Candidates { holder, ..NOTHING }, None);
    assert_eq!(reason(Some(Ownership::Process(WORKER))), WORKER.into());
    assert_eq!(reason(Some(Ownership::Denied)), Owner::Nobody(Reason::NoPermission));
    assert_eq!(reason(Some(Ownership::Hidden)), Owner::Nobody(Reason::OtherNamespace));
    assert_eq!(reason(Some(Ownership::Nobody)), Owner::Nobody(Reason::Kernel));
    assert_eq!(reason(None), Owner::Nobody(Reason::Kernel));
    let released = Origin { released: true, ..old };
    assert_eq!(resolve(&released, &NOTHING, None), Owner::Nobody(Reason::Exited));
    let closed = Candidates { closer: Some(Owner::Process(WORKER)), ..NOTHING };
    assert_eq!(resolve(&released, &closed, None), WORKER.into());
}

#[test]
fn only_what_is_new_is_accounted_and_the_first_bytes_are_no_rate() {
    let mut attribution = SocketAttribution::new();
    let shares = observe(&mut attribution, counted(0, 7, remote(100, 10)), MADE, MAKER.into());
    let traffic = Traffic::new(100, 10);
    let recent = Traffic::ZERO;
    assert_eq!(
        shares,
        [Share { to: MAKER.into(), traffic, recent, from: None, local: false, remote: None }]
    );
    let local = Traffic::new(1, 2);
    let bytes = Bytes { local, ..remote(150, 10) };
    let shares = observe(&mut attribution, counted(0, 7, bytes), MADE, MAKER.into());
    assert_eq!(
        shares.iter().map(|share| share.recent).collect::<Vec<_>>(),
        [Traffic::new(50, 0), local]
    );
    assert_eq!(shares.iter().map(|share| share.local).collect::<Vec<_>>(), [false, true]);
    assert_eq!(observe(&mut attribution, counted(0, 7, bytes), MADE, MAKER.into()), []);
    assert!(attribution.referenced().contains(&MAKER));
    // Another socket in the same slot.
    let shares = observe(&mut attribution, counted(0, 8, remote(5, 5)), MADE, WORKER.into());
    assert_eq!((shares[0].to, shares[0].traffic), (WORKER.into(), Traffic::new(5, 5)));
}

#[test]
fn what_could_not_be_read_yet_moves_to_its_process_or_to_the_reason_why_there_is_none() {
    let mut attribution = SocketAttribution::new();
    observe(&mut attribution, counted(0, 1, remote(0, 0)), MADE, MAKER.into());
    let (unread, kernel) = (Owner::Nobody(Reason::Unread), Owner::Nobody(Reason::Kernel));
    for (slot, to) in [(3, WORKER.into()), (4, kernel)] {
        let socket = |received| counted(slot, 7, remote(received, 10));
        let shares = observe(&mut attribution, socket(100), MADE, unread);
        assert_eq!((shares[0].to, shares[0].from), (unread, None));
        assert_eq!(observe(&mut attribution, socket(100), MADE, unread), []);
        let shares = observe(&mut attribution, socket(130), MADE, to);
        let (traffic, recent) = (Traffic::new(130, 10), Traffic::new(30, 0));
        let expected =
            Share { to, traffic, recent, from: Some(Reason::Unread), local: false, remote: None };
        assert_eq!(shares, [expected]);
    }
    // What came meanwhile under the other reason waits as ever.
    let shares = observe(&mut attribution, counted(4, 7, remote(130, 10)), MADE, WORKER.into());
    let (traffic, recent) = (Traffic::new(130, 10), Traffic::ZERO);
    let (to, from) = (WORKER.into(), Some(Reason::Kernel));
    assert_eq!(shares, [Share { to, traffic, recent, from, local: false, remote: None }]);
}

#[test]
fn what_was_never_read_has_exited_in_the_end() {
    let unread = Owner::Nobody(Reason::Unread);
    for is_replaced in [false, true] {
        let mut attribution = SocketAttribution::new();
        observe(&mut attribution, counted(0, 1, remote(0, 0)), MADE, MAKER.into());
        let socket = counted(3, 7, remote(100, 10));
        observe(&mut attribution, socket, MADE, unread);
        match is_replaced {
            true => drop(observe(&mut attribution, counted(3, 8, remote(0, 0)), MADE, unread)),
            false => attribution.forget(&socket),
        }
        let mut shares = Vec::new();
        attribution.outside([].into_iter(), |share| shares.push(share));
        let (traffic, recent) = (Traffic::new(100, 10), Traffic::ZERO);
        let (to, from) = (Owner::Nobody(Reason::Exited), Some(Reason::Unread));
        assert_eq!(shares, [Share { to, traffic, recent, from, local: false, remote: None }]);
        attribution.outside([].into_iter(), |share| panic!("{share:?}"));
    }
}

/// The remote ends of sockets that are not watched don't take the room of others.
#[test]
fn remote_ends_wait_for_an_owner_and_not_for_none() {
    let mut attribution = SocketAttribution::new();
    observe(&mut attribution, counted(0, 1, remote(0, 0)), MADE, MAKER.into());
    let end = Endpoint::new(Address::ANY_V4, 53);
    let (protocol, interface) = (Protocol::UDP, Interface::LOOPBACK);
    let end = Remote { protocol, local_port: 9, remote: end, interface };
    let bytes = |cookie| {
        let new = Traffic::new(100, 10);
        RemoteBytes { cookie, remote: end, local: false, new }
    };
    attribution.begin();
    attribution.add_remote(&bytes(7));
    attribution.add_remote(&bytes(8));
    let (unwatched, socket) = (counted(4, 8, remote(100, 10)), counted(3, 7, remote(100, 10)));
    let change = attribution.read(&unwatched).unwrap();
    attribution.account(&unwatched, &change, &MADE, None, |share| panic!("{share:?}"));
    // Nobody is known yet, then somebody is.
    let kernel = Owner::Nobody(Reason::Kernel);
    for (to, expected) in [(kernel, None), (WORKER.into(), Some(end))] {
        let mut shares = Vec::new();
        let change = attribution.read(&socket).unwrap();
        let resolution = Some(Resolution { to, held: false, inode: None });
        attribution.account(&socket, &change, &MADE, resolution, |share| shares.push(share));
        assert_eq!(shares.iter().map(|share| share.remote).collect::<Vec<_>>(), [expected]);
        attribution.end();
        attribution.begin();
    }
    assert_eq!(attribution.remotes, Remotes::default());
}

#[test]
fn what_waits_for_a_process_moves_to_it() {
    let mut attribution = SocketAttribution::new();
    observe(&mut attribution, counted(0, 1, remote(0, 0)), MADE, MAKER.into());
    let kernel = Owner::Nobody(Reason::Kernel);
    let shares = observe(&mut attribution, counted(3, 7, remote(100, 10)), MADE, kernel);
    assert_eq!(shares[0].to, kernel);
    // Asked for again although nothing came.
    let shares = observe(&mut attribution, counted(3, 7, remote(100, 10)), MADE, WORKER.into());
    let (traffic, recent) = (Traffic::new(100, 10), Traffic::ZERO);
    let from = Some(Reason::Kernel);
    assert_eq!(
        shares,
        [Share { to: WORKER.into(), traffic, recent, from, local: false, remote: None }]
    );
}

/// As with flows, the better reason gets all bytes.
#[test]
fn a_connection_that_nobody_accepts_has_one_reason_in_the_end() {
    let mut attribution = SocketAttribution::new();
    let accepted = Origin { accepted: true, ..MADE };
    let kernel = Owner::Nobody(Reason::Kernel);
    observe(&mut attribution, counted(3, 7, remote(100, 10)), accepted, kernel);
    let closed = Origin { released: true, ..accepted };
    let exited = Owner::Nobody(Reason::Exited);
    let shares = observe(&mut attribution, counted(3, 7, remote(140, 10)), closed, exited);
    let (traffic, recent) = (Traffic::new(140, 10), Traffic::new(40, 0));
    let from = Some(Reason::Kernel);
    assert_eq!(shares, [Share { to: exited, traffic, recent, from, local: false, remote: None }]);
}

/// The last holder keeps a socket of which nothing is known any more.
#[test]
fn a_socket_stays_whose_it_was() {
    let mut attribution = SocketAttribution::new();
    let mut look = |bytes, to| observe(&mut attribution, counted(0, 7, bytes), MADE, to);
    look(remote(60, 60), WORKER.into());
    assert_eq!(look(remote(90, 60), Owner::Nobody(Reason::Exited))[0].to, WORKER.into());
    assert_eq!(look(remote(99, 60), MAKER.into())[0].to, MAKER.into());
    assert_eq!(look(remote(99, 61), Owner::Nobody(Reason::Kernel))[0].to, MAKER.into());
}

/// It may be accepted at any time, and its bytes are needed then.
#[test]
fn a_connection_that_waits_to_be_accepted_keeps_its_slot_and_is_looked_for() {
    let accepted = Origin { accepted: true, ..MADE };
    let socket = counted(0, 7, remote(50_000, 216));
    for pressure in [SlotPressure::Low, SlotPressure::High] {
        let mut attribution = SocketAttribution::new();
        for _ in 0..IDLE + 100 {
            attribution.begin();
            let mut waits = Decided::on(accepted, Owner::Nobody(Reason::Kernel));
            assert_eq!(waits.take(&mut attribution, &socket, pressure), None);
            assert!(attribution.is_new(&socket, pressure));
        }
        let shares = observe(&mut attribution, socket, accepted, WORKER.into());
        assert_eq!((shares[0].to, shares[0].from), (WORKER.into(), Some(Reason::Kernel)));
        assert_eq!(shares[0].traffic, Traffic::new(50_000, 216));
        assert!(!attribution.is_new(&socket, SlotPressure::Medium));
    }
}

#[test]
fn what_no_slot_has_stands_under_its_reason_by_namespace() {
    let mut attribution = SocketAttribution::new();
    let mut last = std::collections::BTreeMap::new();
    let mut look = |netns, without_slot, without_socket| {
        attribution.begin();
        let mut shares = Vec::new();
        let outside = Outside { without_slot, without_socket, ..Outside::default() };
        last.insert(netns, outside);
        let all = last.iter().map(|(netns, outside)| (*netns, *outside));
        attribution.outside(all, |share| shares.push((share.to, share.traffic)));
        shares
    };
    let overflow = |received, sent| (Owner::Nobody(Reason::Overflow), Traffic::new(received, sent));
    assert_eq!(look(1, remote(5, 10), remote(0, 0)), [overflow(5, 10)]);
    assert_eq!(look(2, remote(7, 0), remote(0, 0)), [overflow(7, 0)]);
    let exited = (Owner::Nobody(Reason::Exited), Traffic::new(100, 0));
    assert_eq!(look(1, remote(5, 11), remote(100, 0)), [overflow(0, 1), exited]);
    assert_eq!(look(1, remote(5, 11), remote(100, 0)), []);
}

#[test]
fn what_is_not_to_be_accounted_is_not() {
    let mut attribution = SocketAttribution::new();
    let mut nobody = Decided { resolution: None, ..Decided::on(MADE, MAKER.into()) };
    attribution.begin();
    let socket = counted(0, 7, remote(100, 10));
    assert_eq!(nobody.take(&mut attribution, &socket, SlotPressure::Low), None);
    nobody.origin.released = true;
    assert_eq!(nobody.take(&mut attribution, &socket, SlotPressure::Medium), Some(nobody.origin));
    nobody.last(&mut attribution, &counted(0, 7, remote(200, 10)), socket.bytes);
    assert_eq!(nobody.shares, []);
}

#[test]
fn a_socket_that_is_done_does_without_its_slot() {
    let closed = Origin { released: true, ..MADE };
    let ended = Origin { ended: true, ..closed };
    for (origin, patience) in [(ended, IDLE_ENDED), (closed, IDLE_CLOSED), (MADE, IDLE)] {
        assert!(!is_done(patience - 1, &origin, SlotPressure::Low));
        assert!(is_done(patience, &origin, SlotPressure::Low));
        assert!(may_be_done(patience, SlotPressure::Low));
        assert_eq!(is_done(0, &origin, SlotPressure::Medium), origin.released);
        assert!(!is_done(IDLE_CLOSED, &MADE, SlotPressure::Medium));
        assert!(is_done(IDLE_ENDED, &origin, SlotPressure::High));
        assert_eq!(is_done(0, &origin, SlotPressure::High), origin.released);
    }
    assert!(may_be_done(0, SlotPressure::Medium) && may_be_done(0, SlotPressure::High));
    assert!(!may_be_done(0, SlotPressure::Low));
    let listening = Origin { listening: true, ..MADE };
    assert!(!is_done(IDLE, &listening, SlotPressure::High));
    // Its maker is all that is known of it.
    assert!(!is_done(IDLE, &Origin { silent: true, ..MADE }, SlotPressure::High));
    assert!(is_done(IDLE, &Origin { released: true, ..listening }, SlotPressure::High));
}

#[test]
fn pressure_is_medium_when_an_eighth_is_taken_and_high_when_half_is() {
    let pressures =
        [16_384, 16_385, 65_536, 65_537].map(|taken| SlotPressure::beside(taken, 131_072));
    assert_eq!(
        pressures,
        [SlotPressure::Low, SlotPressure::Medium, SlotPressure::Medium, SlotPressure::High]
    );
}

/// Most sockets of a busy server are seen once, already closed, and once more when their slots are
/// free.
#[test]
fn a_socket_that_has_come_and_gone_needs_not_be_remembered() {
    let mut attribution = SocketAttribution::new();
    attribution.begin();
    let mut taken = Decided::on(Origin { released: true, ..MADE }, MAKER.into());
    let [first, more] = [counted(3, 7, remote(100, 10)), counted(3, 7, remote(152, 62))];
    assert!(taken.take(&mut attribution, &first, SlotPressure::Medium).is_some());
    assert!(attribution.memory.get(&first).is_none());
    assert!(attribution.referenced().contains(&MAKER));
    attribution.begin();
    taken.last(&mut attribution, &more, first.bytes);
    let totals: Vec<Traffic> = taken.shares.iter().map(|share| share.traffic).collect();
    assert_eq!(totals, [Traffic::new(100, 10), Traffic::new(52, 52)]);
    // The first observation's are no rate, and what came later is.
    let rates: Vec<Traffic> = taken.shares.iter().map(|share| share.recent).collect();
    assert_eq!(rates, [Traffic::ZERO, Traffic::new(52, 52)]);
}

#[test]
fn a_socket_is_new_until_it_is_listed_or_old() {
    let mut attribution = SocketAttribution::new();
    let socket = counted(0, 7, remote(100, 10));
    assert!(!attribution.is_new(&counted(0, 7, Bytes::default()), SlotPressure::Low));
    assert!(attribution.is_new(&socket, SlotPressure::Low));
    // Where many come and go it may be one of them.
    assert!(!attribution.is_new(&socket, SlotPressure::Medium));
    observe(&mut attribution, socket, MADE, MAKER.into());
    attribution.begin();
    assert!(
        attribution.is_new(&socket, SlotPressure::Low)
            && attribution.is_new(&socket, SlotPressure::Medium)
    );
    let resolution = Resolution { to: MAKER.into(), held: true, inode: Some(Inode(5)) };
    let mut listed = Decided { resolution: Some(resolution), ..Decided::on(MADE, MAKER.into()) };
    listed.take(&mut attribution, &counted(0, 7, remote(200, 10)), SlotPressure::Low);
    assert!(!attribution.is_new(&socket, SlotPressure::Low));
    // Another one that is in no list.
    let unlisted = counted(1, 8, remote(100, 10));
    for age in 0..5 {
        observe(&mut attribution, unlisted, MADE, MAKER.into());
        assert_eq!(attribution.is_new(&unlisted, SlotPressure::Low), age < YOUNG, "{age}");
    }
}

#[test]
fn what_is_remembered_of_a_socket_goes_with_its_slot() {
    let mut attribution = SocketAttribution::new();
    let slots = 0..100u32;
    for slot in slots.clone() {
        let socket = counted(slot, 1000 + u64::from(slot), remote(100, 10));
        observe(&mut attribution, socket, MADE, MAKER.into());
    }
    for slot in slots.clone() {
        let socket = counted(slot, 1000 + u64::from(slot), remote(100, 15));
        if slot % 2 == 0 {
            attribution.forget(&socket);
        } else {
            // Of one that is remembered it is known what was accounted.
            let mut taken = Decided::on(MADE, MAKER.into());
            taken.last(&mut attribution, &socket, Bytes::default());
            assert_eq!(taken.shares[0].traffic, Traffic::new(0, 5));
        }
        // Another socket's slot.
        attribution.forget(&counted(slot, 1, Bytes::default()));
    }
    // The same sockets again, in other slots: nothing is left of before.
    for slot in slots {
        let socket = counted(slot + 50, 1000 + u64::from(slot), remote(1, 1));
        let shares = observe(&mut attribution, socket, MADE, MAKER.into());
        assert_eq!(shares[0].traffic, Traffic::new(1, 1));
    }
}

proptest! {
    /// Whatever its owner is, every byte is on one line.
    #[test]
    fn every_byte_is_accounted_once(
        looks in proptest::collection::vec((0usize..4, 0u64..1000, 0u64..1000, 0usize..4), 1..60)
    ) {
        let answers = [MAKER.into(), WORKER.into(), Owner::Nobody(Reason::Kernel), Owner::Nobody(Reason::Exited)];
        let mut attribution = SocketAttribution::new();
        let mut totals = [Bytes::default(); 4];
        let mut lines = std::collections::HashMap::<_, Traffic>::new();
        for (socket, received, sent, answer) in looks {
            totals[socket] = totals[socket] + remote(received, sent);
            let socket = counted(socket as u32, socket as u64 + 1, totals[socket]);
            for share in observe(&mut attribution, socket, MADE, answers[answer]) {
                *lines.entry(share.to).or_default() += share.traffic;
                if let Some(reason) = share.from {
                    *lines.entry(Owner::Nobody(reason)).or_default() -= share.traffic - share.recent;
                }
            }
        }
        let all: Traffic = totals.iter().map(|bytes| bytes.remote).sum();
        // The first observation's are no rate, so that what moves of them is told by the total.
        prop_assert_eq!(lines.values().copied().sum::<Traffic>(), all);
    }
}
