//! Network namespaces that come and go while the program watches all of them.

use testbed::netns::{Namespace, Net};
use testbed::running::Running;

use crate::RUNMONITOR;

/// Whether a link is there.
fn has_link(namespace: &Namespace, link: &str) -> bool {
    namespace.run("ip -o link").contains(&format!(" {link}@"))
}

/// A watcher's sockets keep a namespace alive, and with it its end of every link: whoever makes the
/// same container again would be told that the link is there.
#[test]
fn a_namespace_is_let_go_when_nobody_is_in_it() {
    let Some(net) = Net::alone() else { return };
    let args = ["--source", "conntrack", "--interval", "30"];
    let mut running = Running::start(RUNMONITOR.anywhere(&net.watched, &args));
    running.refreshes(1);
    for round in 0..2 {
        let container = Namespace::new(format!("{}-container", net.watched.name));
        let (ours, theirs) = (&net.watched.name, &container.name);
        let words = format!("ip link add box netns {ours} type veth peer name eth0 netns {theirs}");
        let mut words = words.split(' ');
        let mut link = std::process::Command::new(words.next().unwrap());
        assert!(link.args(words).status().unwrap().success(), "round {round}");
        container.run("sleep 0.3");
        drop(container);
        running.eventually("the end of the link, and so of the namespace", || {
            !has_link(&net.watched, "box")
        });
    }
    running.stop();
}

#[test]
fn check_tells_of_other_namespaces() {
    let Some(net) = Net::alone() else { return };
    let finished = Running::start(RUNMONITOR.anywhere(&net.watched, &["--check"])).finish();
    finished.expect_status(0);
    let text = String::from_utf8_lossy(&finished.stdout);
    finished.expect("beginnings", text.contains("beginnings: works"), true);
    finished.expect("namespaces", text.contains("namespaces: works"), true);
}
