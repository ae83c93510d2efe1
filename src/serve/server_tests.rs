use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::process::Command;

use nix::sys::resource::{UsageWho, getrusage};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;
use crate::model::traffic::{Name, Traffic};
use crate::model::{Account, Kind, Row};
use crate::until::until;

/// Longer than anything takes on a busy host.
const LONG: Duration = Duration::from_secs(60);

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn start() -> Server {
    Server::start("127.0.0.1:0".parse().unwrap()).unwrap()
}

fn start_with(limits: Limits) -> Server {
    Server::with_limits("127.0.0.1:0".parse().unwrap(), limits).unwrap()
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

fn record(server: &Server, name: &str) {
    let name: Name = name.as_bytes().into();
    let recent = Traffic::new(2048, 1024);
    let account = Account { recent, total: Traffic::new(1, 2) };
    let row = Row { account, ..Row::of(name, Kind::Process) };
    let elapsed = Duration::from_secs(1);
    server.record(&Snapshot { elapsed, rows: vec![row], ..Snapshot::default() });
}

/// The answer to `request`, up to the end of the connection.
fn ask(server: &Server, request: &str) -> String {
    let mut stream = connect(server);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn status(answer: &str) -> &str {
    answer.strip_prefix("HTTP/1.1 ").map_or(answer, |rest| &rest[..3])
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split_once("\r\n\r\n").unwrap().0;
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Reads the head and the body of one answer.
fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
        if answer.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let length = header(&String::from_utf8_lossy(&answer), "content-length").unwrap().parse();
    let mut body = vec![0; length.unwrap()];
    stream.read_exact(&mut body).unwrap();
    answer.extend(body);
    String::from_utf8(answer).unwrap()
}

/// Waits until the server has closed the connection.
fn assert_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn the_page_is_served_over_both_protocols() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let server = match Server::start(address.parse().unwrap()) {
            Ok(server) => server,
            Err(ListenError::Listen { error, .. })
                if error.kind() == ErrorKind::AddrNotAvailable && address.starts_with('[') =>
            {
                println!("SKIPPED: this host has no ::1");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        assert_ne!(server.address().port(), 0);
        let answer = ask(&server, GET);
        assert_eq!(status(&answer), "200");
        assert!(answer.contains("Nothing was received or sent."));
        // What is recorded is there at once, whatever was asked before.
        record(&server, "curl <x>");
        let host = server.address();
        let request = format!("GET /?x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = ask(&server, &request);
        assert_eq!(status(&answer), "200");
        assert!(answer.contains("<bdi>curl &lt;x&gt;</bdi>"), "{answer}");
        assert_eq!(header(&answer, "content-type"), Some("text/html; charset=utf-8"));
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(header(&answer, "content-length"), Some(&*body.len().to_string()));
    }
}

#[test]
fn every_answer_has_the_safe_headers() {
    let server = start();
    for request in [GET, &GET.replace("/ ", "/x "), &GET.replace("localhost", "evil.example")] {
        let answer = ask(&server, request);
        let policy = header(&answer, "content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'unsafe-inline'"), "{policy}");
        assert_eq!(header(&answer, "x-content-type-options"), Some("nosniff"));
        assert_eq!(header(&answer, "cache-control"), Some("no-store"));
        assert_eq!(header(&answer, "referrer-policy"), Some("no-referrer"));
    }
}

#[test]
fn head_has_no_body_and_the_connection_is_kept() {
    let server = start();
    let mut stream = connect(&server);
    stream.write_all(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    // Nothing may stand between the answer to this and that to the next.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    assert_eq!(status(&head), "200");
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let answer = read_answer(&mut stream);
        assert_eq!(status(&answer), "200");
        assert_eq!(header(&answer, "content-length"), header(&head, "content-length"));
    }
}

#[test]
fn what_is_refused() {
    let server = start();
    assert_eq!(status(&ask(&server, &GET.replace("/ ", "/favicon.ico "))), "404");
    assert_eq!(status(&ask(&server, &GET.replace("/ ", "// "))), "404");
    let answer = ask(&server, &GET.replace("GET", "POST"));
    assert_eq!((status(&answer), header(&answer, "allow")), ("405", Some("GET, HEAD")));
    assert_eq!(status(&ask(&server, &GET.replace("GET", "DELETE"))), "405");
    assert_eq!(status(&ask(&server, &GET.replace("localhost", "evil.example:8000"))), "421");
    assert_eq!(status(&ask(&server, &GET.replace("Host: localhost\r\n", ""))), "400");
    assert_eq!(status(&ask(&server, "what is this\r\n\r\n")), "400");
    assert_eq!(status(&ask(&server, "\x16\x03\x01\0\r\n\r\n")), "400");
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(HEAD));
    let mut stream = connect(&server);
    let _ = stream.write_all(long.as_bytes());
    assert_closed(&mut stream);
    assert_eq!(status(&ask(&server, GET)), "200");
}

#[test]
fn a_body_is_not_waited_for() {
    let server = start();
    let request = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\nsome";
    let mut stream = connect(&server);
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(status(&read_answer(&mut stream)), "405");
    assert_closed(&mut stream);
}

#[test]
fn half_sent_requests_lock_out_nobody_and_end() {
    let server = start_with(Limits { head: Duration::from_secs(3), ..LIMITS });
    let mut half: Vec<TcpStream> = (0..200)
        .map(|n| {
            let mut stream = connect(&server);
            let sent: &[u8] = if n % 2 == 0 { b"GET / HTTP/1.1\r\nHos" } else { b"" };
            // The first of them may have been closed by now.
            let _ = stream.write_all(sent);
            stream
        })
        .collect();
    assert_eq!(status(&ask(&server, GET)), "200");
    for stream in &mut half {
        assert_closed(stream);
    }
    assert_eq!(status(&ask(&server, GET)), "200");
}

#[test]
fn the_oldest_makes_room() {
    let server = start_with(Limits { connections: 2, head: LONG * 10, life: LONG * 10 });
    let mut first = connect(&server);
    let mut second = connect(&server);
    let mut third = connect(&server);
    assert_closed(&mut first);
    for stream in [&mut second, &mut third] {
        stream.write_all(GET.as_bytes()).unwrap();
        assert_eq!(status(&read_answer(stream)), "200");
    }
}

#[test]
fn an_idle_connection_is_closed() {
    let server = start_with(Limits { head: Duration::from_secs(1), ..LIMITS });
    let mut stream = connect(&server);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(status(&read_answer(&mut stream)), "200");
    assert_closed(&mut stream);
}

#[test]
fn a_client_that_never_reads_holds_up_nobody_and_ends() {
    let second = Duration::from_secs(1);
    let server = start_with(Limits { head: second, life: second, ..LIMITS });
    let mut stream = connect(&server);
    record(&server, "fed");
    let asks = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    // Until the server does not take any more requests because its answers are not taken; then
    // it closes the connection.
    let mut times = 0;
    let error = loop {
        match stream.write_all(asks.as_bytes()) {
            Ok(()) => times += 1,
            Err(error) => break error,
        }
        assert!(times < 100_000, "it reads for ever");
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    assert!(ask(&server, GET).contains("<bdi>fed</bdi>"));
}

#[test]
fn dropped_it_closes_what_is_open() {
    let server = start_with(Limits { connections: 64, head: LONG * 10, life: LONG * 10 });
    let address = server.address();
    let mut idle = connect(&server);
    let mut half = connect(&server);
    half.write_all(b"GET /").unwrap();
    let mut kept = connect(&server);
    kept.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(status(&read_answer(&mut kept)), "200");
    drop(server);
    for stream in [&mut idle, &mut half, &mut kept] {
        assert_closed(stream);
    }
    // A child that another test forks may listen for a moment longer.
    let again = until("the address can be had again", || Server::start(address).ok());
    assert_eq!(again.address(), address);
}

#[test]
fn an_address_in_use_is_said() {
    let server = start();
    match Server::start(server.address()) {
        Err(error @ ListenError::Listen { address, .. }) => {
            assert_eq!(address, server.address());
            assert!(error.to_string().starts_with(&format!("{address} can't be listened on: ")));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_errors_of_one_connection_are_passed_over() {
    for (errno, one) in [
        (rustix::io::Errno::CONNABORTED, true),
        (rustix::io::Errno::INTR, true),
        (rustix::io::Errno::MFILE, false),
        (rustix::io::Errno::NFILE, false),
        (rustix::io::Errno::NOMEM, false),
    ] {
        assert_eq!(is_of_one_connection(&errno.into()), one, "{errno}");
    }
}

/// Other tests need descriptors, so this one runs in a process of its own.
#[test]
fn without_descriptors_it_waits_and_goes_on() {
    const ALONE: &str = "BWMON_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "serve::server::tests::without_descriptors_it_waits_and_goes_on";
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--test-threads=1", "--nocapture"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{output}\n{}", String::from_utf8_lossy(&run.stderr));
        assert!(output.contains("1 passed"), "{output}");
        return;
    }
    let server = start();
    let client = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let limit = getrlimit(Resource::Nofile);
    let free = File::open("/dev/null").unwrap().as_raw_fd() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(free), ..limit }).unwrap();
    rustix::net::connect(&client, &server.address()).unwrap();
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
        [usage.user_time(), usage.system_time()]
            .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
            .iter()
            .sum::<f64>()
    };
    let before = used();
    thread::sleep(Duration::from_secs(1));
    assert!(used() - before < 0.5, "it tried all the time");
    assert!(File::open("/dev/null").is_err(), "there are descriptors");
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut client = TcpStream::from(client);
    client.set_read_timeout(Some(LONG)).unwrap();
    client.write_all(GET.as_bytes()).unwrap();
    assert_eq!(status(&read_answer(&mut client)), "200");
}
