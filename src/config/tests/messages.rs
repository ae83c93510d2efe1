//! Every message about a configuration file.

use proptest::prelude::*;

use super::*;

/// The errors of a file, or nothing.
fn wrong<T>(
    parse: fn(&Path, &[u8]) -> Result<T, Vec<ConfigError>>,
    text: &[u8],
) -> Vec<ConfigError> {
    parse(Path::new("f"), text).err().unwrap_or_default()
}

#[test]
fn errors_of_a_monitor_file() {
    let cases: &[(&[u8], &[&str])] = &[
        (b"", &[]),
        (
            b"type=monitor\n[a]\ntype=monitor\n",
            &["f:1: 'type=monitor' stands before the first section; expected a line such as \
               [Name] above it"],
        ),
        (
            b"[a]\n",
            &["f:1: [a] type: is missing; expected monitor or pipe; add a line such as \
               type=monitor"],
        ),
        (
            b"\n[a]\ntype=\n",
            &["f:3: [a] type: is missing; expected monitor or pipe; add a line such as \
               type=monitor"],
        ),
        (
            b"[default]\nport=1\n[Defualt]\n",
            &[
                "f:1: [default] type: is missing; expected monitor or pipe; did you mean \
                 [DEFAULT]?",
                "f:3: [Defualt] type: is missing; expected monitor or pipe; did you mean \
                 [DEFAULT]?",
            ],
        ),
        (
            b"[a]\ntype=pip\n",
            &["f:2: [a] type: bad value 'pip'; expected monitor or pipe; did you mean pipe?"],
        ),
        (
            b"[a]\ntype=Moniter\n",
            &["f:2: [a] type: bad value 'Moniter'; expected monitor or pipe; did you mean \
               monitor?"],
        ),
        (b"[a]\ntype=x\n", &["f:2: [a] type: bad value 'x'; expected monitor or pipe"]),
        (
            b"[a]\ntype=monitor\nincludes=x\nzzz=1\nport=2\nprocess_filter=x\n",
            &[
                "f:3: [a] includes: unknown key; did you mean include?",
                "f:4: [a] zzz: unknown key; expected one of type, include, exclude, ignorelocal, \
                 source",
                "f:5: [a] port: unknown key; `port` is a key of pipes; did you mean type=pipe?",
                "f:6: [a] process_filter: unknown key; `process_filter` belongs into the file of \
                 --notification-config",
            ],
        ),
        (
            b"[a]\ntype=monitor\ninclude=(\nexclude=a(?!b)\nignorelocal=maybe\nsource=proc\n",
            &[
                "f:3: [a] include: bad regular expression '(': unclosed group",
                "f:4: [a] exclude: bad regular expression 'a(?!b)': look-around such as (?=...), \
                 (?!...) or (?<!...) is not supported by this regular expression engine; leave \
                 it out and use an exclude pattern for what must not match",
                "f:5: [a] ignorelocal: bad value 'maybe'; expected true or false",
                "f:6: [a] source: bad value 'proc'; expected ebpf, conntrack, sockets or auto",
            ],
        ),
        (
            b"[a]\ntype=pipe\n",
            &[
                "f:1: [a] newhost: is missing; expected the name or the IP address of a host, \
                 without a port, such as host.example.com; add a line such as \
                 newhost=host.example.com",
                "f:1: [a] port: is missing; expected a port from 1 to 65535, such as 2222; add a \
                 line such as port=2222",
            ],
        ),
        (
            b"[a]\ntype=pipe\nport=0\nnewhost=a b\nnewport=x\nshape_threshold=-1\nbind=eth0\n\
              connect_timeout=0\nidle_timeout=5s\nmax_connections=0\nsend_proxy=2\n",
            &[
                "f:3: [a] port: bad value '0'; expected a port from 1 to 65535, such as 2222",
                "f:4: [a] newhost: bad value 'a b'; expected the name or the IP address of a host, \
                 without a port, such as host.example.com",
                "f:5: [a] newport: bad value 'x'; expected a port from 1 to 65535, such as 2222",
                "f:6: [a] shape_threshold: bad value '-1'; expected KiB/s from 0 to 1e9, such as \
                 100",
                "f:7: [a] bind: bad value 'eth0'; expected an IP address of this host, such as \
                 127.0.0.1",
                "f:8: [a] connect_timeout: bad value '0'; expected seconds from 0.01 to 86400, \
                 such as 0.5",
                "f:9: [a] idle_timeout: bad value '5s'; expected seconds from 0.01 to 86400, such \
                 as 0.5",
                "f:10: [a] max_connections: bad value '0'; expected a number from 1 on, such as 100",
                "f:11: [a] send_proxy: bad value '2'; expected true or false",
            ],
        ),
        (
            b"[a]\ntype=pipe\nport=1\nnewhost=h:22\n",
            &[
                "f:4: [a] newhost: bad value 'h:22'; expected the name or the IP address of a host, \
               without a port, such as host.example.com",
            ],
        ),
        (
            b"[a]\ntype=pipe\nport=1\nnewhost=\xff\n",
            &[r"f:4: [a] newhost: the value '\xff' is not UTF-8; expected plain text"],
        ),
        // Two pipes at one place.
        (
            b"[a]\ntype=pipe\nport=1\nnewhost=h\nbind=::1\n[b]\ntype=pipe\nnewhost=h\nport=1\n\
              [c]\ntype=pipe\nnewhost=h\nport=1\nbind=::2\n",
            &[
                "f:9: [b] port: port 1 is that of [a] in line 1 too; expected another port, or a \
                 bind address of its own for each",
                "f:13: [c] port: port 1 is that of [b] in line 6 too; expected another port, or \
                 a bind address of its own for each",
            ],
        ),
        // What stands in [DEFAULT] is said once, and where it stands; unused it is no matter.
        (
            b"[DEFAULT]\nport=x\nbind=x\nzz=1\n[a]\ntype=pipe\nnewhost=h\nbind=\n[b]\ntype=pipe\n\
              newhost=h\nbind=\n[c]\ntype=monitor\n",
            &[
                "f:2: [DEFAULT] port: bad value 'x'; expected a port from 1 to 65535, such as 2222",
                "f:4: [DEFAULT] zz: unknown key; expected one of type, include, exclude, \
                 ignorelocal, source, port, newhost, newport, shape_threshold, bind, \
                 connect_timeout, idle_timeout, max_connections, send_proxy",
            ],
        ),
        // A line that can't be read: nothing that it may have said is called missing.
        (
            b"[a]\ntype=pipe\nport 22\nnewport=0\n",
            &[
                "f:3: [a]: 'port 22' is neither a section nor a key with a value; expected [Name] \
                 or key=value",
                "f:4: [a] newport: bad value '0'; expected a port from 1 to 65535, such as 2222",
            ],
        ),
        // Nothing of a file reaches a terminal as it is.
        (
            b"[\x1b]\ntype=\x1b[2J\n",
            &[r"f:2: [\x1b] type: bad value '\x1b[2J'; expected monitor or pipe"],
        ),
    ];
    for (text, expected) in cases {
        let errors = wrong(parse_monitors, text);
        assert_eq!(lines(&errors), *expected, "{}", text.escape_ascii());
    }
}

#[test]
fn errors_of_the_other_files() {
    let cases: &[(&[u8], &[&str])] = &[
        (
            b"[a]\n[default]\n",
            &[
                "f:1: [a] process_filter: is missing; expected a regular expression, such as \
                 ssh|rsync; add a line such as process_filter=ssh|rsync",
                "f:2: [default] process_filter: is missing; expected a regular expression, such \
                 as ssh|rsync; did you mean [DEFAULT]?",
            ],
        ),
        (
            b"[a]\nprocess_filter=x\nin_treshold=5\ntype=monitor\n",
            &[
                "f:3: [a] in_treshold: unknown key; did you mean in_threshold?",
                "f:4: [a] type: unknown key; `type` belongs into the file of --monitor-config",
            ],
        ),
        (
            b"[a]\nprocess_filter=*\nnotification_threshold=x\nin_threshold=-1\n\
              out_threshold=inf\ninterval=0\nfor=-1\nrepeat_interval=x\nresolve_threshold=2\n\
              command_timeout=0\n",
            &[
                "f:2: [a] process_filter: bad regular expression '*': repetition operator missing \
                 expression",
                "f:3: [a] notification_threshold: bad value 'x'; expected KiB/s from 0 up, \
                 such as 100",
                "f:4: [a] in_threshold: bad value '-1'; expected KiB/s from 0 up, \
                 such as 100",
                "f:5: [a] out_threshold: bad value 'inf'; expected KiB/s from 0 up, \
                 such as 100",
                "f:6: [a] interval: bad value '0'; expected seconds, more than 0 and at most \
                 86400, such as 5",
                "f:7: [a] for: bad value '-1'; expected seconds from 0 to 86400, such as 0.5",
                "f:8: [a] repeat_interval: bad value 'x'; expected seconds from 0 to 86400, such \
                 as 0.5",
                "f:9: [a] resolve_threshold: bad value '2'; expected a number from 0 to 1, such \
                 as 0.8",
                "f:10: [a] command_timeout: bad value '0'; expected seconds from 0.01 to 86400, \
                 such as 0.5",
            ],
        ),
        (
            b"[a]\nprocess_filter=x\nnotification_command=sh -c 'a ; b'\nresolved_command={app} x\n",
            &[
                "f:3: [a] notification_command: bad value 'sh -c 'a'; a quotation that begins with \
                 ' is never closed",
                "f:4: [a] resolved_command: bad value '{app} x'; {app} in the program's name: nobody \
                 but this file may choose what is run",
            ],
        ),
        (
            b"[a]\nprocess_filter=x\nnotification_command=sh -c \"echo {app} >> log\"\n",
            &[
                "f:3: [a] notification_command: bad value 'sh -c \"echo {app} >> log\"'; 'sh' would run \
                 what an application puts into its name; expected \"$BWMON_APP\" in place of {app}",
            ],
        ),
        (
            b"[a]\nprocess_filter=%(x)s\ninterval=%(interval)s\nnotification_command=date +%(\n",
            &[
                "f:2: [a] process_filter: %(x)s names a key that neither this section nor \
                 [DEFAULT] has; expected one of theirs, or %% for a percent sign",
                "f:3: [a] interval: %(interval)s refers to further keys too deep, or in a circle; \
                 expected at most 10 steps",
                "f:4: [a] notification_command: '%(' begins no reference; expected %(key)s, or \
                 %% for a percent sign",
            ],
        ),
    ];
    for (text, expected) in cases {
        let errors = wrong(parse_notifications, text);
        assert_eq!(lines(&errors), *expected, "{}", text.escape_ascii());
    }

    let errors = wrong(parse_applications, b"[a]\nx=(\ny=ok\nz\n[b]\ny=%(q)s\n");
    let expected = [
        "f:2: [a] x: bad regular expression '(': unclosed group",
        "f:4: [a]: 'z' is neither a section nor a key with a value; expected [Name] or key=value",
        "f:6: [b] y: %(q)s names a key that neither this section nor [DEFAULT] has; expected one \
         of theirs, or %% for a percent sign",
    ];
    assert_eq!(lines(&errors), expected);
}

#[test]
fn files_that_can_not_be_read() {
    let files = Files {
        monitors: Some("/nonexistent/\x1b".into()),
        applications: Some("/".into()),
        notifications: Some("/dev/zero".into()),
    };
    let errors = lines(&load(&files).unwrap_err());
    let endless = match rustix::process::geteuid().is_root() {
        true => "/dev/zero: is a device; expected a file, a pipe, or /dev/null",
        false => "/dev/zero: is too big; expected a configuration file of at most 16 MiB",
    };
    assert_eq!(
        errors,
        [
            r"/nonexistent/\x1b: can't be read: No such file or directory (os error 2)",
            "/: can't be read: Is a directory (os error 21)",
            endless,
        ]
    );
}

proptest! {
    #[test]
    fn no_file_panics_and_no_message_has_control_characters(
        lines in prop::collection::vec(
            prop_oneof![
                Just("[a\x1b]".to_owned()),
                Just("[DEFAULT]".to_owned()),
                Just("type=pipe".to_owned()),
                Just("type=monitor".to_owned()),
                "(in_threshold|port|include|interval|x\x07|newhost|process_filter)=[ -~\t\u{1b}]{0,6}",
                any::<String>(),
            ],
            0..12,
        )
    ) {
        let text = lines.join("\n");
        let text = text.as_bytes();
        let errors = [
            wrong(parse_monitors, text),
            wrong(parse_applications, text),
            wrong(parse_notifications, text),
        ];
        for error in errors.concat() {
            prop_assert!(!error.to_string().contains(char::is_control), "{:?}", error);
        }
    }
}
