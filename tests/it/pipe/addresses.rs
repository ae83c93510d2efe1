//! Both families, on both sides.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use bwmon::listen::ListenError;
use bwmon::pipe::{Config, Pipe};
use testbed::ports::free_port;
use testbed::streams::{LOCAL, Remote, connect, exchange, finish};
use testbed::wait::eventually;

use super::rig::Rig;

const LOCAL6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

#[test]
fn clients_and_remotes_of_both_families_meet() {
    for remote in [LOCAL, LOCAL6] {
        let rig = Rig::before(Remote::at((remote, 0).into()), |_| {});
        for client in [LOCAL, LOCAL6] {
            let client = connect((client, rig.pipe.address().port()).into());
            let from = client.local_addr().unwrap();
            let remote = rig.remote.accept();
            exchange(&client, &remote);
            finish(client, remote);
            rig.expect_idle();
            // Not as ::ffff:127.0.0.1, whatever the listener is.
            assert_eq!(rig.events.ended().pop().unwrap().client, from);
        }
    }
}

#[test]
fn the_system_resolves_the_name_of_the_loopback() {
    let rig = Rig::with(|config| config.host = "localhost".into());
    // The name may have an address of each family; the remote is only on IPv4.
    let (client, remote) = rig.connect();
    exchange(&client, &remote);
    finish(client, remote);
    rig.expect_counted(9, 9);
}

#[test]
fn bound_to_one_address_it_is_not_on_others() {
    let one = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    for (bound, other) in [(one, LOCAL), (LOCAL, one), (LOCAL6, LOCAL), (LOCAL, LOCAL6)] {
        let port = free_port();
        let rig = Rig::with(|config| (config.bind, config.port) = (Some(bound), port));
        let address = rig.pipe.address();
        assert_eq!(address, SocketAddr::new(bound, port));
        let client = connect(address);
        exchange(&client, &rig.remote.accept());
        let elsewhere = SocketAddr::new(other, port);
        assert!(TcpStream::connect(elsewhere).is_err(), "{elsewhere} is served too");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let rig = Rig::with(|config| config.bind = Some(LOCAL));
    let address = rig.pipe.address();
    let mut config = Config::new(address.port(), "127.0.0.1", 1);
    config.bind = Some(LOCAL);
    match Pipe::start(config) {
        Err(ListenError::Listen { address: named, error }) => {
            assert_eq!(named, address);
            assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        }
        other => panic!("{other:?}"),
    }
}

/// Without SO_REUSEADDR a pipe could not be started again while its connections are in TIME-WAIT.
#[test]
fn its_port_can_be_had_again_at_once() {
    // Not one that the kernel may give to another test's client at once.
    let port = free_port();
    let rig = Rig::with(|config| (config.bind, config.port) = (Some(LOCAL), port));
    let address = rig.pipe.address();
    let (client, remote) = rig.connect();
    exchange(&client, &remote);
    // The remote is done first, so it's the pipe that leaves the client first.
    drop(remote);
    testbed::streams::expect_end(&client);
    drop(client);
    rig.expect_idle();
    rig.pipe.stop();
    let mut config = Config::new(address.port(), "127.0.0.1", 1);
    config.bind = Some(LOCAL);
    // A child that another test starts has the listening socket, too, until it calls exec: not long.
    eventually("the port can be had", || match Pipe::start(config.clone()) {
        Ok(_) => true,
        Err(ListenError::Listen { error, .. }) if error.kind() == ErrorKind::AddrInUse => false,
        Err(error) => panic!("{error}"),
    });
}
