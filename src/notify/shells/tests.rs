//! Tables of commands.

use super::*;
use crate::notify::words::split;

fn judged(text: &str) -> Result<(), String> {
    check(&split(text).unwrap())
}

#[test]
fn words_that_are_read_as_program_text() {
    for (text, reader) in [
        ("sh -c 'echo {app} >> log'", "sh"),
        ("/bin/sh -c \"echo '{app}'\"", "/bin/sh"),
        ("sh -c {app}", "sh"),
        ("sh {app}", "sh"),
        ("bash -lc 'x {value}'", "bash"),
        ("bash -c -e 'x {app}'", "bash"),
        ("bash -c -- 'x {app}'", "bash"),
        ("bash - {app}", "bash"),
        ("bash -o pipefail -c 'x {app}'", "bash"),
        ("bash -eo pipefail -c 'x {app}'", "bash"),
        ("bash +O extglob -c 'x {app}'", "bash"),
        ("bash --norc -c 'x {app}'", "bash"),
        ("bash --rcfile f -c 'x {app}'", "bash"),
        ("bash --rcfile {app}", "bash"),
        ("bash --init-file={app}", "bash"),
        ("zsh --emulate ksh -c 'x {app}'", "zsh"),
        ("bash-5.2 -c 'x {app}'", "bash-5.2"),
        ("ksh93 -c 'x {app}'", "ksh93"),
        ("busybox sh -c 'x {app}'", "sh"),
        ("env A=b /usr/bin/env sh -c 'x {app}'", "sh"),
        ("sudo -u nobody nice -n 5 timeout 5 sh -ec 'x {app}'", "sh"),
        ("find / -name x -exec sh -c 'x {app}' ;", "sh"),
        ("env -S 'sh -c \"x {app}\"'", "env"),
        ("env -iS 'sh -c \"x {app}\"'", "env"),
        ("env '--split-string=sh -c {app}'", "env"),
        ("env '--split=sh -c \"x {app}\"'", "env"),
        ("env --s 'sh -c \"x {app}\"'", "env"),
        ("env -i --split-st 'x {app}'", "env"),
        ("sh -c '\"$@\"' sh bash -c 'x {app}'", "bash"),
        ("sh -c '\"$@\"' sh timeout 5 sh -c 'x {app}'", "sh"),
        ("su -c 'x {app}' nobody", "su"),
        ("su nobody -s /bin/sh -c 'x {app}'", "su"),
        ("ssh host logger {app}", "ssh"),
        ("flock lock -c 'x {app}'", "-c"),
        // A shell by a name that is not known.
        ("/opt/my-shell -c 'x {app}'", "-c"),
        ("/opt/my-shell -ec 'x {app}'", "-ec"),
        ("/opt/my-shell -ce 'x {app}'", "-ce"),
        ("/opt/my-shell -exuc 'x {app}'", "-exuc"),
        ("/opt/my-shell -cx 'x {app}'", "-cx"),
        // A launcher that is not known.
        ("chroot / sh -c 'x {app}'", "sh"),
        ("flock lock ssh host logger {app}", "ssh"),
        ("setpriv --no-new-privs ssh host {app}", "ssh"),
        ("some-wrapper logger ssh {app}", "ssh"),
        ("sudo -u nobody ssh host logger {app}", "ssh"),
        ("some-wrapper --command 'x {app}'", "--command"),
        ("some-wrapper '--command=x {app}'", "--command"),
        ("python3.11 -c 'print(\"{app}\")'", "python3.11"),
        ("perl -we 'print \"{app}\"' {app}", "perl"),
        ("python3 {app}", "python3"),
        ("python3 -u x.py {app}", "python3"),
        ("awk 'BEGIN { print \"{app}\" }'", "awk"),
        ("gawk -v a=b f {app}", "gawk"),
        ("sqlite3 db \"insert into alerts values ('{app}')\"", "sqlite3"),
        ("make -C /srv/alerts APP={app}", "make"),
        ("socat - 'SYSTEM:echo {app}'", "socat"),
        // By other names.
        (
            "/usr/bin/perl5.36-x86_64-linux-gnu -e 'print q({app})'",
            "/usr/bin/perl5.36-x86_64-linux-gnu",
        ),
        ("bash-static -c 'x {app}'", "bash-static"),
        ("zsh5-static {app}", "zsh5-static"),
        ("sh.distrib {app}", "sh.distrib"),
        ("pypy3-c {app}", "pypy3-c"),
        // What starts a program.
        ("nice {app}", "nice"),
        ("nice -n 5 {app}", "nice"),
        ("env {app}", "env"),
        ("env -u A B=c {app}", "env"),
        ("timeout 9 {app}", "timeout"),
        ("timeout -s KILL -k 5 9 {app}", "timeout"),
        ("sudo {app}", "sudo"),
        ("sudo -u nobody {app}", "sudo"),
        ("nohup {app}", "nohup"),
        ("setsid {app}", "setsid"),
        ("stdbuf -oL {app}", "stdbuf"),
        ("xargs {app}", "xargs"),
        ("exec {app}", "exec"),
        ("sudo nice {app}", "nice"),
        // On other hosts.
        ("pdsh -w host logger {app}", "pdsh"),
        ("dsh -m host -- logger {app}", "dsh"),
        ("clush -w host logger {app}", "clush"),
        ("pssh -H host logger {app}", "pssh"),
        ("parallel-ssh -H host logger {app}", "parallel-ssh"),
        ("autossh host logger {app}", "autossh"),
        ("dbclient host logger {app}", "dbclient"),
        ("plink host logger {app}", "plink"),
        ("ansible all -m shell -a 'echo {app}'", "ansible"),
        ("salt host cmd.run 'echo {app}'", "salt"),
        // Texts for a shell.
        ("sem 'echo {app}'", "sem"),
        ("pee 'echo {app}'", "pee"),
        ("hyperfine 'echo {app}'", "hyperfine"),
        ("mispipe 'echo {app}' cat", "mispipe"),
        ("xterm -e 'echo {app}'", "xterm"),
        ("ncat --sh-exec 'echo {app}' host 1", "ncat"),
        ("entr -s 'echo {app}'", "entr"),
        ("rsync -e 'echo {app}' a b", "rsync"),
        ("tar xf a.tar '--to-command=echo {app}'", "tar"),
        ("tar cf x y --checkpoint=1 --checkpoint-action=exec='logger {app}'", "tar"),
        ("tcpdump -z {app} -G 1 -w x", "tcpdump"),
        ("at now -f {app}", "at"),
        ("crontab {app}", "crontab"),
        // Interpreters.
        ("bun -e 'console.log(\"{app}\")'", "bun"),
        ("elixir -e 'IO.puts(\"{app}\")'", "elixir"),
        ("erl -noshell -eval 'io:format(\"{app}\").'", "erl"),
        ("R -e 'cat(\"{app}\")'", "R"),
        ("octave --eval 'disp(\"{app}\")'", "octave"),
        ("sbcl --eval '(print \"{app}\")'", "sbcl"),
        ("groovy -e 'println \"{app}\"'", "groovy"),
        ("scala -e 'println(\"{app}\")'", "scala"),
        ("ghc -e 'putStrLn \"{app}\"'", "ghc"),
        ("emacsclient --eval '(message \"{app}\")'", "emacsclient"),
        ("nvim +'echo \"{app}\"'", "nvim"),
        ("festival --batch '(SayText \"{app}\")'", "festival"),
        ("osascript -e 'display notification \"{app}\"'", "osascript"),
        ("jshell {app}", "jshell"),
        ("mongo --eval 'print(\"{app}\")'", "mongo"),
        ("sqlcmd -Q 'print \"{app}\"'", "sqlcmd"),
        ("clickhouse-client -q 'insert into a values (\"{app}\")'", "clickhouse-client"),
    ] {
        let error = judged(text).expect_err(text);
        assert!(error.starts_with(&format!("'{reader}' would run ")), "{text}: {error}");
    }
}

#[test]
fn the_message_has_what_works_there() {
    let would_run = "would run what an application puts into its name; expected";
    assert_eq!(
        judged("sh -c 'x {rule} {app}'").unwrap_err(),
        format!("'sh' {would_run} \"$BWMON_RULE\" in place of {{rule}}")
    );
    for (text, reader) in [
        ("python3 -c 'print(\"{app}\")'", "python3"),
        ("awk 'BEGIN { print \"{app}\" }'", "awk"),
        ("nice {app}", "nice"),
        ("my-wrapper -c {app}", "-c"),
    ] {
        let expected = format!(
            "'{reader}' {would_run} its environment variable BWMON_APP in place of {{app}}, which a \
             shell writes as \"$BWMON_APP\""
        );
        assert_eq!(judged(text).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn words_that_are_only_arguments() {
    for text in [
        "logger -t bwmon '{app}: {value}'",
        "mail -s {app} root",
        "xmessage -center {app}",
        // The arguments of a script.
        "sh script.sh {app}",
        "sh -x script.sh fired '{app} {direction}'",
        "sh -c 'echo \"$1\" >> log' sh {app}",
        "/bin/bash -euo pipefail -c 'echo \"$1\"' sh {app} {value}",
        "bash --norc --posix -- script.sh {app}",
        "python3 /usr/local/bin/notify.py {app}",
        "sudo -u nobody env A=b perl x.pl -e {app}",
        // Nothing is replaced.
        "sh -c 'printf \"%s\\n\" \"$BWMON_APP\" >> log'",
        "sh -c 'awk \"{print $1}\"'",
        "ssh host uptime",
        // Before the shell it is another program's.
        "logger {app} sh -c x",
        "/usr/local/bin/my-wrapper {app}",
        "/usr/local/bin/ssh2sms {app}",
        "/usr/local/bin/ssh-alert {app}",
        // Arguments of what is started, and variables.
        "sudo -u nobody logger {app}",
        "nice -n 5 timeout 9 logger {app}",
        "env MSG={app} sh -c 'echo \"$MSG\"'",
        // Neutral there, if an outsider has chosen it.
        "curl -F text={app} http://example.com/",
        "curl --data-urlencode {app} http://example.com/",
        "curl -d text={app} http://example.com/",
        "mail -s alert {app}",
        "sh -c '\"$0\"' {app}",
        "sh -c 'eval \"$1\"' sh {app}",
        "notify-send -e {app}",
        // What stands behind a program that starts none is no program.
        "logger -t ssh {app}",
        "/usr/bin/logger -t awk -p user.notice {app}",
        "sudo -u nobody nice -n 5 logger -t ssh {app}",
        "env A=b logger -t sh -- {app}",
        "notify-send -c ssh {app}",
        "notify-send make {app}",
        "curl -c cookies -F text={app} http://example.com/",
        // No options of a shell.
        "notify -icon {app}",
        "notify -class {app}",
        "notify -topic {app}",
        "notify -desc {app}",
        "env notify --subject {app}",
        "env notify --split-lines {app}",
    ] {
        assert_eq!(judged(text), Ok(()), "{text}");
    }
}
