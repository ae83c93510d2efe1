//! Applications that go on under another name: a process may call exec, or set its own title, at any time. Its
//! bytes move to the line of the new name, and so does the state of its alerts. Otherwise a process that sets a
//! new title each second would never exceed a threshold for as long as a rule demands.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::Alerts;
use super::application::matching;
use crate::brief::Brief;
use crate::model::traffic::Name;
use crate::model::{Kind, Process, ProcessId, Row};

/// The application of each process of those that are awake. Only lines of processes that no file groups and
/// nothing labels: the others have their names for other reasons.
pub(super) type Processes = HashMap<ProcessId, usize, RandomState>;

impl Alerts {
    /// Renames applications whose processes have another name since the last
    /// [`remember_processes`](Alerts::remember_processes). Call it with the rows of a snapshot before
    /// [`observe`](Alerts::observe).
    ///
    /// The state moves only if no process has the old name any more, and nothing is known of the new one. If its
    /// processes have several new names, it moves to the one with the most bytes.
    pub fn follow_renamed(&mut self, rows: &[Row]) {
        if self.processes.is_empty() {
            return;
        }
        let mut renamed: HashMap<usize, &Row> = HashMap::new();
        for row in rows.iter().filter(|row| row.kind == Kind::Process) {
            let Some(key) = self.key_of_all(&row.processes) else { continue };
            if self.names.contains_key(&Brief::of(&row.name)) {
                continue;
            }
            let bytes = |row: &Row| row.account.recent.total();
            let most = renamed.entry(key).or_insert(row);
            if bytes(row) > bytes(most) {
                *most = row;
            }
        }
        if renamed.is_empty() {
            return;
        }
        let inhabited = rows.iter().filter(|row| !row.processes.is_empty());
        let left: HashSet<Brief> = inhabited.map(|row| Brief::of(&row.name)).collect();
        for (key, row) in renamed {
            if self.applications.get(key).is_some_and(|old| !left.contains(&old.brief)) {
                self.rename(key, &row.name);
            }
        }
    }

    /// The application that all of these processes belonged to.
    fn key_of_all(&self, processes: &[Process]) -> Option<usize> {
        let mut keys = processes.iter().map(|process| self.processes.get(&id(process)).copied());
        let first = keys.next()??;
        keys.all(|key| key == Some(first)).then_some(first)
    }

    fn rename(&mut self, key: usize, name: &Name) {
        let rules = matching(&self.rules, name);
        let Some(application) = self.applications.get_mut(key).filter(|_| !rules.is_empty()) else {
            // What none of the rules is about has no state.
            return;
        };
        let brief = Brief::of(name);
        let old = std::mem::replace(&mut application.brief, brief.clone());
        application.match_whole(rules, &self.rules);
        self.names.remove(&old);
        self.names.insert(brief, Some(key));
    }

    /// Remembers the processes of applications that have traffic or a state. Call it with the rows of a snapshot
    /// after [`observe`](Alerts::observe).
    pub fn remember_processes(&mut self, rows: &[Row]) {
        self.processes.clear();
        if self.awake.is_empty() {
            return;
        }
        for row in rows.iter().filter(|row| row.kind == Kind::Process) {
            let Some(Some(key)) = self.names.get(&Brief::of(&row.name)) else { continue };
            if self.applications.get(*key).is_some_and(|application| application.is_awake()) {
                self.processes.extend(row.processes.iter().map(|process| (id(process), *key)));
            }
        }
    }
}

fn id(process: &Process) -> ProcessId {
    ProcessId { pid: process.pid, start_time: process.start }
}
