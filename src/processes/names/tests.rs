//! With events and readings made by hand.

use super::table::{Entry, Named};
use super::*;
use crate::ebpf::{ProcessEvent, Started, What};
use crate::model::Attributes;
use crate::processes::label::Labelled;
use crate::processes::{Label, LabelBy, Labelling, describe};

const SHELL: ProcessId = ProcessId { start_time: 100, pid: 10 };
const CHILD: ProcessId = ProcessId { start_time: 200, pid: 11 };

fn told(name: &str) -> Option<Label> {
    Some(Label { name: name.as_bytes().into(), chosen: false })
}

fn labelled(label: Option<Label>) -> Labelled {
    Labelled { label, attributes: None }
}

impl Names {
    fn happen(&self, id: ProcessId, what: What<'_>, name: &[u8]) {
        let process = started(id);
        self.table().apply(&ProcessEvent { process, what, netns: Some(1), name });
    }

    fn exec(&self, id: ProcessId, cmdline: &[u8], name: &[u8]) {
        self.happen(id, What::Exec(Some(cmdline)), name);
    }

    fn fork(&self, parent: ProcessId, child: ProcessId) {
        self.happen(child, What::Fork(started(parent)), b"parent");
    }

    fn name(&self, id: ProcessId) -> Option<String> {
        let described = self.described(id)?;
        Some(String::from_utf8_lossy(&described.command_line).into_owned())
    }

    /// A process is known by its short name alone.
    pub(in crate::processes) fn cut(&self, id: ProcessId, comm: &[u8]) {
        self.table().entry(id).named = Some(Named::new(&[], comm, Labelled::default()));
    }
}

fn started(id: ProcessId) -> Started {
    Started { pid: id.pid, start: id.start_time }
}

#[test]
fn a_name_stays_when_the_process_ends_and_for_two_looks_at_least() {
    let names = Names::default();
    names.exec(SHELL, b"sh\0-c\0true\0", b"sh");
    assert_eq!(names.name(SHELL).as_deref(), Some("sh -c true "));
    // Ending, it has given its command line back.
    names.read(SHELL, names.program(SHELL), b"", b"sh");
    names.happen(SHELL, What::Exit(None), b"thread");
    for number in 0..MOST_ENDED as u32 - 1 {
        let id = ProcessId { start_time: 1, pid: 100 + number };
        names.exec(id, b"", b"x");
        names.ended(id);
    }
    for _ in 0..LOOKS {
        names.begin_look();
        assert_eq!(names.name(SHELL).as_deref(), Some("sh -c true "));
    }
    names.begin_look();
    assert_eq!(names.name(SHELL), None);
    assert!(names.table().processes.len() <= ENDED && names.table().numbers.len() <= ENDED);
}

/// Number of names of maximum length, of which half have room.
const MANY: u32 = (2 * MOST_BYTES / describe::COMMAND_LINE_MAX) as u32;

fn flooding(number: u32) -> ProcessId {
    ProcessId { start_time: 1, pid: 100 + number }
}

/// Many processes of one user with command lines of maximum length.
fn begin_with_long_names(names: &Names) {
    let long = [b'x'; describe::COMMAND_LINE_MAX];
    (0..MANY).for_each(|number| names.exec(flooding(number), &long, b"x"));
}

fn end_with_long_names(names: &Names) {
    let long = [b'x'; describe::COMMAND_LINE_MAX];
    for id in (0..MANY).map(flooding) {
        names.exec(id, &long, b"x");
        names.happen(id, What::Exit(None), b"x");
    }
}

/// The bytes in the table, by its own count and in fact.
fn bytes(names: &Names) -> usize {
    let table = names.table();
    let of = |entry: &Entry| entry.named.as_ref().map_or(0, |n| n.lengths().iter().sum());
    assert_eq!(table.bytes, table.processes.values().map(|entry| of(entry)).sum::<usize>());
    let ended = table.processes.values().filter(|entry| entry.ended);
    assert_eq!(table.ended_bytes, ended.map(|entry| of(entry)).sum::<usize>());
    table.bytes
}

#[test]
fn what_is_kept_of_ended_processes_is_bounded_within_a_look_too() {
    let names = Names::default();
    end_with_long_names(&names);
    let kept = bytes(&names);
    assert!(kept <= MOST_BYTES && kept > MOST_BYTES / 2, "{kept}");
    for _ in 0..=LOOKS {
        names.begin_look();
    }
    assert!(bytes(&names) <= ENDED_BYTES);
    assert!(names.table().long.len() <= ENDED);
}

/// 64 KiB for each living process would be gigabytes, for a user who needs no memory of their own
/// for that.
#[test]
fn names_of_living_processes_are_bounded_and_of_the_longest_the_newest_are_cut() {
    let names = Names::default();
    let java = [&b"java\0"[..], &[b'j'; 2000]].concat();
    begin_with_long_names(&names);
    names.exec(SHELL, &java, b"java");
    let kept = bytes(&names);
    assert!(kept <= MOST_BYTES && kept > MOST_BYTES / 2, "{kept}");
    let length = |id| names.name(id).map(|name| name.len());
    let (first, last) = (flooding(0), flooding(MANY - 1));
    assert_eq!(length(SHELL), Some(java.len()));
    assert_eq!(length(first), Some(describe::COMMAND_LINE_MAX));
    assert_eq!(names.name(last), Some("x".repeat(SHORT - 3) + "..."));
    // Whoever keeps a whole name is told.
    let cut: HashSet<ProcessId> = names.take_cut().into_iter().collect();
    assert!(cut.contains(&last) && !cut.contains(&first) && !cut.contains(&SHELL));
    assert_eq!(names.take_cut(), []);
    // It is read again while it has traffic, and is whole again once there is room.
    let long = [b'x'; describe::COMMAND_LINE_MAX];
    let read = || names.read(last, names.program(last), &long, b"x");
    read();
    assert_eq!((length(last), length(first)), (Some(SHORT), Some(long.len())));
    (0..MANY / 2).for_each(|number| names.exec(flooding(number), b"x\0", b"x"));
    read();
    assert_eq!(length(last), Some(long.len()));
    bytes(&names);
    assert!(names.table().long.len() <= MANY as usize + 1);
}

#[test]
fn a_label_that_is_made_of_a_long_name_has_its_weight_and_is_cut_too() {
    let names = Names::default();
    names.label_by(&vec![LabelBy::Program].into());
    begin_with_long_names(&names);
    assert!(bytes(&names) <= MOST_BYTES);
    let last = names.described(flooding(MANY - 1));
    assert_eq!(last.and_then(|d| d.label).map(|label| label.name.len()), Some(SHORT));
    names.label(
        flooding(0),
        names.program(flooding(0)),
        labelled(Some(Label { name: (*b"x").into(), chosen: true })),
    );
    bytes(&names);
}

#[test]
fn long_names_of_some_leave_the_names_of_others_as_they_are() {
    let names = Names::default();
    let java = [&b"java\0"[..], &[b'j'; 2000]].concat();
    names.exec(SHELL, b"sh\0-c\0true\0", b"sh");
    names.exec(CHILD, &java, b"java");
    names.happen(SHELL, What::Exit(None), b"sh");
    names.happen(CHILD, What::Exit(None), b"java");
    end_with_long_names(&names);
    assert_eq!(names.name(SHELL).as_deref(), Some("sh -c true "));
    assert_eq!(names.name(CHILD).map(|name| name.len()), Some(java.len()));
    // Of the long ones the newest are cut, and nobody is without a name.
    assert_eq!(names.name(flooding(MANY - 1)), Some("x".repeat(SHORT - 3) + "..."));
    assert_eq!(names.name(flooding(0)).map(|name| name.len()), Some(describe::COMMAND_LINE_MAX));
}

#[test]
fn a_copy_has_its_parents_name_as_it_was_at_the_fork() {
    let names = Names::default();
    names.exec(SHELL, b"server\0", b"server");
    names.fork(SHELL, CHILD);
    names.exec(SHELL, b"other\0", b"other");
    assert_eq!(names.name(CHILD).as_deref(), Some("server "));
    // It was a zombie when it was looked at.
    names.read(CHILD, names.program(CHILD), b"", b"server");
    assert_eq!(names.name(CHILD).as_deref(), Some("server "));
}

#[test]
fn a_parent_that_is_older_may_be_read_later() {
    let names = Names::default();
    let grandchild = ProcessId { start_time: 201, pid: 12 };
    names.fork(SHELL, CHILD);
    names.fork(CHILD, grandchild);
    assert_eq!(names.name(grandchild), None);
    names.happen(grandchild, What::Exit(None), b"thread");
    names.read(SHELL, names.program(SHELL), b"python3\0-m\0x\0", b"python3");
    assert_eq!(names.name(CHILD).as_deref(), Some("python3 -m x "));
    assert_eq!(names.name(grandchild).as_deref(), Some("python3 -m x "));
}

#[test]
fn a_new_title_replaces_the_name_whenever_it_is_seen_and_nothing_doesnt() {
    let names = Names::default();
    names.exec(SHELL, b"nginx\0-g\0x\0", b"nginx");
    names.read(SHELL, names.program(SHELL), b"[nginx] worker", b"nginx");
    assert_eq!(names.name(SHELL).as_deref(), Some("[nginx] worker"));
    assert!(names.has_command_line(SHELL));
    names.read(SHELL, names.program(SHELL), b"", b"nginx");
    assert_eq!(names.name(SHELL).as_deref(), Some("[nginx] worker"));
    names.happen(SHELL, What::Exit(Some(b"nginx: last")), b"thread");
    assert_eq!(names.name(SHELL).as_deref(), Some("nginx: last"));
}

#[test]
fn what_was_read_of_the_program_before_is_not_the_new_ones_name() {
    let names = Names::default();
    names.exec(SHELL, b"sh\0", b"sh");
    let program = names.program(SHELL);
    names.exec(SHELL, b"ssh\0host\0", b"ssh");
    names.read(SHELL, program, b"sh\0", b"sh");
    names.label(SHELL, program, labelled(told("old")));
    assert_eq!(names.name(SHELL).as_deref(), Some("ssh host "));
    assert_eq!(names.described(SHELL).and_then(|d| d.label), None);
}

#[test]
fn one_of_which_nothing_is_known_is_named_by_its_short_name_until_it_is_read() {
    let names = Names::default();
    names.seen(SHELL, b"sh");
    assert_eq!(names.name(SHELL).as_deref(), Some("[sh]"));
    assert!(names.missing(SHELL).command_line);
    names.read(SHELL, names.program(SHELL), b"sh\0-i\0", b"sh");
    assert_eq!(names.name(SHELL).as_deref(), Some("sh -i "));
    names.seen(SHELL, b"sh");
    assert_eq!(names.name(SHELL).as_deref(), Some("sh -i "));
}

#[test]
fn a_number_is_the_process_that_had_it_at_that_time() {
    let names = Names::default();
    let again = ProcessId { start_time: 300, ..SHELL };
    names.exec(SHELL, b"first\0", b"first");
    names.happen(SHELL, What::Exit(None), b"first");
    names.exec(again, b"second\0", b"second");
    for (at, expected) in [(99, None), (100, Some(SHELL)), (299, Some(SHELL)), (300, Some(again))] {
        assert_eq!(names.by_number(SHELL.pid, at), expected, "{at}");
    }
    assert_eq!(names.by_number(CHILD.pid, 1000), None);
}

#[test]
fn a_process_that_is_seen_after_it_was_forgotten_is_forgotten_again() {
    let names = Names::default();
    names.table().reported = true;
    let count = 2 * ENDED as u32;
    for pid in 0..count {
        let id = ProcessId { start_time: 1, pid };
        names.seen(id, b"maker");
        assert_eq!(names.name(id).as_deref(), Some("[maker]"));
    }
    // One that is there is kept.
    names.read(SHELL, names.program(SHELL), b"sh\0", b"sh");
    names.seen(SHELL, b"sh");
    for _ in 0..=LOOKS {
        names.begin_look();
    }
    let kept = ENDED + 1;
    let table = names.table();
    assert_eq!((table.processes.len(), table.numbers.len()), (kept, kept));
    assert!(table.processes.contains_key(&SHELL));
}

/// The kernel reports only pids here.
#[test]
fn a_copy_whose_short_name_differs_from_its_parents_is_not_named_by_it() {
    let names = Names::default();
    names.read(SHELL, 0, b"sh\0-c\0x\0", b"sh");
    for (pid, comm, expected) in [(11, b"sh", "sh -c x "), (12, b"nc", "[nc]")] {
        let id = ProcessId { start_time: 200, pid };
        names.notice(Event::Fork { parent: SHELL.pid, pid });
        names.read(id, names.program(id), b"", comm);
        assert_eq!(names.name(id).as_deref(), Some(expected));
    }
    // One that has called exec since, and is ending when it is read.
    let id = ProcessId { start_time: 200, pid: 11 };
    names.notice(Event::Exec { pid: 11 });
    assert!(names.missing(id).command_line);
    names.read(id, names.program(id), b"", b"nc");
    assert_eq!(names.name(id).as_deref(), Some("[nc]"));
}

#[test]
fn a_program_has_the_label_of_the_one_before_until_its_own_is_read() {
    let names = Names::default();
    names.label_by(&vec![LabelBy::User].into());
    names.exec(SHELL, b"sh\0", b"sh");
    names.label(SHELL, names.program(SHELL), labelled(told("root")));
    names.fork(SHELL, CHILD);
    names.exec(CHILD, b"su\0", b"su");
    assert!(names.missing(CHILD).label && !names.missing(CHILD).command_line);
    assert_eq!(names.described(CHILD).and_then(|d| d.label), told("root"));
    names.label_by(&vec![LabelBy::Program].into());
    names.exec(CHILD, b"/bin/ssh\0host\0", b"ssh");
    assert!(!names.missing(CHILD).label);
    assert_eq!(
        names.described(CHILD).and_then(|d| d.label).map(|label| (label.name, label.chosen)),
        Some((b"ssh"[..].into(), true))
    );
    names.label_by(&vec![LabelBy::Exe].into());
    names.exec(CHILD, b"ls\0", b"ls");
    assert_eq!(names.described(CHILD).and_then(|d| d.label), None, "it is another file");
}

#[test]
fn a_program_has_the_attributes_of_the_one_before_except_for_its_file() {
    let names = Names::default();
    names.label_by(&Labelling { by: Vec::new(), attributes: true });
    names.exec(SHELL, b"sh\0", b"sh");
    let name = |name: &[u8]| Some(name.into());
    let attributes = Attributes {
        program: name(b"sh"),
        exe: name(b"/bin/dash"),
        user: name(b"jo"),
        unit: name(b"cron.service"),
        ..Attributes::default()
    };
    let read = Labelled { label: None, attributes: Some(Arc::new(attributes.clone())) };
    names.label(SHELL, names.program(SHELL), read);
    names.fork(SHELL, CHILD);
    let of = |id| names.described(id).unwrap().attributes.unwrap();
    assert_eq!(*of(CHILD), attributes);
    names.exec(CHILD, b"/bin/ssh\0host\0", b"ssh");
    assert_eq!(*of(CHILD), Attributes { program: name(b"ssh"), exe: None, ..attributes });
    assert!(names.missing(CHILD).label, "the file is to be read");
}

#[test]
fn what_waits_for_a_thread_is_bounded_and_a_loss_is_said() {
    let names = Names::default();
    names.exec(SHELL, b"sh\0", b"sh");
    assert_eq!(names.announced(), (Vec::new(), false), "nobody wanted it");
    assert_eq!(names.announce(Wake::All, |_| ()), None);
    for _ in 0..=WAITING {
        names.exec(SHELL, b"sh\0", b"sh");
    }
    let (announced, lost) = names.announced();
    assert_eq!((announced.len(), lost), (WAITING, true));
    let event = Event::Exec { pid: SHELL.pid };
    let netns = Some(NetnsId(1));
    assert_eq!(announced[0], Announced { event, process: SHELL, netns });
}
