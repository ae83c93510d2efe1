//! On events and readings of the test's own.

use super::*;

const SHELL: ProcessId = ProcessId { start_time: 100, pid: 10 };
const CHILD: ProcessId = ProcessId { start_time: 200, pid: 11 };

fn told(name: &str) -> Option<Label> {
    Some(Label { name: name.as_bytes().into(), chosen: false })
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
        self.table().entry(id).named = Some(Named::new(&[], comm, None));
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

/// Many processes of one user with command lines as long as they are read.
fn end_with_long_names(names: &Names, count: usize) {
    let long = [b'x'; describe::COMMAND_LINE_MAX];
    for pid in 0..count as u32 {
        let id = ProcessId { start_time: 1, pid: 100 + pid };
        names.exec(id, &long, b"x");
        names.happen(id, What::Exit(None), b"x");
    }
}

#[test]
fn what_is_kept_of_ended_processes_is_bounded_within_a_look_too() {
    let names = Names::default();
    end_with_long_names(&names, 2 * MOST_ENDED_BYTES / describe::COMMAND_LINE_MAX);
    let bytes = |names: &Names| -> usize {
        let table = names.table();
        let named = table.processes.values().filter_map(|entry| entry.named.as_ref());
        let bytes = named.map(Named::len).sum();
        assert_eq!(table.ended_bytes, bytes);
        bytes
    };
    let kept = bytes(&names);
    assert!(kept <= MOST_ENDED_BYTES && kept > MOST_ENDED_BYTES / 2, "{kept}");
    for _ in 0..=LOOKS {
        names.begin_look();
    }
    assert!(bytes(&names) <= ENDED_BYTES);
    assert!(names.table().long.values().map(VecDeque::len).sum::<usize>() <= ENDED);
}

#[test]
fn long_names_of_some_leave_the_names_of_others_as_they_are() {
    let names = Names::default();
    let java = [&b"java\0"[..], &[b'j'; 2000]].concat();
    names.exec(SHELL, b"sh\0-c\0true\0", b"sh");
    names.exec(CHILD, &java, b"java");
    names.happen(SHELL, What::Exit(None), b"sh");
    names.happen(CHILD, What::Exit(None), b"java");
    end_with_long_names(&names, 2 * MOST_ENDED_BYTES / describe::COMMAND_LINE_MAX);
    assert_eq!(names.name(SHELL).as_deref(), Some("sh -c true "));
    assert_eq!(names.name(CHILD).map(|name| name.len()), Some(java.len()));
    // The oldest of the long ones are cut, and nobody is without a name.
    let first = ProcessId { start_time: 1, pid: 100 };
    assert_eq!(names.name(first), Some("x".repeat(SHORT)));
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
    names.label(SHELL, program, told("old"));
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

/// Where the kernel reports numbers alone.
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
    names.label_by(&[LabelBy::User]);
    names.exec(SHELL, b"sh\0", b"sh");
    names.label(SHELL, names.program(SHELL), told("root"));
    names.fork(SHELL, CHILD);
    names.exec(CHILD, b"su\0", b"su");
    assert!(names.missing(CHILD).label && !names.missing(CHILD).command_line);
    assert_eq!(names.described(CHILD).and_then(|d| d.label), told("root"));
    names.label_by(&[LabelBy::Program]);
    names.exec(CHILD, b"/bin/ssh\0host\0", b"ssh");
    assert!(!names.missing(CHILD).label);
    assert_eq!(
        names.described(CHILD).and_then(|d| d.label).map(|label| (label.name, label.chosen)),
        Some((b"ssh"[..].into(), true))
    );
    names.label_by(&[LabelBy::Exe]);
    names.exec(CHILD, b"ls\0", b"ls");
    assert_eq!(names.described(CHILD).and_then(|d| d.label), None, "it is another file");
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
