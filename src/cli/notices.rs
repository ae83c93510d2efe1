//! Messages about the findings of looks at the kernel, each kind once.

use std::sync::Arc;

use super::line;
use super::messages::Messages;
use super::source::{MEND_UNREAD_KERNEL, UNREAD_KERNEL};
use crate::aggregator::Aggregator;
use crate::alert::APPLICATIONS;
use crate::model::{Looked, Snapshot, SourceKind};
use crate::monitor::{Monitor, Notice, OpenError, WatchError};
use crate::render::Frame;

/// The kinds that were reported already.
#[derive(Debug, Default)]
struct Said {
    denied: bool,
    failed: bool,
    uncounted: bool,
    malformed: bool,
    lost_ends: bool,
    lost_new_flows: bool,
    lost_processes: bool,
    refused: bool,
    incomplete: bool,
    overflow: bool,
    unread_kernel: bool,
    forwarded_error: bool,
    unread: bool,
    read: bool,
    crowded: bool,
}

/// Reports each kind of finding once.
#[derive(Debug)]
pub(super) struct Notices {
    program: &'static str,
    messages: Messages,
    /// What is still being read, on the screen until it is done.
    reading: Vec<(SourceKind, String)>,
    said: Said,
}

impl Notices {
    /// Notices of `program`.
    pub(super) fn new(program: &'static str, messages: &Messages) -> Notices {
        let (reading, said) = (Vec::new(), Said::default());
        Notices { program, messages: messages.clone(), reading, said }
    }

    /// Writes one line.
    pub(super) fn say(&self, message: &str) {
        self.messages.say(message);
    }

    /// The frame of a refresh: the lines above the list, and the reason why the list is empty, if
    /// it is.
    pub(super) fn frame(&self, snapshot: &Arc<Snapshot>, empty: &str) -> Frame {
        let wiped = self.messages.are_wiped();
        let if_empty = wiped.then(|| match self.said.denied {
            true => line(self.program, &format!("of what this user can see, {empty}")),
            false => line(self.program, empty),
        });
        let reading = self.reading.iter().filter(|_| wiped).map(|(_, line)| line.clone());
        let above = self.messages.on_screen().into_iter().chain(reading).collect();
        Frame { snapshot: snapshot.clone(), above, if_empty, alerts: Vec::new() }
    }

    /// Reports the notices of a monitor that was just opened.
    pub(super) fn tell_opened(&mut self, monitor: &Monitor) {
        for notice in monitor.notices() {
            match notice {
                Notice::Unprivileged { .. } => {
                    self.said.denied = true;
                    self.said.refused = true;
                    self.say(&format!("{notice}; to see all: sudo {}", self.program));
                }
                notice => self.say(&notice.to_string()),
            }
        }
        self.tell(monitor.looked(), monitor.source());
    }

    /// Reports why each source can't be opened, except the last error, which it returns.
    pub(super) fn tell_refused(&mut self, error: OpenError) -> WatchError {
        error.refused.iter().for_each(|notice| self.say(&notice.to_string()));
        error.error
    }

    /// Reports the findings of the monitors' last looks.
    pub(super) fn tell_all(&mut self, aggregator: &Aggregator) {
        let open = |source: &SourceKind| aggregator.monitors().any(|of| of.source() == *source);
        self.reading.retain(|(source, _)| open(source));
        for monitor in aggregator.monitors() {
            self.tell(monitor.looked(), monitor.source());
        }
    }

    /// Reports once what is not read yet: the rest is read from look to look.
    fn tell_unread(&mut self, looked: &Looked, source: SourceKind) {
        self.reading.retain(|(of, _)| *of != source);
        if !looked.unread.is_anything() {
            let is_done = self.said.unread && self.reading.is_empty();
            if is_done && !std::mem::replace(&mut self.said.read, true) {
                self.messages.pass(line(self.program, "everything is read"));
            }
            return;
        }
        let message = format!(
            "still reading {}; until that is done some bytes are missing, or stand under (not read yet) with \
             --unattributed",
            looked.unread
        );
        let message = line(self.program, &message);
        self.reading.push((source, message.clone()));
        if !std::mem::replace(&mut self.said.unread, true) {
            // The screen shows it in a line of its own.
            self.messages.pass(message);
        }
    }

    /// Reports once that there are more applications than notifications can watch.
    pub(super) fn tell_crowded(&mut self) {
        if std::mem::replace(&mut self.said.crowded, true) {
            return;
        }
        self.say(&format!(
            "notifications: more than {APPLICATIONS} applications match a process_filter; those that carried \
             least give way to others: they may be told of sooner than after repeat_interval, or not at \
             all; to mend it: a narrower process_filter, or fewer applications (--app-config, --group-by)"
        ));
    }

    /// Reports the findings of a look that the user should know, each kind once.
    pub(super) fn tell(&mut self, looked: &Looked, source: SourceKind) {
        self.tell_unread(looked, source);
        // With ebpf, findings of conntrack are about forwarded traffic.
        let flows = if source == SourceKind::Ebpf { SourceKind::Conntrack } else { source };
        let mut said = std::mem::take(&mut self.said);
        let once = |said: &mut bool, wanted: bool, message: &dyn Fn() -> String| {
            if wanted && !*said {
                *said = true;
                self.say(&message());
            }
        };
        once(&mut said.denied, looked.denied > 0, &|| {
            format!(
                "the descriptors of {} processes can't be read; what they send and receive stands \
                 under (no permission) with --unattributed; to mend it: run it as root",
                looked.denied
            )
        });
        once(&mut said.failed, looked.failed.is_some(), &|| {
            let errno = looked.failed.map(|errno| errno.to_string()).unwrap_or_default();
            format!("descriptors can't be read: {errno}; some bytes will have no process")
        });
        once(&mut said.uncounted, looked.uncounted > 0, &|| {
            format!(
                "{} of {} flows have no counters, because they began before conntrack's accounting \
                 was on; their bytes are not known",
                looked.uncounted, looked.flows
            )
        });
        once(&mut said.malformed, looked.malformed > 0, &|| {
            let first = looked.first_error.as_deref().unwrap_or("no further details");
            format!("{} entries of {source} can't be read; the first: {first}", looked.malformed)
        });
        once(&mut said.lost_ends, looked.lost_ends > 0, &|| {
            format!("flows ended faster than {flows} could tell; some of their last bytes are lost")
        });
        once(&mut said.lost_new_flows, looked.lost_new_flows > 0, &|| {
            format!(
                "flows began faster than {flows} could tell; those that are over by now may stand \
                 under (exited) with --unattributed"
            )
        });
        once(&mut said.lost_processes, looked.lost_processes > 0, &|| {
            "processes began and ended faster than they could be followed; those that are over by now may \
             be named by their short names, in brackets"
                .to_owned()
        });
        once(&mut said.refused, looked.refused > 0, &|| {
            format!(
                "{} other network namespaces can't be looked into; to mend it: run it as root \
                 (CAP_SYS_ADMIN), or leave them out with --netns own",
                looked.refused
            )
        });
        once(&mut said.incomplete, looked.incomplete, &|| {
            format!("{source} changed while it was read, several times; new flows may come late")
        });
        once(&mut said.overflow, looked.overflow.is_some(), &|| {
            format!(
                "more than there is room for: {} sockets in all, a few less where they are spread unevenly, \
                 and for one user other than root two thirds of them at most; what the others send and \
                 receive stands under (overflow) with --unattributed; to mend it: start it again, which \
                 makes room for twice as many sockets as files are open then",
                looked.overflow.unwrap_or_default()
            )
        });
        once(&mut said.unread_kernel, looked.unread_kernel, &|| {
            format!("{UNREAD_KERNEL}; to mend it: {MEND_UNREAD_KERNEL}")
        });
        once(&mut said.forwarded_error, looked.forwarded_error.is_some(), &|| {
            let why = looked.forwarded_error.as_deref().unwrap_or_default();
            format!(
                "forwarded traffic can't be read any more, and is not counted from now on: {why}"
            )
        });
        self.said = said;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Unread;

    #[test]
    fn what_is_still_being_read_stays_on_the_screen_until_it_is() {
        let messages = Messages::start_on(std::io::sink(), "test", false, true).unwrap();
        let mut notices = Notices::new("test", &messages);
        for left in [3, 2] {
            let unread = Unread { namespaces: Some((left, 9)), ..Unread::default() };
            notices.tell(&Looked { unread, ..Looked::default() }, SourceKind::Ebpf);
            let lines = notices.above();
            assert_eq!(lines.len(), 1, "{lines:?}");
            let beginning =
                format!("test: still reading the sockets of {left} of 9 network namespaces; ");
            assert!(lines[0].starts_with(&beginning), "{lines:?}");
        }
        notices.tell(&Looked::default(), SourceKind::Ebpf);
        assert_eq!(notices.above(), [""; 0]);
    }

    impl Notices {
        /// What stands above a list.
        fn above(&self) -> Vec<String> {
            self.frame(&Arc::default(), "").above
        }
    }

    /// The notices that a look leaves on a screen.
    fn said(looked: &Looked) -> Vec<String> {
        let messages = Messages::start_on(std::io::sink(), "test", false, true).unwrap();
        let mut notices = Notices::new("test", &messages);
        // Each kind once.
        for _ in 0..2 {
            notices.tell(looked, SourceKind::Ebpf);
        }
        notices.above()
    }

    #[test]
    fn sockets_without_room_are_too_many_or_one_users() {
        assert_eq!(said(&Looked::default()), [""; 0]);
        let lines = said(&Looked { overflow: Some(131_072), ..Looked::default() });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("test: more than there is room for: 131072 sockets in all, "));
        assert!(lines[0].contains("for one user other than root two thirds of them at most;"));
        assert!(lines[0].contains("under (overflow) with --unattributed; to mend it: "));
    }

    #[test]
    fn more_applications_than_can_be_watched_are_told_of_once() {
        let messages = Messages::start_on(std::io::sink(), "test", false, true).unwrap();
        let mut notices = Notices::new("test", &messages);
        notices.tell_crowded();
        notices.tell_crowded();
        let lines = notices.above();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("test: notifications: more than 10000 applications match "));
        assert!(lines[0].contains("; to mend it: a narrower process_filter, "));
    }

    #[test]
    fn a_kernel_that_keeps_its_structures_to_itself_is_told_of() {
        let lines = said(&Looked { unread_kernel: true, ..Looked::default() });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with(
                "test: what packet sockets send and packets without a socket are not "
            )
        );
        assert!(lines[0].contains("; to mend it: use a kernel that has "));
    }
}
