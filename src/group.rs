//! Processes grouped to applications: the first that any rule finds in the command line, else what
//! the process is labelled by, else the command line itself.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use regex::bytes::Regex;

use crate::ledger::{Line, Naming};
use crate::lookalike::distinct;
use crate::processes::Described;
use crate::selection::{Selected, Selection};
use crate::traffic::Name;

/// How many command lines are remembered with their applications, and how many bytes of them.
/// Processes that live are asked about once; this is for short-lived ones that come again.
const REMEMBERED: (usize, usize) = (10_000, 4 << 20);

/// An application, and how its processes are known.
#[derive(Clone, Debug)]
pub struct Application {
    /// What its line is called.
    pub name: Name,
    /// A process belongs to it in whose command line any of them is found.
    pub rules: Vec<Regex>,
}

/// The applications of a configuration, in their order.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    applications: Arc<[Application]>,
}

impl Groups {
    /// Groups by these applications.
    pub fn new(applications: Vec<Application>) -> Groups {
        Groups { applications: applications.into() }
    }

    /// The first application with a rule that is found anywhere in `name`: a command line, or what
    /// a pipe is called. Raw: uncut and not escaped.
    pub fn find(&self, name: &[u8]) -> Option<&Name> {
        let found = |application: &&Application| application.rules.iter().any(|r| r.is_match(name));
        self.applications.iter().find(found).map(|application| &application.name)
    }
}

/// What is known of a command line.
#[derive(Clone, Debug)]
struct Matched {
    application: Option<Name>,
    selected: Selected,
}

/// Puts processes on the lines of their applications.
#[derive(Debug)]
pub struct Grouping {
    groups: Groups,
    selection: Selection,
    seen: HashMap<Name, Matched, RandomState>,
    seen_bytes: usize,
}

impl Grouping {
    /// Groups what `selection` selects.
    pub fn new(groups: Groups, selection: Selection) -> Grouping {
        Grouping { groups, selection, seen: HashMap::default(), seen_bytes: 0 }
    }

    fn matched(&mut self, command_line: &Name) -> Matched {
        if let Some(matched) = self.seen.get(command_line) {
            return matched.clone();
        }
        let selected = self.selection.of(command_line);
        // What is shown nowhere needs no application.
        let application =
            if selected.any() { self.groups.find(command_line).cloned() } else { None };
        let matched = Matched { application, selected };
        let (lines, bytes) = REMEMBERED;
        if self.seen.len() >= lines || self.seen_bytes + command_line.len() > bytes {
            self.seen.clear();
            self.seen_bytes = 0;
        }
        self.seen_bytes += command_line.len();
        self.seen.insert(command_line.clone(), matched.clone());
        matched
    }
}

impl Naming for Grouping {
    fn line(&mut self, process: &Described) -> Line {
        let Matched { application, selected } = self.matched(&process.command_line);
        let name = application.as_ref().or(process.label.as_ref());
        Line { name: distinct(name.unwrap_or(&process.command_line)), selected }
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
        let label = label.map(|label| label.as_bytes().into());
        let described = Described { command_line: command_line.into(), label };
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
    fn rules_win_over_labels_and_labels_over_command_lines() {
        let mut grouping = Grouping::new(groups(&[("Web", &["nginx"])]), Selection::default());
        assert_eq!(line(&mut grouping, b"nginx: worker", Some("nginx")), "Web");
        assert_eq!(line(&mut grouping, b"/usr/bin/wget x ", Some("wget")), "wget");
        assert_eq!(line(&mut grouping, b"/usr/bin/wget x ", None), "/usr/bin/wget x ");
    }

    #[test]
    fn a_command_line_is_selected_as_the_monitors_say() {
        let filter = Filter::new(&[], &["ssh".to_owned()]).unwrap();
        let selector = Selector { filter, ignore_local: true, here: true };
        let selection = Selection::new(vec![selector]);
        let mut grouping = Grouping::new(groups(&[("All", &["."])]), selection);
        let mut selected = |command_line: &str| {
            let command_line = command_line.as_bytes().into();
            grouping.line(&Described { command_line, label: None }).selected
        };
        for _ in 0..2 {
            assert_eq!(selected("wget"), Selected { remote: true, local: false });
            assert_eq!(selected("sshd"), Selected::default());
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut grouping = Grouping::new(Groups::default(), Selection::default());
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
