//! Where a placeholder would become program text: in the words that a shell or another interpreter
//! reads.
//!
//! An application chooses its own name, and commands often run as root: `sh -c 'echo {app}'` would run
//! whatever a process has put into its name. Such a command is refused when it is parsed. Programs are
//! known by the names of their files, so a wrapper of another name is its author's business.

use super::placeholders::{placeholder, variable};

/// How a program reads the words that follow its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// The first word that is no option is the script or its file; what follows are the script's own
    /// arguments.
    Script,
    /// The first word is the script's file if it is no option. Options may hold program text.
    File,
    /// Any word may be program text, here or on another host.
    Anything,
}

/// Shells whose options are those of POSIX.
const SHELLS: &[&str] = &[
    "sh", "ash", "bash", "csh", "dash", "hush", "ksh", "lksh", "mksh", "oksh", "pdksh", "posh",
    "rbash", "rksh", "rzsh", "tcsh", "yash", "zsh",
];

const INTERPRETERS: &[&str] = &[
    "Rscript", "elvish", "expect", "fish", "guile", "julia", "lua", "luajit", "node", "nodejs",
    "nu", "osh", "perl", "php", "pwsh", "pypy", "python", "ruby", "tclsh", "wish", "xonsh", "ysh",
];

/// Programs that have program text among their words, or hand words to a shell.
const EVALUATORS: &[&str] = &[
    "awk",
    "dc",
    "ed",
    "emacs",
    "eval",
    "ex",
    "gawk",
    "gdb",
    "gmake",
    "gnuplot",
    "m4",
    "make",
    "mariadb",
    "mawk",
    "mongosh",
    "mosh",
    "mysql",
    "nawk",
    "original-awk",
    "parallel",
    "psh",
    "psql",
    "rsh",
    "runuser",
    "screen",
    "script",
    "sed",
    "sg",
    "slogin",
    "socat",
    "sqlite",
    "ssh",
    "su",
    "tmux",
    "vi",
    "vim",
    "watch",
];

/// Long options of shells that take no value of their own.
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

/// Who reads the word `at` this place as program text.
fn reader(words: &[String], at: usize) -> Option<&str> {
    let mut index = 0;
    while index < at {
        let word = &words[index];
        let following = &words[index + 1..=at];
        let is_read = match reads(word) {
            Some(Reads::Script) => match script(following) {
                None => true,
                // The next word is what the script is named, often `sh`.
                Some(script) => {
                    index += script + 2;
                    false
                }
            },
            Some(Reads::File) => following.len() == 1 || following[0].starts_with('-'),
            Some(Reads::Anything) => true,
            // It splits a word into words.
            None => name(word) == "env" && following.iter().any(|word| is_split_string(word)),
        };
        if is_read {
            return Some(word);
        }
        index += 1;
    }
    // Whoever it is: this is what an option with a command is called.
    let option = words[..at].last().filter(|word| is_command_option(word));
    let joined = words[at].starts_with("--command=").then_some("--command");
    option.map(String::as_str).or(joined)
}

/// How the program that `word` names reads what follows.
fn reads(word: &str) -> Option<Reads> {
    let name = name(word);
    let is_in = |names: &[&str]| names.contains(&name);
    if is_in(SHELLS) {
        Some(Reads::Script)
    } else if is_in(INTERPRETERS) {
        Some(Reads::File)
    } else if is_in(EVALUATORS) {
        Some(Reads::Anything)
    } else {
        None
    }
}

/// The name of a program without its folder and its version: `/usr/bin/python3.11` is python.
fn name(word: &str) -> &str {
    let file = word.rsplit('/').next().unwrap_or(word);
    match file {
        "m4" => file,
        _ => file.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-')),
    }
}

/// Where a shell finds its script, or its file, if it is before the last of these words. The words after
/// the script are its arguments, which no shell reads as commands.
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
            // A long option that is not known may take the next word.
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
        ] {
            assert_eq!(judged(text), Ok(()), "{text}");
        }
    }
}
