mod sums;

use std::collections::HashSet;

use super::*;
use crate::filter::Filter;
use crate::model::Row;
use crate::model::owner::Comm;
use crate::selection::Selector;

fn process(pid: u32) -> ProcessId {
    ProcessId { start_time: 1, pid }
}

fn called(text: &str) -> Described {
    Described::of(text.as_bytes().into())
}

/// New bytes of a process.
fn share(pid: u32, received: u64, sent: u64) -> Share {
    let traffic = Traffic::new(received, sent);
    let to = Owner::Process(process(pid));
    Share { to, traffic, recent: traffic, from: None, local: false, remote: None }
}

/// New bytes without a process.
fn lost(reason: Reason, received: u64, sent: u64) -> Share {
    Share { to: Owner::Nobody(reason), ..share(0, received, sent) }
}

fn local(share: Share) -> Share {
    Share { local: true, ..share }
}

fn selecting(filter: Filter, ignore_local: bool) -> Options {
    let selector = Selector { filter, ignore_local, here: true };
    Options { naming: Box::new(Selection::new(vec![selector])), ..Options::default() }
}

fn excluding(pattern: &str) -> Options {
    selecting(Filter::new(&[], &[pattern.to_owned()]).unwrap(), false)
}

impl Ledger {
    fn give(&mut self, share: Share, name: &str) {
        self.credit(&share, || called(name));
    }

    /// For a process that has a name already.
    fn give_again(&mut self, share: Share) {
        self.credit(&share, || panic!("{share:?} has a line"));
    }

    /// The rows with any bytes.
    fn rows(&self) -> Vec<Row> {
        let mut rows = Rows::default();
        self.add_rows(&mut rows);
        rows.finish(false)
    }

    /// The rows that are shown, in order: name, received, sent.
    fn shows(&self, show: Show) -> Vec<(String, u64, u64)> {
        let mut rows = self.rows();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        let name = |row: &Row| String::from_utf8(row.name.to_vec()).unwrap();
        self.texts(show, rows.iter().map(|row| (name(row), row.account)))
    }

    fn shows_unattributed(&self, show: Show) -> Vec<(String, u64, u64)> {
        let named = |u: Unattributed| (format!("({})", u.reason), u.account);
        self.texts(show, self.unattributed().map(named))
    }

    fn texts(
        &self,
        show: Show,
        accounts: impl Iterator<Item = (String, Account)>,
    ) -> Vec<(String, u64, u64)> {
        let shown = accounts.map(|(name, account)| (name, self.shown(account, show)));
        let shown = shown.filter(|(_, traffic)| !traffic.is_zero());
        shown.map(|(name, traffic)| (name, traffic.received, traffic.sent)).collect()
    }

    fn shown(&self, account: Account, show: Show) -> Traffic {
        match show {
            Show::Traffic => account.total,
            Show::Bandwidth => account.recent.rate_over(self.elapsed()).floor(),
        }
    }

    /// The sum of the rows and the reasons.
    fn sum(&self) -> Account {
        let rows = self.rows().into_iter().map(|row| row.account);
        rows.chain(self.unattributed().map(|unattributed| unattributed.account)).sum()
    }
}

/// The figures of a line.
#[derive(Clone, Copy)]
enum Show {
    /// All bytes so far.
    Traffic,
    /// Bytes per second since the refresh before, rounded down.
    Bandwidth,
}

fn row(name: &str, received: u64, sent: u64) -> (String, u64, u64) {
    (name.to_owned(), received, sent)
}

#[test]
fn processes_with_one_command_line_share_a_line() {
    let mut ledger = Ledger::new(Options::default());
    ledger.give(share(1, 10, 1), "nginx");
    ledger.give(share(2, 20, 2), "nginx");
    ledger.give(share(3, 5, 5), "wget");
    ledger.give_again(share(1, 100, 0));
    assert_eq!(ledger.shows(Show::Traffic), [row("nginx", 130, 3), row("wget", 5, 5)]);
}

#[test]
fn a_number_that_is_used_again_is_another_process() {
    let mut ledger = Ledger::new(Options::default());
    ledger.give(share(1, 10, 1), "first");
    let to = Owner::Process(ProcessId { start_time: 2, pid: 1 });
    ledger.give(Share { to, ..share(1, 20, 2) }, "second");
    assert_eq!(ledger.shows(Show::Traffic), [row("first", 10, 1), row("second", 20, 2)]);
}

/// Only a pid, which may belong to another process by now, and a short name are known.
#[test]
fn a_process_that_only_the_kernel_has_seen_is_a_line_by_its_short_name_and_no_other_process() {
    let mut ledger = Ledger::new(Options::default());
    let to = Owner::Unseen { pid: 1, comm: Comm(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0") };
    for _ in 0..2 {
        ledger.begin();
        ledger.credit(&Share { to, ..share(1, 10, 1) }, || panic!("nobody can be asked"));
        let ended = ledger.ended.iter().find(|(name, _)| &***name == b"[curl]").unwrap().1;
        assert_eq!(ended.account.recent, Traffic::new(10, 1));
        assert_eq!(ledger.sum(), ledger.counted());
    }
    ledger.give(share(1, 5, 5), "cat");
    assert_eq!(ledger.shows(Show::Traffic), [row("[curl]", 20, 2), row("cat", 5, 5)]);
    // Nobody selects it.
    let mut ledger = Ledger::new(excluding("curl"));
    ledger.credit(&Share { to, ..share(1, 10, 1) }, || panic!("nobody can be asked"));
    assert_eq!((ledger.rows().len(), ledger.left_out()), (0, ledger.counted()));
    assert_eq!(ledger.counted().total, Traffic::new(10, 1));
}

#[test]
fn what_a_process_is_called_now_is_its_line() {
    let mut ledger = Ledger::new(excluding("^hidden"));
    ledger.give(share(1, 10, 1), "sh");
    ledger.rename(process(1), &called("wget"));
    assert_eq!(ledger.shows(Show::Traffic), [row("wget", 10, 1)]);
    ledger.rename(process(1), &called("hidden"));
    assert_eq!(ledger.shows(Show::Traffic), []);
    ledger.give_again(share(1, 10, 1));
    ledger.rename(process(1), &called("curl"));
    assert_eq!(ledger.shows(Show::Traffic), [row("curl", 20, 2)]);
}

#[test]
fn an_ended_process_keeps_its_line_and_gets_late_bytes() {
    let mut ledger = Ledger::new(Options::default());
    ledger.give(share(1, 10, 1), "wget");
    ledger.ended([process(1)]);
    assert_eq!(ledger.shows(Show::Traffic), [row("wget", 10, 1)]);
    ledger.give_again(share(1, 1, 1));
    assert_eq!(ledger.shows(Show::Traffic), [row("wget", 11, 2)]);
    // Another of that name lives.
    ledger.give(share(2, 100, 100), "wget");
    assert_eq!(ledger.shows(Show::Traffic), [row("wget", 111, 102)]);
    ledger.rename(process(1), &called("curl")); // what has ended is called nothing else any more
    ledger.ended([process(1), process(2), process(3)]);
    assert_eq!(ledger.shows(Show::Traffic), [row("wget", 111, 102)]);
    assert_eq!((ledger.live.len(), ledger.ended.len(), ledger.names.len()), (0, 1, 2));
}

#[test]
fn late_bytes_of_an_ended_process_that_the_filter_leaves_out_are_left_out() {
    let mut ledger = Ledger::new(Options { ended_lines: 0, ..excluding("^hidden") });
    ledger.give(share(1, 10, 1), "hidden");
    ledger.ended([process(1)]);
    ledger.give_again(share(1, 10, 1));
    assert_eq!(ledger.shows(Show::Traffic), []);
    assert_eq!((ledger.ended.len(), ledger.live.len()), (0, 0));
}

#[test]
fn too_many_ended_lines_fold_the_smallest_and_its_late_bytes() {
    let mut ledger = Ledger::new(Options { ended_lines: 2, ..Options::default() });
    for (pid, name) in [(1, "a"), (2, "b"), (3, "c"), (4, "a")] {
        ledger.give(share(pid, 10, 1), name);
        ledger.ended([process(pid)]);
    }
    assert_eq!(
        ledger.shows(Show::Traffic),
        [row("(ended)", 10, 1), row("a", 20, 2), row("b", 10, 1)]
    );
    ledger.give_again(share(3, 5, 5));
    assert_eq!(
        ledger.shows(Show::Traffic),
        [row("(ended)", 15, 6), row("a", 20, 2), row("b", 10, 1)]
    );
    // One that has carried more, if only a byte.
    ledger.give(share(5, 10, 2), "d");
    ledger.ended([process(5)]);
    assert_eq!(
        ledger.shows(Show::Traffic),
        [row("(ended)", 25, 7), row("a", 20, 2), row("d", 10, 2)]
    );
}

#[test]
fn long_names_of_ended_lines_are_cut_and_nothing_is_folded_for_them() {
    let options = Options { ended_bytes: 128, ended_lines: 8, ..Options::default() };
    let mut ledger = Ledger::new(options);
    let padded = |name: &str, length: usize| format!("{name:<length$}");
    let first = padded("first long name", 41);
    let names = ["aaaa".to_owned(), first.clone(), padded("other", 41), padded("third", 43)];
    for (pid, name) in (1..).zip(&names) {
        ledger.give(share(pid, 10 * u64::from(pid), 1), name);
        ledger.ended([process(pid)]);
    }
    // The newest of those that are about as long, until a quarter of the room is free.
    let (other, third) = ("other    ...", "third    ...");
    assert_eq!(ledger.ended_bytes, 4 + 41 + 12 + 12);
    ledger.give_again(share(4, 5, 5));
    let shown = |third| [row("aaaa", 10, 1), row(&first, 20, 1), row(other, 30, 1), third];
    assert_eq!(ledger.shows(Show::Traffic), shown(row(third, 45, 6)));
    // Those that begin alike are one line then.
    ledger.give(share(5, 100, 1), &padded("third", 60));
    ledger.ended([process(5)]);
    assert_eq!(ledger.ended_bytes, 4 + 41 + 12 + 12);
    assert_eq!(ledger.shows(Show::Traffic), shown(row(third, 145, 7)));
    let kept: HashSet<&Name> = ledger.names.values().map(|line| &line.name).collect();
    assert_eq!(kept, ledger.ended.keys().collect(), "no other name is kept for late bytes");
}

/// A name of 64 KiB neither folds other lines nor takes memory for long.
#[test]
fn lines_with_long_names_fold_no_line_that_has_carried_more() {
    let mut ledger = Ledger::new(Options::default());
    ledger.give(share(1, 2_000, 80_000_000), "exfiltrate");
    ledger.give(share(2, 300, 200), "small");
    ledger.ended([process(1), process(2)]);
    let long = "x".repeat(65_000);
    for pid in 10..210 {
        ledger.give(share(pid, 300, 70_000_000), &format!("{pid} {long}"));
        ledger.ended([process(pid)]);
        assert!(ledger.ended_bytes <= 4 << 20);
    }
    let lines = ledger.shows(Show::Traffic);
    assert_eq!(lines.len(), 202);
    assert!(lines.contains(&row("exfiltrate", 2_000, 80_000_000)));
    assert!(lines.contains(&row("small", 300, 200)));
    let kept: usize = ledger.names.values().map(|line| line.name.len()).sum();
    assert!(kept <= 4 << 20, "{kept}");
}

/// To fold a line, each of hundreds of other lines must have more bytes.
#[test]
fn no_number_of_later_lines_as_big_folds_one() {
    let mut ledger = Ledger::new(Options::default());
    for pid in 0..3_000 {
        ledger.give(share(pid, 2_000_000, 2_000_000), &format!("job {pid}"));
        ledger.ended([process(pid)]);
    }
    let lines = ledger.shows(Show::Traffic);
    let has = |pid: u32| lines.contains(&row(&format!("job {pid}"), 2_000_000, 2_000_000));
    assert!((0..650).all(has));
    // The last ones stay for a while, so that what has just ended can be seen.
    assert!((2_900..3_000).all(has) && !has(2_500));
}

#[test]
fn what_was_decided_by_a_whole_name_stays_when_it_is_cut() {
    let filter = Filter::new(&["Main $".to_owned()], &[]).unwrap();
    let mut ledger = Ledger::new(selecting(filter, false));
    ledger.give(share(1, 10, 1), "java -cp a.jar Main ");
    ledger.give(share(2, 10, 1), "java -cp a.jar Other ");
    for pid in [1, 2] {
        ledger.rename(process(pid), &called("java -..."));
    }
    ledger.give_again(share(1, 10, 1));
    assert_eq!(ledger.shows(Show::Traffic), [row("java -...", 20, 2)]);
    // Another name is another decision.
    ledger.rename(process(1), &called("perl ..."));
    assert_eq!(ledger.shows(Show::Traffic), []);
}

#[test]
fn a_process_that_calls_itself_like_a_reason_has_a_line_of_its_own() {
    let mut ledger = Ledger::new(Options { ended_lines: 0, ..Options::default() });
    ledger.give(share(1, 10, 1), "wget");
    ledger.ended([process(1)]);
    ledger.give(share(2, 20, 2), "(ended)");
    ledger.give(share(3, 30, 3), "(kernel)");
    let expected = [row("(ended)", 10, 1), row(r"\(ended)", 20, 2), row(r"\(kernel)", 30, 3)];
    assert_eq!(ledger.shows(Show::Traffic), expected);
    // Regular expressions know nothing of it.
    let mut ledger = Ledger::new(excluding(r"^\(kernel\)$"));
    ledger.give(share(1, 10, 1), "(kernel)");
    assert_eq!(ledger.shows(Show::Traffic), []);
}

/// A user who starts many processes can't hide the bytes of one.
#[test]
fn no_number_of_small_lines_folds_a_big_one() {
    let mut ledger = Ledger::new(Options::default());
    ledger.give(share(1, 2_000, 80_000_000), "exfiltrate");
    ledger.give(share(2, 300, 200), "small");
    ledger.ended([process(1), process(2)]);
    for pid in 10..5_010 {
        ledger.give(share(pid, 300, 200), &format!("tiny {pid}"));
        ledger.ended([process(pid)]);
        assert!(ledger.ended.len() <= 1000);
    }
    // At once, too, and with names that leave no room.
    let long = "x".repeat(40_000);
    for pid in 10_000..11_200 {
        ledger.give(share(pid, 300, 200), &format!("{long}{pid}"));
    }
    ledger.ended((10_000..11_200).map(process));
    assert!(ledger.ended_bytes <= 4 << 20);
    let lines = ledger.shows(Show::Traffic);
    assert!(lines.contains(&row("exfiltrate", 2_000, 80_000_000)));
    assert!(lines.contains(&row("small", 300, 200)), "it was there before those that are as small");
    let sum = Traffic::new(2_000 + 6_201 * 300, 80_000_000 + 6_201 * 200);
    assert_eq!(ledger.sum().total, sum);
}

/// Folding is work for every line: it must not be done for each process that ends.
#[test]
fn folding_makes_room_for_many() {
    let mut ledger = Ledger::new(Options::default());
    let mut foldings = 0;
    for pid in 0..10_000 {
        ledger.give(share(pid, 3, 2), &pid.to_string());
        let before = ledger.ended.len();
        ledger.ended([process(pid)]);
        foldings += usize::from(ledger.ended.len() != before + 1);
    }
    assert!(foldings <= 10_000 / 250, "{foldings}");
}

/// Its total would drop while its processes still run.
#[test]
fn a_line_that_a_living_process_shares_is_not_folded() {
    let mut ledger = Ledger::new(Options { ended_lines: 1, ..Options::default() });
    ledger.give(share(1, 1, 10), "server");
    ledger.give(share(2, 2, 20), "server");
    ledger.give(share(3, 3, 30), "job");
    ledger.give(share(4, 4, 40), "other job");
    ledger.ended([process(1), process(3), process(4)]);
    assert_eq!(ledger.shows(Show::Traffic), [row("(ended)", 7, 70), row("server", 3, 30)]);
}

#[test]
fn what_the_filter_leaves_out_is_never_folded_in() {
    let mut ledger = Ledger::new(Options { ended_lines: 0, ..excluding("^hidden") });
    for (pid, name) in [(1, "hidden"), (2, "shown"), (3, "hidden 2")] {
        ledger.give(share(pid, 10, 1), name);
    }
    ledger.ended([1, 2, 3].map(process));
    [1, 2, 3].into_iter().for_each(|pid| ledger.give_again(share(pid, 1, 1)));
    assert_eq!(ledger.shows(Show::Traffic), [row("(ended)", 11, 2)]);
}

#[test]
fn ignoring_local_flows_leaves_out_all_of_them() {
    let mut ledger = Ledger::new(selecting(Filter::default(), true));
    ledger.give(local(share(1, 10, 1)), "wget");
    ledger.give(local(lost(Reason::Exited, 10, 1)), "");
    ledger.give(lost(Reason::Exited, 3, 4), "");
    // A move of local bytes doesn't take from the others'.
    let from = Some(Reason::Exited);
    ledger.give(local(Share { from, recent: Traffic::ZERO, ..share(1, 2, 2) }), "wget");
    ledger.give(share(1, 5, 5), "wget");
    assert_eq!(ledger.shows(Show::Traffic), [row("wget", 5, 5)]);
    assert_eq!(ledger.shows_unattributed(Show::Traffic), [row("(exited)", 3, 4)]);
    let mut ledger = Ledger::new(Options::default());
    ledger.give(local(share(1, 10, 1)), "wget");
    assert_eq!(ledger.shows(Show::Traffic), [row("wget", 10, 1)]);
}

#[test]
fn bandwidth_is_by_the_time_that_really_passed() {
    let mut ledger = Ledger::new(Options::default());
    let start = Instant::now();
    ledger.begin();
    ledger.give(share(1, 3000, 300), "a");
    ledger.end(start);
    assert_eq!(ledger.shows(Show::Bandwidth), [], "the first refresh has lasted no time");
    ledger.begin();
    ledger.give_again(share(1, 2000, 100));
    ledger.give_again(share(1, 1000, 99));
    ledger.give(share(2, 1, 1), "a");
    ledger.end(start + Duration::from_millis(1500));
    // The sum of a line is rounded, not its parts.
    assert_eq!(ledger.shows(Show::Bandwidth), [row("a", 2000, 133)]);
    ledger.begin();
    ledger.end(start + Duration::from_millis(1600));
    assert_eq!(ledger.shows(Show::Bandwidth), []);
    ledger.begin();
    ledger.give_again(share(1, 10, 1));
    ledger.end(start + Duration::from_millis(2100));
    assert_eq!(ledger.shows(Show::Bandwidth), [row("a", 20, 2)]);
    assert_eq!(ledger.shows(Show::Traffic), [row("a", 6011, 501)]);
    // A clock that stands still, or goes back, is no time at all.
    ledger.begin();
    ledger.give_again(share(1, 2000, 100));
    ledger.end(start);
    assert_eq!(ledger.shows(Show::Bandwidth), []);
}

#[test]
fn what_was_counted_before_the_start_is_no_rate() {
    let mut ledger = Ledger::new(Options::default());
    let start = Instant::now();
    ledger.end(start);
    ledger.begin();
    ledger.give(Share { recent: Traffic::new(1, 2), ..share(1, 1000, 1000) }, "a");
    ledger.end(start + Duration::from_secs(1));
    assert_eq!(ledger.shows(Show::Bandwidth), [row("a", 1, 2)]);
}

#[test]
fn the_last_rate_of_a_process_that_has_just_ended_is_shown_once() {
    for ended_lines in [0, 1] {
        let mut ledger = Ledger::new(Options { ended_lines, ..Options::default() });
        let start = Instant::now();
        ledger.end(start);
        ledger.begin();
        ledger.give(share(1, 10, 1), "a");
        ledger.ended([process(1)]);
        ledger.give_again(share(1, 10, 1));
        ledger.end(start + Duration::from_secs(1));
        let name = if ended_lines == 0 { "(ended)" } else { "a" };
        assert_eq!(ledger.shows(Show::Bandwidth), [row(name, 20, 2)]);
        ledger.begin();
        ledger.end(start + Duration::from_secs(2));
        assert_eq!(ledger.shows(Show::Bandwidth), []);
        assert_eq!(ledger.shows(Show::Traffic), [row(name, 20, 2)]);
    }
}

#[test]
fn bytes_without_a_process_have_a_line_for_each_reason() {
    let mut ledger = Ledger::new(Options::default());
    let start = Instant::now();
    ledger.end(start);
    ledger.begin();
    ledger.give(lost(Reason::Kernel, 1, 2), "");
    ledger.give(lost(Reason::Forwarded, 10, 20), "");
    ledger.end(start + Duration::from_secs(1));
    let rows = [row("(forwarded)", 10, 20), row("(kernel)", 1, 2)];
    for show in [Show::Traffic, Show::Bandwidth] {
        assert_eq!(ledger.shows_unattributed(show), rows);
        assert_eq!(ledger.shows(show), []);
    }
    ledger.begin();
    ledger.end(start + Duration::from_secs(2));
    assert_eq!(ledger.shows_unattributed(Show::Bandwidth), []);
    assert_eq!(ledger.unattributed().count(), 2);
}

#[test]
fn bytes_that_find_their_process_leave_their_reason() {
    let mut ledger = Ledger::new(Options::default());
    let start = Instant::now();
    ledger.give(lost(Reason::Kernel, 100, 200), "");
    ledger.end(start);
    ledger.begin();
    let (recent, from) = (Traffic::new(1, 2), Some(Reason::Kernel));
    ledger.give(Share { recent, from, ..share(1, 11, 22) }, "sshd");
    ledger.give(Share { recent, from, ..lost(Reason::Exited, 6, 7) }, "");
    ledger.end(start + Duration::from_secs(1));
    let unattributed = [row("(exited)", 6, 7), row("(kernel)", 85, 175)];
    assert_eq!(ledger.shows_unattributed(Show::Traffic), unattributed);
    assert_eq!(ledger.shows(Show::Traffic), [row("sshd", 11, 22)]);
    assert_eq!(ledger.shows(Show::Bandwidth), [row("sshd", 1, 2)]);
    assert_eq!(ledger.shows_unattributed(Show::Bandwidth), [row("(exited)", 1, 2)]);
}

#[test]
fn active_are_those_that_have_brought_bytes_in_this_refresh() {
    let mut ledger = Ledger::new(Options::default());
    ledger.give(share(1, 10, 1), "a");
    ledger.give(share(2, 0, 0), "b");
    assert_eq!(ledger.active().collect::<Vec<_>>(), [process(1)]);
    ledger.begin();
    assert_eq!(ledger.active().count(), 0);
}

#[test]
fn sums_end_at_the_greatest_number_and_nothing_panics() {
    let mut ledger = Ledger::new(Options { ended_lines: 0, ..Options::default() });
    let most = share(1, u64::MAX, u64::MAX);
    ledger.give(most, "a");
    ledger.give_again(most);
    ledger.ended([process(1)]);
    ledger.give_again(most);
    ledger.give(Share { from: Some(Reason::Kernel), recent: Traffic::ZERO, ..most }, "");
    ledger.end(Instant::now());
    assert_eq!(ledger.shows(Show::Traffic), [row("(ended)", u64::MAX, u64::MAX)]);
}

#[test]
fn a_hundred_thousand_short_lived_processes_leave_little() {
    let options = Options::default();
    let (lines, bytes) = (options.ended_lines, options.ended_bytes);
    let mut ledger = Ledger::new(options);
    let (batch, all) = (250, 100_000);
    for first in (0..all).step_by(batch) {
        ledger.begin();
        let pids = first as u32..(first + batch) as u32;
        for pid in pids.clone() {
            ledger.give(share(pid, 3, 2), &format!("wget http://198.51.100.1/{pid}"));
        }
        ledger.ended(pids.map(process));
        assert!(ledger.ended.len() <= lines && ledger.ended_bytes <= bytes);
        // Flows keep on belonging to the last few.
        let referenced: HashSet<_> =
            (first..first + batch / 2).map(|p| process(p as u32)).collect();
        ledger.keep_names_of(&referenced);
        assert_eq!((ledger.live.len(), ledger.names.len()), (0, batch / 2));
    }
    ledger.keep_names_of(&HashSet::<ProcessId>::new());
    assert!(ledger.names.is_empty());
    assert_eq!(ledger.rows().len(), lines + 1);
    assert_eq!(ledger.sum().total, Traffic::new(3 * all as u64, 2 * all as u64));
}
