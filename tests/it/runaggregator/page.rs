//! The page that it serves.

use std::io::{Read, Write};
use std::net::TcpStream;

use testbed::ports::free_port;
use testbed::streams::{LOCAL, connect, exchange, finish, listens};
use testbed::wait::eventually;

use super::Piped;

/// What is answered to a request for the page under this name of the host.
fn get(port: u16, host: &str) -> String {
    let mut stream: TcpStream = connect((LOCAL, port).into());
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_page_shows_the_applications_until_the_end() {
    let page = free_port();
    let options = ["--interval", "0.2", "--serve", &page.to_string()];
    let mut piped = Piped::with("", "[Upload & <more>]\na=^pipe-\n", "", &options);
    let line = format!("runaggregator: the page is at http://127.0.0.1:{page}/\n");
    piped.aggregator.said(&line, 1);
    let answer = get(page, "localhost");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("Nothing was received or sent."), "{answer}");
    let (client, remote) = piped.connect();
    exchange(&client, &remote);
    let name = "Upload &amp; &lt;more&gt;";
    eventually("the application is on the page", || get(page, "localhost").contains(name));
    let answer = get(page, "evil.example");
    assert!(answer.starts_with("HTTP/1.1 421 ") && !answer.contains("Upload"), "{answer}");
    assert!(!listens_elsewhere(&piped, page), "it is on loopback only");
    // At the end it is gone, while connections of pipes are waited for.
    piped.aggregator.running.signal(rustix::process::Signal::INT);
    piped.aggregator.said("Please wait...", 1);
    eventually("the page is gone", || !listens(piped.aggregator.running.pid(), page));
    finish(client, remote);
    piped.aggregator.running.finish().expect_status(0);
}

/// Whether the port can be reached beyond 127.0.0.1: the rest of the block is this host's as well.
fn listens_elsewhere(piped: &Piped, port: u16) -> bool {
    assert!(listens(piped.aggregator.running.pid(), port));
    TcpStream::connect(("127.0.0.2", port)).is_ok()
}
