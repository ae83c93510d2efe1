//! Attributes by which processes can be grouped beside their command lines: program, user, unit,
//! container, executable.
//!
//! The decoders take the content of files of `/proc/PID`. [`LabelBy`] selects the attribute.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use nix::unistd::{Uid, User};

use super::attributes::AttributeReader;
use super::descriptors::Proc;
use super::{Label, describe};
use crate::model::Attributes;
use crate::model::traffic::Name;

/// The attribute that labels a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LabelBy {
    /// The name of its program: the basename of the first word of its command line.
    Program,
    /// Its effective user.
    User,
    /// Its systemd unit.
    Unit,
    /// Its container: the name, or the first digits of the id.
    Container,
    /// The path of its executable file.
    Exe,
}

impl LabelBy {
    /// Whether this text could be mistaken for another process's label of this kind. The text is a command line
    /// or, with `is_program`, the name of a program.
    ///
    /// A command line of a single word ends in a blank, unless the process has overwritten it. Names of
    /// programs are mostly single words, so only those in the form of a unit or an id are taken for one.
    pub(crate) fn could_be(self, text: &[u8], is_program: bool) -> bool {
        // `[kworker/0:1]`
        let word = || !text.iter().any(u8::is_ascii_whitespace) && text.first() != Some(&b'[');
        match self {
            LabelBy::Program => false,
            LabelBy::Exe => text.first() == Some(&b'/') && text.last() != Some(&b' '),
            LabelBy::Unit if is_program => is_unit(text),
            LabelBy::Container if is_program => is_shown_id(text),
            LabelBy::User if is_program => false,
            LabelBy::User | LabelBy::Unit | LabelBy::Container => !text.is_empty() && word(),
        }
    }

    /// Whether a text, which a process has chosen and which is the [`skeleton`](crate::lookalike::skeleton) of its
    /// name, has the form of a unit or of an id. Ordinary command lines of a single word have not.
    pub(crate) fn is_form_of(self, seen: &str) -> bool {
        let is_word = !seen.contains(' ') && !seen.starts_with(['/', '[']);
        match self {
            LabelBy::Unit => is_word && is_unit(seen.as_bytes()),
            LabelBy::Container => is_shown_id(seen.as_bytes()),
            LabelBy::Program | LabelBy::User | LabelBy::Exe => false,
        }
    }
}

/// Digits of a container's id.
const DIGITS: usize = 64;
/// Digits of a container's id that are shown.
const SHOWN: usize = 12;

/// Whether a text has the form of a container's id.
pub(super) fn is_id(text: &[u8]) -> bool {
    text.len() == DIGITS && text.iter().all(u8::is_ascii_hexdigit)
}

/// Whether a text has the form of what is shown of a container's id.
pub(super) fn is_shown_id(text: &[u8]) -> bool {
    text.len() == SHOWN && text.iter().all(u8::is_ascii_hexdigit)
}

/// What is read of each process beside its command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labelling {
    /// The attributes that label a process: the first one that it has applies.
    pub by: Vec<LabelBy>,
    /// Whether all attributes are read.
    pub attributes: bool,
}

impl Labelling {
    /// Whether nothing is read.
    pub(crate) fn is_empty(&self) -> bool {
        self.by.is_empty() && !self.attributes
    }
}

impl From<Vec<LabelBy>> for Labelling {
    fn from(by: Vec<LabelBy>) -> Labelling {
        Labelling { by, attributes: false }
    }
}

/// What was read of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Labelled {
    pub(super) label: Option<Label>,
    pub(super) attributes: Option<Arc<Attributes>>,
}

/// Attributes that are kept, so that processes with the same ones share their memory.
const SHARED: usize = 4096;

/// Reads labels and attributes.
#[derive(Debug, Default)]
pub(super) struct Labels {
    labelling: Labelling,
    reader: AttributeReader,
    shared: HashSet<Arc<Attributes>>,
}

impl Labels {
    /// Reads these.
    pub(super) fn new(labelling: Labelling) -> Labels {
        Labels { labelling, ..Labels::default() }
    }

    /// Whether there is nothing to read.
    pub(super) fn is_empty(&self) -> bool {
        self.labelling.is_empty()
    }

    /// Reads what is asked for of a process with this raw command line and name.
    pub(super) fn of(&mut self, proc: &Proc, pid: u32, cmdline: &[u8], comm: &[u8]) -> Labelled {
        let label = self.label_of(proc, pid, cmdline, comm);
        let attributes =
            self.labelling.attributes.then(|| self.attributes_of(proc, pid, cmdline, comm));
        Labelled { label, attributes }
    }

    fn attributes_of(
        &mut self,
        proc: &Proc,
        pid: u32,
        cmdline: &[u8],
        comm: &[u8],
    ) -> Arc<Attributes> {
        let program = Some(program(cmdline, comm).into());
        let attributes = Attributes { program, ..self.reader.read(proc, pid, proc.user(pid)) };
        if let Some(known) = self.shared.get(&attributes) {
            return known.clone();
        }
        if self.shared.len() >= SHARED {
            self.shared.clear();
        }
        let attributes = Arc::new(attributes);
        self.shared.insert(attributes.clone());
        attributes
    }

    fn label_of(&mut self, proc: &Proc, pid: u32, cmdline: &[u8], comm: &[u8]) -> Option<Label> {
        let Labels { labelling, reader: AttributeReader { users, containers, .. }, .. } = self;
        labelling.by.iter().find_map(|by| {
            let name = match by {
                LabelBy::Program => Some(program(cmdline, comm)),
                LabelBy::User => proc.user(pid).map(|user| users.name(user)),
                LabelBy::Unit => unit(&proc.cgroup(pid).ok()?),
                LabelBy::Container => containers.of(&proc.cgroup(pid).ok()?, Instant::now()),
                LabelBy::Exe => proc.exe(pid),
            };
            Some(Label { name: name?.into(), chosen: *by == LabelBy::Program })
        })
    }
}

/// The name of the program in a command line. In `cmdline` each word ends in a NUL byte; `comm` is
/// the process's name.
///
/// The result is the basename of the first word, which may hold spaces, without the hyphen of a
/// login shell. A process can write a title over its command line (`nginx: worker process`), or its
/// words joined by spaces. Then the name ends before `: ` or before the first option (` -o`).
pub(super) fn program(cmdline: &[u8], comm: &[u8]) -> Vec<u8> {
    let first = cmdline.split(|byte| *byte == 0).next().unwrap_or_default();
    let first = first.trim_ascii();
    // `name: what it is doing`, which may hold slashes.
    let word = match first.windows(2).position(|pair| pair == b": ") {
        Some(colon) => &first[..colon],
        None => first.strip_suffix(b":").unwrap_or(first),
    };
    // ` -o`: options that were joined to it.
    let option = word.windows(3).position(|at| &at[..2] == b" -" && at[2] != b' ');
    let word = option.map_or(word, |at| &word[..at]).trim_ascii_end();
    let windows = word.get(1..3) == Some(br":\");
    let base = word.rsplit(|byte| *byte == b'/' || windows && *byte == b'\\').next();
    let base = base.unwrap_or(word);
    let base = base.strip_prefix(b"-").unwrap_or(base);
    if base.is_empty() { [b"[", comm, b"]"].concat() } else { base.to_vec() }
}

/// The effective user number in `/proc/PID/status` (proc_pid_status(5)).
pub(super) fn user(status: &[u8]) -> Option<u32> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    // Real, effective, saved, file system.
    let mut numbers = line.split(u8::is_ascii_whitespace).filter(|number| !number.is_empty());
    describe::number(numbers.nth(1)?)
}

/// The paths in `/proc/PID/cgroup` (cgroups(7)). Systemd's own hierarchy or the unified one comes
/// first: in the others systemd may have assigned the process no cgroup.
pub(super) fn paths(cgroup: &[u8]) -> impl Iterator<Item = &[u8]> {
    let path = |line| {
        // HIERARCHY:CONTROLLERS:PATH
        let mut fields = <[u8]>::splitn(line, 3, |byte| *byte == b':').skip(1);
        Some((fields.next()?, fields.next()?))
    };
    let mut paths: Vec<(&[u8], &[u8])> =
        cgroup.split(|byte| *byte == b'\n').filter_map(path).collect();
    paths
        .sort_by_key(|(controllers, _)| *controllers != b"name=systemd" && !controllers.is_empty());
    paths.into_iter().map(|(_, path)| path)
}

/// The systemd unit of a process: the outermost service or scope in its cgroup's path.
///
/// The cgroup of a unit has the unit's name (systemd.unit(5)). The cgroups below a unit, a container or a
/// user's slice may be delegated to another user, who can give them any name. So the name of a unit inside has
/// the user as its prefix: `user@1000/ssh.service`.
pub(super) fn unit(cgroup: &[u8]) -> Option<Vec<u8>> {
    paths(cgroup).find_map(|path| {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let mut outermost = None;
        let mut innermost = None;
        let mut whose: Option<Vec<u8>> = None;
        for (at, part) in parts.iter().enumerate() {
            let is_given = whose.is_some();
            if !is_given {
                let before = at.checked_sub(1).map(|before| parts[before]);
                let container = || container_part(part, before);
                whose = user_of(part).or_else(|| Some(container()?.shown().to_vec()));
            }
            if !is_unit(part) {
            } else if is_given || user_of(part).is_some() {
                innermost = Some(*part);
            } else {
                outermost = Some(*part);
                whose = whose.or_else(|| Some(part.to_vec()));
            }
        }
        match (whose, innermost) {
            // The user's own service manager.
            (Some(whose), Some(unit)) if user_of(unit).as_ref() == Some(&whose) => {
                Some(unit.to_vec())
            }
            (Some(whose), Some(unit)) => Some([&whose, &b"/"[..], unit].concat()),
            _ => outermost.map(<[u8]>::to_vec),
        }
    })
}

/// Whether a cgroup has the name of a unit that holds processes: a service or a scope.
fn is_unit(part: &[u8]) -> bool {
    const KINDS: [&[u8]; 6] =
        [b".service", b".scope", b".socket", b".mount", b".swap", b".automount"];
    KINDS.iter().any(|kind| part.ends_with(kind))
}

/// The user of a cgroup `user-1000.slice` or `user@1000.service`, as `user@1000`.
pub(super) fn user_of(part: &[u8]) -> Option<Vec<u8>> {
    let slice = part.strip_prefix(b"user-").and_then(|rest| rest.strip_suffix(b".slice"));
    let manager = || part.strip_prefix(b"user@").and_then(|rest| rest.strip_suffix(b".service"));
    let number = describe::number(slice.or_else(manager)?)?;
    Some(format!("user@{number}").into_bytes())
}

/// The container of a process, by what its cgroup's path has: its id, or its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InPath<'a> {
    /// All digits of its id.
    Id(&'a [u8]),
    /// Its name.
    Name(&'a [u8]),
}

impl<'a> InPath<'a> {
    /// The first 12 digits of the id, as its runtime shows it, or the name.
    fn shown(self) -> &'a [u8] {
        match self {
            InPath::Id(id) => &id[..SHOWN],
            InPath::Name(name) => name,
        }
    }
}

/// The container of a process: its name, or the first 12 digits of its id if `name_of` has no name for the id.
///
/// Recognised are the cgroups of Docker, containerd, CRI-O, Podman and Kubernetes (an id of 64 hexadecimal
/// digits, bare or as `RUNTIME-ID.scope`), of LXC (`lxc.payload.NAME`, `lxc/NAME`) and of systemd-nspawn
/// and other machines (`machine-NAME.scope`).
///
/// A user or a container can make cgroups of any name below their own. So the container inside has the user or the
/// outer container as its prefix, and is shown by its id: `user@1000/0123456789ab`.
pub(super) fn container(
    cgroup: &[u8],
    mut name_of: impl FnMut(&[u8]) -> Option<Name>,
) -> Option<Vec<u8>> {
    paths(cgroup).find_map(|path| {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let containers: Vec<(usize, InPath)> = (0..parts.len())
            .filter_map(|at| {
                let before = at.checked_sub(1).map(|before| parts[before]);
                Some((at, container_part(parts[at], before)?))
            })
            .collect();
        let (outermost, outer) = *containers.first()?;
        let user = parts[..outermost].iter().find_map(|part| user_of(part));
        let (innermost, inner) = *containers.last()?;
        if let Some(user) = user {
            return Some([&user, &b"/"[..], inner.shown()].concat());
        }
        let name = match outer {
            InPath::Id(id) => name_of(id),
            InPath::Name(_) => None,
        };
        let outer = name.as_deref().unwrap_or(outer.shown());
        let is_alone = outermost == innermost;
        Some(if is_alone { outer.to_vec() } else { [outer, b"/", inner.shown()].concat() })
    })
}

pub(super) fn container_part<'a>(part: &'a [u8], before: Option<&[u8]>) -> Option<InPath<'a>> {
    let scope = part.strip_suffix(b".scope");
    let bare = scope.unwrap_or(part);
    let id = bare.rsplit(|byte| *byte == b'-').next().unwrap_or(bare);
    if is_id(id) {
        return Some(InPath::Id(id));
    }
    let name = |name: &'a [u8]| (!name.is_empty()).then_some(InPath::Name(name));
    if let Some(payload) = part.strip_prefix(b"lxc.payload.") {
        return name(payload);
    }
    if matches!(before, Some(b"lxc" | b"lxc.payload")) {
        return name(part);
    }
    scope?.strip_prefix(b"machine-").and_then(name)
}

/// The target of `/proc/PID/exe`, without the mark of a deleted file: deleting or replacing the
/// file does not change the program that runs.
pub(super) fn exe(target: &[u8]) -> Vec<u8> {
    target.strip_suffix(b" (deleted)").unwrap_or(target).to_vec()
}

/// The names of users, cached: a name service on the network may be slow to answer.
#[derive(Debug, Default)]
pub(super) struct Users {
    names: HashMap<u32, Vec<u8>>,
}

impl Users {
    /// Users whose names are cached. Only user namespaces that come and go bring more.
    const MOST: usize = 10_000;

    /// The user's name, or the number if it has none.
    pub(super) fn name(&mut self, user: u32) -> Vec<u8> {
        if let Some(name) = self.names.get(&user) {
            return name.clone();
        }
        let name = match User::from_uid(Uid::from_raw(user)) {
            Ok(Some(found)) => found.name.into_bytes(),
            _ => user.to_string().into_bytes(),
        };
        if self.names.len() >= Users::MOST {
            self.names.clear();
        }
        self.names.insert(user, name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn programs() {
        for (cmdline, expected) in [
            (&b"/usr/bin/ssh\0-v\0host\0"[..], "ssh"),
            (b"wget\0http://example.com/a/b\0", "wget"),
            (b"-bash\0", "bash"),
            (b"/bin/-sh\0", "sh"),
            // Titles.
            (b"nginx: worker process\0\0\0\0", "nginx"),
            (b"nginx: master process /usr/sbin/nginx -g daemon on;\0", "nginx"),
            (b"sshd: user@pts/0\0", "sshd"),
            (b"postgres: 14/main: writer process \0", "postgres"),
            (b"avahi-daemon: running [host.local]\0", "avahi-daemon"),
            (b"/usr/sbin/exim4:\0-bd\0", "exim4"),
            (b"/usr/lib/chromium/chromium --type=renderer --lang=de/x \0", "chromium"),
            // A path with spaces is one word.
            (b"/opt/My App/bin/the app\0--flag\0", "the app"),
            (b"/opt/My - App/app\0", "app"),
            (br"C:\Program Files\Tool\tool.exe", "tool.exe"),
            (b"a\\b\0", "a\\b"),
            (b"name:with:colons\0", "name:with:colons"),
            // The command line gives no name.
            (b"", "[comm]"),
            (b"\0\0", "[comm]"),
            (b"/\0", "[comm]"),
            (b" -x\0", "x"),
        ] {
            let shown = String::from_utf8_lossy(cmdline);
            assert_eq!(text(program(cmdline, b"comm")), expected, "{shown:?}");
        }
    }

    /// The line of `/proc/self/status` of a set-user-ID program.
    #[test]
    fn the_user_is_the_effective_one() {
        let status = b"Name:\tpasswd\nUmask:\t0022\nUid:\t1000\t0\t0\t0\nGid:\t1000\t1000\n";
        assert_eq!(user(status), Some(0));
        for none in [&b""[..], b"Uid:\n", b"Uid:\t1000\n", b"Uid:\tx\ty\n"] {
            assert_eq!(user(none), None);
        }
        let mut users = Users::default();
        for _ in 0..2 {
            assert_eq!(text(users.name(0)), "root");
            assert_eq!(text(users.name(4_000_000_000)), "4000000000");
        }
    }

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn units() {
        for (cgroup, expected) in [
            ("0::/system.slice/nginx.service\n", Some("nginx.service")),
            (
                "0::/system.slice/system-getty.slice/getty@tty1.service\n",
                Some("getty@tty1.service"),
            ),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-browser.scope\n",
                Some("user@1000/app-browser.scope"),
            ),
            // A user's own manager and sessions, and cgroups that the user has made.
            (
                "0::/user.slice/user-1000.slice/user@1000.service/init.scope\n",
                Some("user@1000/init.scope"),
            ),
            ("0::/user.slice/user-1000.slice/user@1000.service\n", Some("user@1000.service")),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice\n",
                Some("user@1000.service"),
            ),
            ("0::/user.slice/user-1000.slice/session-3.scope\n", Some("user@1000/session-3.scope")),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/ssh.service\n",
                Some("user@1000/ssh.service"),
            ),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/user@0.service/ssh.service\n",
                Some("user@1000/ssh.service"),
            ),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/user@0.service\n",
                Some("user@1000/user@0.service"),
            ),
            ("0::/user.slice/user-1000.slice/system.slice\n", None),
            // A service may make cgroups of its own below.
            ("0::/system.slice/runner.service/job-7\n", Some("runner.service")),
            (
                "0::/system.slice/runner.service/system.slice/ssh.service\n",
                Some("runner.service/ssh.service"),
            ),
            // Those of containers that run systemd.
            ("0::/lxc.payload.web/system.slice/ssh.service\n", Some("web/ssh.service")),
            ("0::/lxc/web/init.scope\n", Some("web/init.scope")),
            (
                "0::/machine.slice/machine-web.scope/payload/system.slice/ssh.service\n",
                Some("web/ssh.service"),
            ),
            // Version 1: systemd's hierarchy comes before the controllers'.
            (
                "4:memory:/other.service\n1:name=systemd:/system.slice/cron.service\n",
                Some("cron.service"),
            ),
            ("1:name=systemd:/\n0::/system.slice/a:b.service\n", Some("a:b.service")),
            ("0::/\n", None),
            ("", None),
            ("0::/user.slice\n", None),
            ("nonsense", None),
        ] {
            assert_eq!(unit(cgroup.as_bytes()).map(text).as_deref(), expected, "{cgroup}");
        }
    }

    #[test]
    fn containers() {
        let short = Some("0123456789ab");
        for (cgroup, expected) in [
            (format!("0::/system.slice/docker-{ID}.scope\n"), short),
            (format!("0::/docker/{ID}\n"), short),
            (format!("0::/docker/{ID}/inner.slice\n"), short),
            (format!("4:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}\n"), short),
            (format!("0::/machine.slice/libpod-{ID}.scope/container\n"), short),
            (
                format!(
                    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/\
                     cri-containerd-{ID}.scope\n"
                ),
                short,
            ),
            (format!("0::/kubepods/besteffort/pod1-2-3/{ID}\n"), short),
            (format!("0::/kubepods.slice/crio-{ID}.scope\n"), short),
            // As it is seen from another cgroup namespace.
            (format!("0::/../{ID}\n"), short),
            ("0::/lxc.payload.web\n".to_owned(), Some("web")),
            ("0::/lxc.payload.web/system.slice/ssh.service\n".to_owned(), Some("web")),
            ("0::/lxc/web/init.scope\n".to_owned(), Some("web")),
            ("0::/machine.slice/machine-web.scope/payload\n".to_owned(), Some("web")),
            (format!("0::/system.slice/x-{}.scope\n", &ID[1..]), None),
            // Rootless ones, and what else a user can make.
            (
                format!(
                    "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/\
                     container\n"
                ),
                Some("user@1000/0123456789ab"),
            ),
            (
                format!("0::/user.slice/user-1000.slice/user@1000.service/docker-{ID}.scope\n"),
                Some("user@1000/0123456789ab"),
            ),
            ("0::/user.slice/user-1000.slice/lxc.payload.web\n".to_owned(), Some("user@1000/web")),
            ("0::/user.slice/user-1000.slice/session-3.scope\n".to_owned(), None),
            // One in another.
            (format!("0::/lxc.payload.web/docker-{ID}.scope\n"), Some("web/0123456789ab")),
            (format!("0::/lxc.payload.web/user-1.slice/docker/{ID}\n"), Some("web/0123456789ab")),
            ("0::/system.slice/nginx.service\n".to_owned(), None),
            ("0::/\n".to_owned(), None),
        ] {
            let container = container(cgroup.as_bytes(), |_| None).map(text);
            assert_eq!(container.as_deref(), expected, "{cgroup}");
        }
    }

    #[test]
    fn the_unit_of_a_container_that_runs_systemd() {
        let cgroup = |below| format!("0::/system.slice/docker-{ID}.scope{below}\n");
        for (cgroup, expected) in [
            (cgroup(""), format!("docker-{ID}.scope")),
            (cgroup("/system.slice/ssh.service"), "0123456789ab/ssh.service".to_owned()),
        ] {
            assert_eq!(unit(cgroup.as_bytes()).map(text), Some(expected), "{cgroup}");
        }
    }

    #[test]
    fn what_could_be_a_label() {
        use LabelBy::{Container, Exe, Program, Unit, User};
        for (by, line, as_command_line, as_program) in [
            (Unit, "nginx.service", true, true),
            (Unit, "nginx.service ", false, false),
            (Unit, "user@1/a.scope", true, true),
            (Unit, "nginx", true, false),
            (Unit, "nginx: worker process", false, false),
            (Unit, "[kworker/0:1]", false, false),
            (Container, "0123456789ab", true, true),
            (Container, "0123456789abc", true, false),
            (Container, "web", true, false),
            (User, "root", true, false),
            (Exe, "/usr/sbin/sshd", true, true),
            (Exe, "/usr/sbin/sshd -D ", false, false),
            (Exe, "sshd", false, false),
            (Program, "sshd", false, false),
        ] {
            assert_eq!(by.could_be(line.as_bytes(), false), as_command_line, "{by:?} {line}");
            assert_eq!(by.could_be(line.as_bytes(), true), as_program, "{by:?} {line}");
        }
        for (by, seen, expected) in [
            (Unit, "nginx.service", true),
            (Unit, "user@1/a.scope", true),
            (Unit, "systemctl status nginx.service", false),
            (Unit, "/opt/nginx.service", false),
            (Unit, "nginx", false),
            (Container, "0123456789ab", true),
            (Container, "web", false),
            (User, "root", false),
            (Exe, "/usr/sbin/sshd", false),
            (Program, "sshd", false),
        ] {
            assert_eq!(by.is_form_of(seen), expected, "{by:?} {seen}");
        }
    }

    #[test]
    fn a_program_that_was_replaced_is_the_same() {
        assert_eq!(text(exe(b"/usr/bin/python3.11 (deleted)")), "/usr/bin/python3.11");
        assert_eq!(text(exe(b"/usr/bin/python3.11")), "/usr/bin/python3.11");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            any in proptest::collection::vec(any::<u8>(), 0..200),
            cgroup in "[0-2:/a=,.\n-]{0,60}(scope|service|lxc|machine-)?[/.a\n]{0,20}",
            words in "[/a: \0-]{0,12}",
        ) {
            for bytes in [&any[..], cgroup.as_bytes(), words.as_bytes()] {
                let _ = (user(bytes), unit(bytes), container(bytes, |_| None), exe(bytes));
                prop_assert!(!program(bytes, b"c").is_empty());
            }
        }
    }
}
