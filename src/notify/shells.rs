//! Refuses a placeholder that would become program text: in the words that a shell or another interpreter reads.
//!
//! A name from outside the configuration has no meaning there ([`neutral`](super::placeholders)), so a program
//! that is missing in this list is no security hole. But the command would not do what its author meant: `sh -c
//! 'echo {app}'` is refused when it is parsed, with a hint at what to write instead. And a name from the
//! configuration is inserted unchanged. Programs are recognised by the names of their files.

use super::placeholders::{placeholder, variable};

/// How a program reads the words that follow its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// The first word that is no option is the script or its file. The words after it are the
    /// script's arguments.
    Script,
    /// The first word is the script's file if it is no option. Options may hold program text.
    File,
    /// Any word may be program text, here or on another host.
    Anything,
    /// The first word that is no option is a program, which is started with the words after it.
    Program,
}

/// Shells whose options are those of POSIX.
#[rustfmt::skip]
const SHELLS: &[&str] = &[
    "sh", "ash", "bash", "csh", "dash", "hush", "ksh", "lksh", "mksh", "oksh", "pdksh", "posh", "rbash", "rksh",
    "rzsh", "sash", "static-sh", "tcsh", "yash", "zsh",
];

#[rustfmt::skip]
const INTERPRETERS: &[&str] = &[
    "R", "Rscript", "bun", "elixir", "elvish", "erl", "expect", "festival", "fish", "groovy", "guile", "ipython",
    "jshell", "julia", "lua", "luajit", "node", "nodejs", "nu", "octave", "osascript", "osh", "perl", "php", "pwsh",
    "pypy", "python", "ruby", "sbcl", "scala", "tclsh", "wish", "xonsh", "ysh",
];

/// Programs that take program text in their words, or hand words to a shell.
#[rustfmt::skip]
const EVALUATORS: &[&str] = &[
    "ansible", "at", "autossh", "awk", "batch", "clickhouse", "clickhouse-client", "clush", "crontab", "dbclient",
    "dc", "dsh", "ed", "emacs", "emacsclient", "entr", "eval", "ex", "gawk", "gdb", "ghc", "gmake", "gnome-terminal",
    "gnuplot", "hyperfine", "konsole", "m4", "make", "mariadb", "mawk", "mispipe", "mongo", "mongosh", "mosh", "mysql",
    "nawk", "nc", "ncat", "nvim", "original-awk", "parallel", "parallel-ssh", "pdsh", "pee", "plink", "psh", "psql",
    "pssh", "rsh", "rsync", "runuser", "salt", "screen", "script", "sed", "sem", "sg", "slogin", "socat", "sqlcmd",
    "sqlite", "ssh", "su", "tar", "tcpdump", "tmux", "urxvt", "vi", "vim", "watch", "xterm",
];

/// Programs that start another one.
#[rustfmt::skip]
const LAUNCHERS: &[&str] = &[
    "busybox", "command", "doas", "env", "exec", "ionice", "nice", "nohup", "pkexec", "setsid", "stdbuf", "strace",
    "sudo", "systemd-run", "taskset", "time", "timeout", "toybox", "unshare", "xargs",
];

/// Their options that take the next word as a value.
const VALUED: &[&str] = &["-C", "-g", "-k", "-s", "-u"];

/// Suffixes in the names of shells that are built in another way.
const BUILDS: &[&str] = &["-static", ".distrib", ".exe"];

/// Long options of shells that take no value.
const PLAIN: &[&str] =
    &["--login", "--noediting", "--noprofile", "--norc", "--posix", "--restricted", "--verbose"];

/// Looks for a placeholder that a shell or another interpreter would read as program text.
///
/// # Errors
/// There is one: one sentence, with what to write instead.
pub(super) fn check(words: &[String]) -> Result<(), String> {
    for (at, word) in words.iter().enumerate() {
        let Some(placeholder) = placeholder(word) else { continue };
        let Some(reader) = reader(words, at) else { continue };
        let variable = variable(placeholder);
        return Err(format!(
            "'{reader}' would run what an application puts into its name; expected \"${variable}\" \
             in place of {placeholder}, which is in the environment of the command"
        ));
    }
    Ok(())
}

/// The program that reads the word at index `at` as program text.
fn reader(words: &[String], at: usize) -> Option<&str> {
    let mut index = 0;
    while index < at {
        let word = &words[index];
        let following = &words[index + 1..=at];
        let is_read = match reads(word) {
            Some(Reads::Script) => match script(following) {
                None => true,
                // The next word is the name of the script, often `sh`.
                Some(script) => {
                    index += script + 2;
                    false
                }
            },
            Some(Reads::File) => following.len() == 1 || following[0].starts_with('-'),
            Some(Reads::Anything) => true,
            Some(Reads::Program) => {
                // It splits a word into words.
                let splits =
                    name(word) == "env" && following.iter().any(|word| is_split_string(word));
                splits || begins_with_program(following)
            }
            None => false,
        };
        if is_read {
            return Some(word);
        }
        index += 1;
    }
    // Whatever the program is, an option of this name takes a command.
    let option = words[..at].last().filter(|word| is_command_option(word));
    let joined = words[at].starts_with("--command=").then_some("--command");
    option.map(String::as_str).or(joined)
}

/// How the program named by `word` reads the words after it.
fn reads(word: &str) -> Option<Reads> {
    let name = name(word);
    let is_in = |names: &[&str]| names.contains(&name);
    if is_in(SHELLS) {
        Some(Reads::Script)
    } else if is_in(INTERPRETERS) {
        Some(Reads::File)
    } else if is_in(EVALUATORS) {
        Some(Reads::Anything)
    } else if is_in(LAUNCHERS) {
        Some(Reads::Program)
    } else {
        None
    }
}

/// The name of a program without its folder, its version and suffixes of its build: `/usr/bin/python3.11` is
/// python, `perl5.36-x86_64-linux-gnu` perl, `bash-static` bash.
fn name(word: &str) -> &str {
    let file = word.rsplit('/').next().unwrap_or(word);
    let file = BUILDS.iter().find_map(|build| file.strip_suffix(build)).unwrap_or(file);
    let Some(digit) = file.find(|c: char| c.is_ascii_digit()).filter(|_| file != "m4") else {
        return file;
    };
    let (bare, version) = file.split_at(digit);
    let rest = version.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    match rest.is_empty() || rest.starts_with('-') {
        true => bare.trim_end_matches(['-', '.']),
        false => file,
    }
}

/// Whether the last of these words is the program that a launcher starts: the words before it are only
/// options, their values, numbers and assignments.
fn begins_with_program(words: &[String]) -> bool {
    let mut is_value = false;
    words.iter().enumerate().all(|(index, word)| {
        let is_option = word.starts_with('-');
        let is_other = word.starts_with(|c: char| c.is_ascii_digit()) || word.contains('=');
        let is_skipped = is_option || is_other || is_value;
        is_value = VALUED.contains(&word.as_str());
        is_skipped != (index + 1 == words.len())
    })
}

/// The index of a shell's script, or of its file, if it is before the last of these words. The words
/// after the script are its arguments, which no shell reads as commands.
fn script(words: &[String]) -> Option<usize> {
    let mut index = 0;
    let mut options = true;
    while index + 1 < words.len() {
        let word = words[index].as_str();
        if !options {
            return Some(index);
        }
        index += match word {
            "-" | "--" => {
                options = false;
                1
            }
            // An unknown long option may take the next word.
            _ if word.starts_with("--") && (word.contains('=') || PLAIN.contains(&word)) => 1,
            _ if word.starts_with("--") => 2,
            _ if word.starts_with(['-', '+']) => 1 + word.matches(['o', 'O']).count(),
            _ => return Some(index),
        };
    }
    None
}

/// `-c`, and `-lc` or `-ec` and the like; `--command`.
fn is_command_option(word: &str) -> bool {
    let is_short = |letters: &str| {
        letters.len() <= 3
            && letters.ends_with('c')
            && letters.chars().all(|letter| letter.is_ascii_lowercase())
    };
    word == "--command" || word.strip_prefix('-').is_some_and(is_short)
}

/// `-S`, `-iS` and `--split-string` of env.
fn is_split_string(word: &str) -> bool {
    match word.strip_prefix("--") {
        Some(long) => long.starts_with("split-string"),
        None => word.starts_with('-') && word.contains('S'),
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::split;
    use super::*;

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
            ("sh -c '\"$@\"' sh bash -c 'x {app}'", "bash"),
            ("sh -c '\"$@\"' sh timeout 5 sh -c 'x {app}'", "sh"),
            ("su -c 'x {app}' nobody", "su"),
            ("su nobody -s /bin/sh -c 'x {app}'", "su"),
            ("ssh host logger {app}", "ssh"),
            ("flock lock -c 'x {app}'", "-c"),
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
        assert_eq!(
            judged("sh -c 'echo {rule} {app}'").unwrap_err(),
            "'sh' would run what an application puts into its name; expected \"$BWMON_RULE\" in place \
             of {rule}, which is in the environment of the command"
        );
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
            "sh -c 'echo \"$BWMON_APP\" >> log'",
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
        ] {
            assert_eq!(judged(text), Ok(()), "{text}");
        }
    }
}
