//! Groups processes to applications: by the first rule that matches the command line, else by the
//! label of the process, else by the command line itself.
//!
//! Text that a process has chosen, its command line or the name of its program, never looks like the name of an
//! application's line that no rule gave it, nor like that of another unit, container, user or file: it then gets
//! a backslash in front (module `lookalike`). A command line ends in a blank, so the two are compared without
//! blanks at their ends, and without what is drawn as nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use regex::bytes::Regex;

use crate::ledger::{Line, Naming};
use crate::lookalike::{distinct, is_own, marked, skeleton};
use crate::model::Kind;
use crate::model::traffic::Name;
use crate::processes::{Described, Label, LabelBy};
use crate::selection::{Selected, Selection};

/// Number of command lines that are remembered with their applications, and maximum bytes of them.
/// A living process is looked up once; this is for short-lived ones that come again.
const REMEMBERED: (usize, usize) = (10_000, 4 << 20);

/// An application, and the rules that match its processes.
#[derive(Clone, Debug)]
pub struct Application {
    /// The name of its line.
    pub name: Name,
    /// A process belongs to it if any of these matches anywhere in its command line.
    pub rules: Vec<Regex>,
}

/// The applications of a configuration, in their order.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    applications: Arc<[Application]>,
    /// What readers see of the applications' names.
    seen: Arc<HashSet<String>>,
    labels: Arc<[LabelBy]>,
}

impl Groups {
    /// Groups of these applications.
    pub fn new(applications: Vec<Application>) -> Groups {
        let seen = applications.iter().map(|application| skeleton(&application.name)).collect();
        Groups { applications: applications.into(), seen: Arc::new(seen), labels: Arc::default() }
    }

    /// Groups processes that no rule matches by the first of `labels` that they have.
    pub fn labelled_by(self, labels: &[LabelBy]) -> Groups {
        Groups { labels: labels.into(), ..self }
    }

    /// Whether the name of a line comes from the configuration: it is an application's or a pipe's. Processes
    /// choose all other names.
    pub fn have_named(&self, line: &[u8]) -> bool {
        let is_line = |application: &Application| *distinct(&application.name) == *line;
        is_own(line) || self.applications.iter().any(is_line)
    }

    /// Whether a text that a process has chosen also looks like the name of an application, or could be
    /// another process's label. Readers see `seen` of it.
    fn claim(&self, text: &[u8], seen: &str, is_program: bool) -> bool {
        let could_be = |by: &LabelBy| by.could_be(text, is_program) || by.is_form_of(seen);
        self.seen.contains(seen) || self.labels.iter().any(could_be)
    }

    /// The first application with a rule that matches anywhere in `name`: a command line, or the
    /// name of a pipe, neither cut nor escaped.
    pub fn find(&self, name: &[u8]) -> Option<&Name> {
        let found = |application: &&Application| application.rules.iter().any(|r| r.is_match(name));
        self.applications.iter().find(found).map(|application| &application.name)
    }
}

/// What is remembered of a command line.
#[derive(Clone, Debug)]
struct Matched {
    application: Option<Name>,
    selected: Selected,
}

/// Assigns processes to the lines of their applications.
#[derive(Debug)]
pub struct Grouping {
    groups: Groups,
    selection: Selection,
    seen: HashMap<Name, Matched, RandomState>,
    seen_bytes: usize,
    /// What readers see of the labels that processes have not chosen themselves.
    told: HashSet<String, RandomState>,
}

impl Grouping {
    /// Groups the processes that `selection` selects.
    pub fn new(groups: Groups, selection: Selection) -> Grouping {
        Grouping {
            groups,
            selection,
            seen: HashMap::default(),
            seen_bytes: 0,
            told: HashSet::default(),
        }
    }

    fn matched(&mut self, command_line: &Name) -> Matched {
        if let Some(matched) = self.seen.get(command_line) {
            return matched.clone();
        }
        let selected = self.selection.of(command_line);
        // A process without selected bytes needs no application.
        let application =
            if selected.any() { self.groups.find(command_line).cloned() } else { None };
        let matched = Matched { application, selected };
        if self.groups.applications.is_empty() {
            // Nothing was searched that would be worth remembering.
            return matched;
        }
        let (lines, bytes) = REMEMBERED;
        if self.seen.len() >= lines || self.seen_bytes + command_line.len() > bytes {
            self.seen.clear();
            self.seen_bytes = 0;
        }
        self.seen_bytes += command_line.len();
        self.seen.insert(command_line.clone(), matched.clone());
        matched
    }

    /// The line of a process without an application.
    fn other(&mut self, process: &Described) -> Name {
        let (text, is_program) = match &process.label {
            Some(Label { name, chosen: false }) => return self.of_label(name),
            Some(Label { name, .. }) => (name, true),
            None => (&process.command_line, false),
        };
        let line = distinct(text);
        if self.groups.seen.is_empty() && self.groups.labels.is_empty() {
            return line;
        }
        let seen = skeleton(text);
        let is_taken = self.told.contains(&seen) || self.groups.claim(text, &seen, is_program);
        if is_taken { marked(&line) } else { line }
    }

    fn of_label(&mut self, label: &Name) -> Name {
        let seen = skeleton(label);
        // Only its rules decide what belongs to an application.
        let is_taken = self.groups.seen.contains(&seen);
        if !self.told.contains(&seen) {
            if self.told.len() >= REMEMBERED.0 {
                self.told.clear();
            }
            self.told.insert(seen);
        }
        let line = distinct(label);
        if is_taken { marked(&line) } else { line }
    }
}

impl Naming for Grouping {
    fn line(&mut self, process: &Described) -> Line {
        let Matched { application, selected } = self.matched(&process.command_line);
        let (name, kind) = match (application, &process.label) {
            (Some(application), _) => (distinct(&application), Kind::Application),
            (None, Some(_)) => (self.other(process), Kind::Group),
            (None, None) => (self.other(process), Kind::Process),
        };
        Line { name, kind, selected }
    }

    fn of_unattributed(&self) -> Selected {
        self.selection.of_unattributed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{Filter, compile};
    use crate::selection::Selector;

    fn groups(sections: &[(&str, &[&str])]) -> Groups {
        let application = |(name, rules): &(&str, &[&str])| Application {
            name: name.as_bytes().into(),
            rules: rules.iter().map(|rule| compile(rule).unwrap()).collect(),
        };
        Groups::new(sections.iter().map(application).collect())
    }

    fn line(grouping: &mut Grouping, command_line: &[u8], label: Option<&str>) -> String {
        let label = label.map(|label| Label { name: label.as_bytes().into(), chosen: false });
        of(grouping, Described { label, ..Described::of(command_line.into()) })
    }

    fn of(grouping: &mut Grouping, described: Described) -> String {
        String::from_utf8_lossy(&grouping.line(&described).name).into_owned()
    }

    #[test]
    fn the_first_application_in_the_order_of_the_file() {
        let groups = groups(&[
            ("Web", &["apache", "^/usr/sbin/nginx"]),
            ("Everything of nginx", &["nginx"]),
            ("Empty", &[]),
            ("Raw", &[r"\xff"]),
        ]);
        let mut grouping = Grouping::new(groups.clone(), Selection::default());
        for (command_line, expected) in [
            (&b"/usr/sbin/apache2 -k start "[..], "Web"),
            (b"/usr/sbin/nginx -g x ", "Web"),
            (b"nginx: worker process", "Everything of nginx"),
            (b"wget \xff ", "Raw"),
            (b"mutt ", "mutt "),
        ] {
            assert_eq!(line(&mut grouping, command_line, None), expected);
        }
        // A pipe is matched by its name.
        assert_eq!(
            groups.find(b"pipe-80:nginx.example.com:80").unwrap()[..],
            *b"Everything of nginx"
        );
        assert_eq!(groups.find(b"pipe-22:example.com:22"), None);
    }

    #[test]
    fn command_lines_are_remembered_only_for_applications() {
        let seen = |groups| {
            let mut grouping = Grouping::new(groups, Selection::default());
            line(&mut grouping, b"/usr/bin/wget x ", None);
            grouping.seen.len()
        };
        assert_eq!((seen(Groups::default()), seen(groups(&[("Web", &["nginx"])]))), (0, 1));
    }

    #[test]
    fn rules_win_over_labels_and_labels_over_command_lines() {
        let mut grouping = Grouping::new(groups(&[("Web", &["nginx"])]), Selection::default());
        assert_eq!(line(&mut grouping, b"nginx: worker", Some("nginx")), "Web");
        assert_eq!(line(&mut grouping, b"/usr/bin/wget x ", Some("wget")), "wget");
        assert_eq!(line(&mut grouping, b"/usr/bin/wget x ", None), "/usr/bin/wget x ");
    }

    #[test]
    fn what_a_process_has_chosen_stands_on_no_line_of_others() {
        use LabelBy::{Container, Exe, Program, Unit, User};
        let applications =
            || groups(&[("Webserver", &["^/usr/sbin/nginx "]), ("(odd)", &[]), ("DB (main)", &[])]);
        // By what is grouped, the command line, the name of the program if it is a label, the line.
        for (by, command_line, program, expected) in [
            (&[][..], "/usr/sbin/nginx -g x ", None, "Webserver"),
            (&[], "Webserver", None, "\\Webserver"),
            (&[], "Webserver ", None, "\\Webserver "),
            (&[], " Webserver ", None, "\\ Webserver "),
            (&[], "Web\u{1107f}server\u{2800} ", None, "\\Web\u{1107f}server\u{2800} "),
            (&[], "\u{ff37}ebserver ", None, "\\\u{ff37}ebserver "),
            (&[], "DB (main) ", None, "\\DB (main) "),
            (&[], "DB  (main) ", None, "\\DB  (main) "),
            (&[], "Webserver -g x ", None, "Webserver -g x "),
            (&[], "ssh ", None, "ssh "),
            (&[], "\\Webserver", None, "\\\\Webserver"),
            (&[], "(odd)", None, "\\\\(odd)"),
            (&[Program], "/x/Webserver ", Some("Webserver"), "\\Webserver"),
            (&[Program], "wget x ", Some("wget"), "wget"),
            (&[], "nginx.service", None, "nginx.service"),
            (&[Unit], "nginx.service", None, "\\nginx.service"),
            (&[Unit], "nginx.service ", None, "\\nginx.service "),
            (&[Unit], "user@0/x.scope ", None, "\\user@0/x.scope "),
            (&[Unit], "systemctl status nginx.service ", None, "systemctl status nginx.service "),
            (&[Unit], "ssh ", None, "ssh "),
            (&[Container], "abababababab ", None, "\\abababababab "),
            (&[Container], "web ", None, "web "),
            (&[User], "sshd ", None, "sshd "),
            (&[Exe], "/usr/sbin/sshd ", None, "/usr/sbin/sshd "),
            (&[Unit], "nginx: worker process", None, "nginx: worker process"),
            (&[Unit, Program], "/x/nginx.service ", Some("nginx.service"), "\\nginx.service"),
            (&[Unit, Program], "python3 x ", Some("python3"), "python3"),
            (&[Container], "abababababab", None, "\\abababababab"),
            (&[Container], "web", None, "\\web"),
            (&[Container, Program], "/x/abababababab ", Some("abababababab"), "\\abababababab"),
            (&[User], "root", None, "\\root"),
            (&[Exe], "/usr/sbin/sshd", None, "\\/usr/sbin/sshd"),
            (&[Exe], "/usr/sbin/sshd -D ", None, "/usr/sbin/sshd -D "),
            (&[Exe], "[kworker/0:1]", None, "[kworker/0:1]"),
        ] {
            let groups = applications().labelled_by(by);
            let mut grouping = Grouping::new(groups, Selection::default());
            let label = program.map(|name| Label { name: name.as_bytes().into(), chosen: true });
            let described = Described { label, ..Described::of(command_line.as_bytes().into()) };
            assert_eq!(of(&mut grouping, described), expected, "{by:?} {command_line}");
        }
    }

    #[test]
    fn a_label_that_was_told_is_nobodys_to_choose() {
        let groups = groups(&[("Web", &["nginx"])]).labelled_by(&[LabelBy::User, LabelBy::Program]);
        let mut grouping = Grouping::new(groups, Selection::default());
        let chosen = |name: &str| Described {
            label: Some(Label { name: name.as_bytes().into(), chosen: true }),
            ..Described::of(b"/x/y "[..].into())
        };
        assert_eq!(of(&mut grouping, chosen("alice")), "alice");
        assert_eq!(line(&mut grouping, b"wget ", Some("alice")), "alice");
        assert_eq!(of(&mut grouping, chosen("alice")), "\\alice");
        // Without its own label such a process has its command line.
        assert_eq!(of(&mut grouping, Described::of(b"alice "[..].into())), "\\alice ");
        assert_eq!(of(&mut grouping, Described::of(b"bob "[..].into())), "bob ");
        assert_eq!(line(&mut grouping, b"wget ", Some("Web")), "\\Web", "no rule has found it");
    }

    #[test]
    fn names_that_the_configuration_has_chosen() {
        let groups = groups(&[("Web server", &["nginx"]), ("(odd)", &["odd"])]);
        for (line, expected) in [
            ("Web server", true),
            ("\\(odd)", true),
            ("pipe-80:example.com:80", true),
            ("\\Web server", false),
            ("\\pipe-80:example.com:80", false),
            ("nginx ", false),
        ] {
            assert_eq!(groups.have_named(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn a_command_line_is_selected_as_the_monitors_say() {
        let filter = Filter::new(&[], &["ssh".to_owned()]).unwrap();
        let selector = Selector { filter, ignore_local: true, here: true };
        let selection = Selection::new(vec![selector]);
        let mut grouping = Grouping::new(groups(&[("All", &["."])]), selection);
        let mut selected = |command_line: &str| {
            let command_line = command_line.as_bytes().into();
            grouping.line(&Described::of(command_line)).selected
        };
        for _ in 0..2 {
            assert_eq!(selected("wget"), Selected { remote: true, local: false });
            assert_eq!(selected("sshd"), Selected::default());
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut grouping = Grouping::new(groups(&[("Web", &["nginx"])]), Selection::default());
        for number in 0..REMEMBERED.0 + 5 {
            line(&mut grouping, number.to_string().as_bytes(), None);
        }
        assert_eq!(grouping.seen.len(), 5);
        for number in 0..100 {
            line(&mut grouping, format!("{number:060000}").as_bytes(), None);
            assert!(grouping.seen_bytes <= REMEMBERED.1);
            assert_eq!(grouping.seen.keys().map(|k| k.len()).sum::<usize>(), grouping.seen_bytes);
        }
    }
}
