//! What processes are put together by that no section puts anywhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use testbed::endpoint::Endpoint;
use testbed::netns::{Net, PEER4};
use testbed::program::NOBODY;
use testbed::requirements::skip;
use testbed::wait::until;

use super::{Aggregator, write};

const EXCHANGE: &str = "up=100000 down=100000 seconds=0.5";

fn role() -> String {
    format!("tcp-client host={PEER4} port=9000 {EXCHANGE}")
}

fn server(net: &Net) -> Endpoint {
    Endpoint::start(net, &net.peer, "server", "tcp-server mode=threaded port=9000")
}

/// Lets the clients talk and waits until all these lines, and no others, have been shown.
fn expect_names(mut program: Aggregator, clients: &mut [&mut Endpoint], names: &[&str]) {
    clients.iter_mut().for_each(|client| client.begin());
    clients.iter_mut().for_each(|client| {
        client.done();
    });
    names.iter().for_each(|name| program.wait_for(name));
    program.settle();
    let lines = program.lines();
    let is_known = |shown: &str| names.iter().any(|name| shown.starts_with(name));
    assert!(lines.iter().all(|line| is_known(&line.name)), "{names:?}: {lines:#?}");
    program.running.stop();
}

#[test]
fn auto_group_takes_the_programs_name_and_sections_win() {
    let Some(net) = Net::new() else { return };
    let _server = server(&net);
    write(&net.dir, "applications.cfg", "[Known]\na=workload\\.py known\n");
    let mut clients =
        ["known", "one", "two"].map(|name| Endpoint::start(&net, &net.watched, name, &role()));
    let mut clients: Vec<_> = clients.iter_mut().collect();
    let args = ["--app-config", "applications.cfg", "--auto-group"];
    let program = Aggregator::watching(&net, &args);
    expect_names(program, &mut clients, &["Known", "python3"]);
    let program = Aggregator::watching(&net, &["--app-config", "applications.cfg"]);
    let [one, two] = ["one", "two"].map(|name| format!("/usr/bin/python3 workload.py {name} "));
    expect_names(program, &mut clients, &["Known", &one, &two]);
}

#[test]
fn users_are_called_by_their_names() {
    let Some(net) = Net::new() else { return };
    let _server = server(&net);
    let mut roots = Endpoint::start(&net, &net.watched, "roots", &role());
    let mut nobodys = Endpoint::start_as(&net, &net.watched, NOBODY, "nobodys", &role());
    let program = Aggregator::watching(&net, &["--group-by", "user", "--auto-group"]);
    expect_names(program, &mut [&mut roots, &mut nobodys], &["root", "nobody"]);
}

#[test]
fn programs_are_told_by_their_paths() {
    let Some(net) = Net::new() else { return };
    let _server = server(&net);
    let mut client = Endpoint::start(&net, &net.watched, "client", &role());
    let path = fs::canonicalize("/usr/bin/python3").unwrap();
    let program = Aggregator::watching(&net, &["--group-by", "exe"]);
    expect_names(program, &mut [&mut client], &[path.to_str().unwrap()]);
}

/// A cgroup below another one of its own. Removed when dropped, after all that is in it.
struct Cgroup {
    parent: PathBuf,
    path: PathBuf,
}

impl Cgroup {
    fn new(name: &str) -> Option<Cgroup> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let Some(mount) = fields.into_iter().find(|fields| fields[2] == "cgroup2") else {
            skip("no cgroup2 is mounted");
            return None;
        };
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let parent = format!("bwmon-it-{}-{number}", std::process::id());
        let parent = Path::new(mount[1]).join(parent);
        let path = parent.join(name);
        if let Err(error) = fs::create_dir_all(&path) {
            skip(&format!("no cgroup can be made at {}: {error}", path.display()));
            return None;
        }
        Some(Cgroup { parent, path })
    }

    fn take(&self, workload: &Endpoint) {
        fs::write(self.path.join("cgroup.procs"), workload.pid().to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel may take a moment to see that it is empty. Nothing here may panic.
        until(Duration::from_secs(2), || fs::remove_dir(&self.path).is_ok());
        for above in self.path.ancestors().skip(1).take_while(|path| path.starts_with(&self.parent))
        {
            let _ = fs::remove_dir(above);
        }
    }
}

#[test]
fn containers_and_units_are_told_by_cgroups() {
    let Some(net) = Net::new() else { return };
    let id = "0123456789abcdef".repeat(4);
    let scope = format!("docker-{id}.scope");
    let Some(cgroup) = Cgroup::new(&scope) else { return };
    let _server = server(&net);
    let mut contained = Endpoint::start(&net, &net.watched, "contained", &role());
    let mut free = Endpoint::start(&net, &net.watched, "free", &role());
    cgroup.take(&contained);
    for (by, name) in [("container", &id[..12]), ("unit", &scope)] {
        let program = Aggregator::watching(&net, &["--group-by", by, "--auto-group"]);
        // A unit's name is longer than a line has room for.
        let shown = if name.len() > 60 { format!("{}...", &name[..57]) } else { name.to_owned() };
        expect_names(program, &mut [&mut contained], &[&shown]);
        if by == "container" {
            let program = Aggregator::watching(&net, &["--group-by", by, "--auto-group"]);
            expect_names(program, &mut [&mut contained, &mut free], &[name, "python3"]);
        }
    }
}

/// The service manager of a user can make cgroups of any name below its own.
#[test]
fn what_a_user_has_made_stands_on_no_line_of_the_systems() {
    let Some(net) = Net::new() else { return };
    let _server = server(&net);
    let mut client = Endpoint::start_as(&net, &net.watched, NOBODY, "client", &role());
    let id = "ab".repeat(32);
    for (by, made, name) in [
        ("unit", "ssh.service", "user@65534/ssh.service"),
        ("container", &format!("docker-{id}.scope"), "user@65534/abababababab"),
    ] {
        let manager = "user.slice/user-65534.slice/user@65534.service";
        let Some(cgroup) = Cgroup::new(&format!("{manager}/{made}")) else { return };
        let outside = fs::read_to_string(format!("/proc/{}/cgroup", client.pid())).unwrap();
        cgroup.take(&client);
        let program = Aggregator::watching(&net, &["--group-by", by]);
        expect_names(program, &mut [&mut client], &[name]);
        // Out of it, so that it can be removed.
        let path = outside.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
        let mount = cgroup.parent.parent().unwrap();
        let procs = mount.join(path.trim_start_matches('/')).join("cgroup.procs");
        fs::write(procs, client.pid().to_string()).unwrap();
    }
}
