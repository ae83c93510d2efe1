//! As a user without any privilege.

use testbed::endpoint::Endpoint;
use testbed::netns::{Net, PEER4};
use testbed::program::NOBODY;

use super::Aggregator;
use crate::RUNAGGREGATOR;

/// Whoever may not see others' processes is told of that once, and sees the own ones.
#[test]
fn nobody_sees_own_processes_and_is_told_what_is_missing() {
    let Some(net) = Net::new() else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 up=100000 down=100000");
    let mut own = Endpoint::start_as(&net, &net.watched, NOBODY, "own", &role);
    let mut others = Endpoint::start(&net, &net.watched, "others", &role);
    // Something that conntrack has counted: else it is not even asked.
    own.go();
    for source in ["sockets", "auto"] {
        let args = ["--source", source, "--interval", "0.4", "--unattributed"];
        // It watches only its own namespace: other tests' would be told of.
        let command = RUNAGGREGATOR.with_setpriv(&net, NOBODY, &args);
        let mut program = Aggregator::start(command);
        program.wait("the first refresh", |refreshes| !refreshes.is_empty());
        own.go();
        others.go();
        program.wait_for("/usr/bin/python3 workload.py own ");
        program.wait_for("(no permission)");
        program.settle();
        let has_others = program.lines().iter().any(|line| line.name.contains("others"));
        program.running.expect("others' processes have names", has_others, false);
        let finished = program.running.stop();
        let lines: Vec<&str> =
            finished.stderr.lines().filter(|line| *line != "Please wait...").collect();
        finished.expect("lines", lines.len(), 1);
        let (begin, end) = match source {
            "sockets" => ("runaggregator: the descriptors of ", "; to mend it: run it as root"),
            _ => (
                "runaggregator: not root: it sees the TCP payload of your own processes, and not what ",
                " others send and receive (source sockets); to see all: sudo runaggregator",
            ),
        };
        finished.expect(begin, lines[0].starts_with(begin), true);
        finished.expect(end, lines[0].ends_with(end), true);
    }
}
