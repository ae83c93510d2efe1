//! Whatever happens to processes, lines and names, the sums are the credited bytes.

use proptest::collection::{hash_set, vec};
use proptest::prelude::*;

use super::*;

const NAMES: [&str; 7] = [
    "",
    "a",
    "b",
    "bb",
    "hidden",
    "a long name, which is cut where bytes are short: the one",
    "a long name, which is cut where bytes are short: the other",
];
const PIDS: u32 = 6;

#[derive(Clone, Debug)]
enum Event {
    /// Bytes, including recent ones, of a process or of none. Some of the others may have been
    /// under a reason.
    Credit {
        to: Result<u32, usize>,
        recent: Traffic,
        other: Traffic,
        from: Option<usize>,
    },
    Rename {
        pid: u32,
        name: usize,
    },
    Ended {
        pid: u32,
    },
    Keep {
        pids: HashSet<u32>,
    },
    Refresh,
}

fn event() -> impl Strategy<Value = Event> {
    let reason = || 0..Reason::ALL.len();
    let bytes = || (0_u64..2000, 0_u64..2000).prop_map(|(r, s)| Traffic::new(r, s));
    let to = prop_oneof![3 => (0..PIDS).prop_map(Ok), 1 => reason().prop_map(Err)];
    prop_oneof![
        6 => (to, bytes(), bytes(), proptest::option::of(reason()))
            .prop_map(|(to, recent, other, from)| Event::Credit { to, recent, other, from }),
        1 => (0..PIDS, 0..NAMES.len()).prop_map(|(pid, name)| Event::Rename { pid, name }),
        2 => (0..PIDS).prop_map(|pid| Event::Ended { pid }),
        1 => hash_set(0..PIDS, 0..PIDS as usize).prop_map(|pids| Event::Keep { pids }),
        1 => Just(Event::Refresh),
    ]
}

/// The bytes and the name of a process.
struct Brought {
    name: usize,
    /// All bytes, and those of this refresh.
    bytes: [Traffic; 2],
}

proptest! {
    #[test]
    fn the_lines_come_to_what_was_credited(
        ended_lines in 0_usize..4,
        ended_bytes in 64_usize..160,
        names in vec(0..NAMES.len(), PIDS as usize),
        hiding in any::<bool>(),
        events in vec(event(), 0..80),
    ) {
        let options = if hiding { excluding("^hidden$") } else { Options::default() };
        let mut ledger = Ledger::new(Options { ended_lines, ended_bytes, ..options });
        let mut at = Instant::now();
        ledger.end(at);
        // The processes by number: how often that was used again, and whether this one lives.
        let mut lives: Vec<(u64, bool)> = vec![(0, true); PIDS as usize];
        let mut brought: Map<ProcessId, Brought> = Map::default();
        let mut reasons = [[Traffic::ZERO; 2]; Reason::ALL.len()];
        let mut counted = Account::default();
        for event in events {
            match event {
                Event::Credit { to, recent, other, from } => {
                    // No more may leave a reason than stands under it.
                    let from = from.filter(|from| {
                        let [all, now] = reasons[*from];
                        let free = all - now;
                        free.received >= other.received && free.sent >= other.sent
                    });
                    if let Some(from) = from {
                        reasons[from][0] -= other;
                    }
                    let traffic = recent + other;
                    // What stood under a reason was counted before.
                    counted.recent += recent;
                    counted.total += if from.is_some() { recent } else { traffic };
                    let to = match to {
                        Ok(pid) => {
                            let start_time = lives[pid as usize].0;
                            let process = ProcessId { start_time, pid };
                            let name = names[pid as usize];
                            let new = Brought { name, bytes: [Traffic::ZERO; 2] };
                            let brought = brought.entry(process).or_insert(new);
                            brought.bytes[0] += traffic;
                            brought.bytes[1] += recent;
                            Owner::Process(process)
                        }
                        Err(reason) => {
                            reasons[reason][0] += traffic;
                            reasons[reason][1] += recent;
                            Owner::Nobody(Reason::ALL[reason])
                        }
                    };
                    let from = from.map(|from| Reason::ALL[from]);
                    let share = Share { to, traffic, recent, from, local: false, remote: None };
                    let name = to.process().map_or(0, |process| names[process.pid as usize]);
                    ledger.credit(&share, || called(NAMES[name]));
                }
                Event::Rename { pid, name } => {
                    let (start_time, alive) = lives[pid as usize];
                    let process = ProcessId { start_time, pid };
                    ledger.rename(process, &called(NAMES[name]));
                    if alive && let Some(brought) = brought.get_mut(&process) {
                        brought.name = name;
                    }
                }
                Event::Ended { pid } => {
                    let (start_time, alive) = &mut lives[pid as usize];
                    let process = ProcessId { start_time: *start_time, pid };
                    // One that never brought anything gets nothing late: no flow is its own.
                    if brought.contains_key(&process) {
                        *alive = false;
                    }
                    ledger.ended([process]);
                }
                Event::Keep { pids } => {
                    // Those of the others that have ended get no more bytes: the next of their
                    // number does.
                    let kept: HashSet<_> = (0..PIDS)
                        .filter(|pid| pids.contains(pid))
                        .map(|pid| ProcessId { start_time: lives[pid as usize].0, pid })
                        .collect();
                    ledger.keep_names_of(&kept);
                    for (pid, life) in (0..).zip(&mut lives) {
                        if !life.1 && !pids.contains(&pid) {
                            *life = (life.0 + 1, true);
                        }
                    }
                }
                Event::Refresh => {
                    ledger.begin();
                    counted.recent = Traffic::ZERO;
                    brought.values_mut().for_each(|b| b.bytes[1] = Traffic::ZERO);
                    reasons.iter_mut().for_each(|[_, recent]| *recent = Traffic::ZERO);
                }
            }
            // A second after the one before, so that a rate is what has come since the refresh.
            ledger.refreshed = Some(at);
            at += Duration::from_secs(1);
            ledger.end(at);
            let selected = |b: &&Brought| !(hiding && NAMES[b.name] == "hidden");
            prop_assert_eq!(ledger.counted().recent, counted.recent);
            prop_assert_eq!(ledger.counted().total, counted.total);
            let mut sum = ledger.sum();
            sum += ledger.left_out();
            prop_assert_eq!(sum, ledger.counted());
            if !hiding {
                prop_assert!(ledger.left_out().is_zero());
            }
            let rows = ledger.rows();
            for (index, of) in [|a: &Account| a.total, |a: &Account| a.recent].into_iter().enumerate() {
                let lines = || brought.values().filter(selected);
                let all: Traffic = lines().map(|b| b.bytes[index]).sum();
                prop_assert_eq!(rows.iter().map(|row| of(&row.account)).sum::<Traffic>(), all);
                for row in rows.iter().filter(|row| *row.name != *ENDED.as_bytes()) {
                    // A line has no more than its processes have brought; the rest is folded.
                    let mine = lines().filter(|b| {
                        let name = NAMES[b.name].as_bytes();
                        *name == *row.name || is_shortened(name, &row.name)
                    });
                    let most: Traffic = mine.map(|b| b.bytes[index]).sum();
                    prop_assert!((of(&row.account) - most).is_zero(), "{row:?} has more than {most:?}");
                }
                let mut unattributed = [Traffic::ZERO; Reason::ALL.len()];
                for Unattributed { reason, account } in ledger.unattributed() {
                    unattributed[reason.index()] = of(&account);
                }
                prop_assert_eq!(unattributed, reasons.map(|sums| sums[index]));
            }
            // What a living process is called too is shown anyway, and folded with the next ending
            // after that is over.
            ledger.ended([]);
            let shared = |name: &Name| ledger.live.values().any(|l| l.line.name == *name);
            let alone: Vec<_> = ledger.ended.keys().filter(|name| !shared(name)).collect();
            let alone_bytes: usize = alone.iter().map(|name| name.len()).sum();
            prop_assert!(alone.len() <= ended_lines && alone_bytes <= ended_bytes);
            let bytes: usize = ledger.ended.keys().map(|name| name.len()).sum();
            prop_assert_eq!(ledger.ended_bytes, bytes);
        }
    }
}
