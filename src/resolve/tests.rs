use std::sync::mpsc;

use super::*;
use crate::until::until;

fn address(number: u32) -> IpAddr {
    IpAddr::V4((0x0a00_0000 + number).into())
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Asks for an address, and takes it from the queue.
fn ask(state: &mut State, of: IpAddr, now: Instant) -> Next {
    state.started.clear();
    state.name(of, now);
    state.next(now)
}

#[test]
fn an_answer_is_kept_for_its_time() {
    for (answer, time) in [(Some("a.example"), 600), (None, 60)] {
        let mut state = State::default();
        let (of, begin) = (address(1), Instant::now());
        let answer: Option<Arc<str>> = answer.map(Arc::from);
        assert_eq!(state.next(begin), Next::Idle);
        assert_eq!(state.name(of, begin), None);
        assert_eq!(state.next(begin), Next::Ask(of));
        assert_eq!(state.name(of, begin), None);
        let answered = begin + seconds(5);
        state.answered(of, answer.clone(), answered);
        let last = answered + seconds(time) - Duration::from_nanos(1);
        assert_eq!(state.name(of, last), answer);
        assert_eq!(state.next(last), Next::Idle);
        // The name stays until there is another answer.
        let due = answered + seconds(time);
        assert_eq!(state.name(of, due), answer);
        assert_eq!(state.next(due), Next::Ask(of));
        assert_eq!(state.name(of, due), answer);
        state.answered(of, Some("b.example".into()), due);
        assert_eq!(state.name(of, due).as_deref(), Some("b.example"));
        assert_eq!(state.next(due), Next::Idle);
    }
}

#[test]
fn an_address_waits_once() {
    let mut state = State::default();
    let now = Instant::now();
    for _ in 0..3 {
        state.name(address(1), now);
        state.name("::ffff:10.0.0.1".parse().unwrap(), now);
    }
    assert_eq!(state.next(now), Next::Ask(address(1)));
    // While it is looked up, too.
    state.name(address(1), now);
    assert_eq!(state.next(now), Next::Idle);
}

#[test]
fn what_waits_is_bounded() {
    let mut state = State::default();
    let now = Instant::now();
    let most = u32::try_from(WAITING).unwrap();
    for number in 0..most + 9 {
        state.name(address(number), now);
    }
    assert_eq!((state.waiting.len(), state.asked.len()), (WAITING, WAITING));
    // One that had no room is queued when there is some.
    assert_eq!(state.next(now), Next::Ask(address(0)));
    state.name(address(most), now);
    state.name(address(most + 1), now);
    assert_eq!((state.waiting.len(), state.waiting.back()), (WAITING, Some(&address(most))));
}

#[test]
fn of_too_many_answers_the_oldest_are_forgotten() {
    let mut state = State::default();
    let now = Instant::now();
    let most = u32::try_from(KEPT).unwrap();
    for number in 0..most {
        assert_eq!(ask(&mut state, address(number), now), Next::Ask(address(number)));
        state.answered(address(number), Some("old".into()), now);
    }
    // The second one has a new answer, so it is the newest.
    let later = now + FRESH;
    for number in [1, most, most + 1] {
        assert_eq!(ask(&mut state, address(number), later), Next::Ask(address(number)));
        state.answered(address(number), Some("new".into()), later);
        assert_eq!(state.answers.len(), KEPT);
    }
    let has = |number| state.answers.contains_key(&address(number));
    assert_eq!([0, 1, 2, 3, most].map(has), [false, true, false, true, true]);
    assert!(state.asked.is_empty());
}

#[test]
fn few_look_ups_start_in_a_second() {
    let mut state = State::default();
    let begin = Instant::now();
    let rate = u32::try_from(RATE).unwrap();
    for number in 0..2 * rate + 1 {
        state.name(address(number), begin);
    }
    // Twenty within the first half of a second.
    let at = |number: u32| begin + Duration::from_millis(25) * number;
    for number in 0..rate {
        assert_eq!(state.next(at(number)), Next::Ask(address(number)));
    }
    let half = begin + seconds(1) / 2;
    assert_eq!(state.next(half), Next::Later(seconds(1) / 2));
    // One more for each that started more than a second ago.
    assert_eq!(state.next(at(0) + seconds(1)), Next::Ask(address(rate)));
    assert_eq!(state.next(at(0) + seconds(1)), Next::Later(Duration::from_millis(25)));
    // After a pause no more than those of a second.
    let later = begin + seconds(100);
    for number in rate + 1..2 * rate + 1 {
        assert_eq!(state.next(later), Next::Ask(address(number)));
    }
    state.name(address(1000), later);
    assert_eq!(state.next(later), Next::Later(seconds(1)));
    assert_eq!(state.started.len(), RATE);
}

#[test]
fn only_hosts_are_asked_for() {
    let mut state = State::default();
    let now = Instant::now();
    for of in [
        "127.0.0.1",
        "127.8.9.10",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "::",
        "224.0.0.251",
        "ff02::fb",
        "255.255.255.255",
    ] {
        assert_eq!(state.name(of.parse().unwrap(), now), None);
        assert_eq!(state.next(now), Next::Idle, "{of}");
    }
    for of in ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fe80::1"] {
        let of = of.parse().unwrap();
        state.name(of, now);
        assert_eq!(state.next(now), Next::Ask(of));
    }
}

#[test]
fn answers_that_are_no_names() {
    let long = "a".repeat(253);
    for (answer, is_kept) in [
        ("host.example.com", true),
        ("host.example.com.x1", true),
        ("_sip-1.example", true),
        ("localhost", true),
        ("3com", true),
        (&long, true),
        (&format!("{long}a"), false),
        ("", false),
        (".", false),
        ("host.", false),
        ("198.51.100.7", false),
        ("2001:db8::1", false),
        ("7", false),
        ("a b", false),
        ("a\nb", false),
        ("a\u{1b}[2J", false),
        ("\u{202e}moc", false),
        ("h\u{f6}st.example", false),
        ("a/b", false),
        ("$(reboot)", false),
        ("<script>", false),
        ("a\\b", false),
        ("(kernel)", false),
    ] {
        assert_eq!(is_host_name(answer), is_kept, "{answer:?}");
    }
}

#[test]
fn the_thread_asks_and_checks_the_answers() {
    let looked = Arc::new(Mutex::new(Vec::new()));
    let resolver = Resolver::with({
        let looked = looked.clone();
        move |of| {
            looked.lock().unwrap().push(of);
            Some(if of == address(1) { "a.example" } else { "\u{1b}[2J" }.to_owned())
        }
    });
    let resolver = resolver.unwrap();
    assert!(looked.lock().unwrap().is_empty(), "nobody has asked yet");
    let name = until("its name", || {
        resolver.name(address(2));
        resolver.name(address(1))
    });
    assert_eq!(&*name, "a.example");
    assert_eq!(resolver.name(address(2)), None);
    // They are answered by now, and nothing is asked twice.
    assert_eq!(*looked.lock().unwrap(), [address(2), address(1)]);
    // Its thread ends with it.
    drop(resolver);
    until("the thread's end", || (Arc::strong_count(&looked) == 1).then_some(()));
}

/// The test would never end if a look-up that hangs held anything up.
#[test]
fn a_look_up_that_hangs_delays_nobody() {
    let (release, hang) = mpsc::channel::<()>();
    let (begun, begin) = mpsc::channel();
    let resolver = Resolver::with(move |of| {
        begun.send(of).unwrap();
        let _ = hang.recv();
        None
    });
    let resolver = resolver.unwrap();
    resolver.name(address(1));
    assert_eq!(begin.recv().unwrap(), address(1));
    for number in 1..1000 {
        assert_eq!(resolver.name(address(number)), None);
    }
    drop(resolver);
    assert!(begin.try_recv().is_err(), "it hangs");
    drop(release);
    // What waited is not asked for any more.
    assert!(begin.recv().is_err());
}

/// A line of `/etc/hosts` needs no name server.
#[test]
fn the_system_s_names() {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let own = words.filter(|words| words.first() == Some(&"127.0.0.1"));
    let own: Vec<&str> = own.flat_map(|words| words.into_iter().skip(1)).collect();
    if own.is_empty() {
        eprintln!("SKIPPED: /etc/hosts has no name for 127.0.0.1");
        return;
    }
    let name = look_up("127.0.0.1".parse().unwrap());
    assert!(name.as_deref().is_some_and(|name| own.contains(&name)), "{name:?} of {own:?}");
    // It has a name, and a resolver does not ask for it.
    let resolver = Resolver::new().unwrap();
    resolver.name("127.0.0.1".parse().unwrap());
    assert!(resolver.shared.state().asked.is_empty());
}
