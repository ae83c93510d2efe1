//! Refuses a placeholder that would become program text: in the words that a shell or another interpreter reads.
//!
//! A name from outside the configuration has no meaning there ([`neutral`](super::placeholders)), so a program
//! that is missing in this list is no security hole. But the command would not do what its author meant: `sh -c
//! 'echo {app}'` is refused when it is parsed, with a hint at what to write instead. And a name from the
//! configuration is inserted unchanged. Programs are recognised by the names of their files.

use super::placeholders::{placeholder, variable};

#[cfg(test)]
mod tests;

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

/// Programs that never start one, nor read program text: their words are only arguments. All others may start
/// what stands anywhere behind them (`flock FILE sh -c`).
const ORDINARY: &[&str] =
    &["curl", "echo", "logger", "notify-send", "printf", "wall", "write", "xmessage"];

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
        // Only a shell replaces it.
        let expected = match reads(reader) {
            Some(Reads::Script) => format!("\"${variable}\" in place of {placeholder}"),
            _ => format!(
                "its environment variable {variable} in place of {placeholder}, which a shell writes as \
                 \"${variable}\""
            ),
        };
        return Err(format!(
            "'{reader}' would run what an application puts into its name; expected {expected}"
        ));
    }
    Ok(())
}

/// The program that reads the word at index `at` as program text.
fn reader(words: &[String], at: usize) -> Option<&str> {
    let mut index = 0;
    // The index of what the launchers so far would start.
    let mut first = Some(0);
    while index < at {
        let word = &words[index];
        if first.is_some_and(|first| begins_with_program(&words[first..=index])) {
            // The word after an option that isn't known may be its value.
            let may_be_value = index > 0 && words[index - 1].starts_with('-');
            if ORDINARY.contains(&name(word)) && !may_be_value {
                return None;
            }
            first = (reads(word) == Some(Reads::Program)).then_some(index + 1);
        }
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

/// `-c`, and `-lc`, `-ec`, `-ce`, `-exuc` and the like; `--command`.
///
/// A `c` that is not the last letter is one among other options of shells, each once. Other programs have words
/// there: `-icon`, `-class`, `-topic`.
fn is_command_option(word: &str) -> bool {
    let is_short = |letters: &str| {
        letters.len() <= 3
            && letters.ends_with('c')
            && letters.chars().all(|letter| letter.is_ascii_lowercase())
    };
    let is_cluster = |letters: &str| {
        letters.len() <= 5
            && letters.contains('c')
            && letters.chars().all(|letter| "cefilnsuvx".contains(letter))
            && letters.chars().all(|letter| letters.matches(letter).count() == 1)
    };
    word == "--command"
        || word.strip_prefix('-').is_some_and(|letters| is_short(letters) || is_cluster(letters))
}

/// `-S`, `-iS` and `--split-string` of env, whose long options may be cut.
fn is_split_string(word: &str) -> bool {
    match word.strip_prefix("--").and_then(|long| long.split('=').next()) {
        Some(long) => !long.is_empty() && "split-string".starts_with(long),
        None => word.starts_with('-') && word.contains('S'),
    }
}
