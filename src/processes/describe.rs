//! Decoders of `/proc/PID/stat` and `/proc/PID/cmdline`.

use super::CommandLine;

/// Bytes of a command line that are read: memory for each process must be bounded, and a command
/// line can have megabytes.
pub(super) const COMMAND_LINE_MAX: usize = 64 * 1024;

/// The used part of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat<'a> {
    /// The name, field 2. It may hold any bytes, including parentheses and newlines.
    pub(super) comm: &'a [u8],
    /// The state, field 3: a main thread that has ended is in `Z` or `X`.
    pub(super) state: u8,
    /// The start time in clock ticks since boot, field 22.
    pub(super) start_time: u64,
}

/// Parses a line of `/proc/PID/stat`.
pub(super) fn stat(line: &[u8]) -> Option<Stat<'_>> {
    // The name may contain any character, even a `)`: its end is the last one.
    let open = line.iter().position(|b| *b == b'(')?;
    let close = line.iter().rposition(|b| *b == b')')?;
    let comm = line.get(open + 1..close)?;
    let mut fields = line.get(close + 1..)?.split(|b| *b == b' ').filter(|f| !f.is_empty());
    let state = *fields.next()?.first()?;
    let start_time = std::str::from_utf8(fields.nth(22 - 4)?).ok()?.trim_end().parse().ok()?;
    Some(Stat { comm, state, start_time })
}

/// The command line as it is shown: `cmdline` with spaces for NUL bytes, or `comm` in brackets for
/// a process without one (a kernel thread, a zombie).
pub(crate) fn command_line(cmdline: &[u8], comm: &[u8]) -> CommandLine {
    if cmdline.is_empty() {
        return [b"[", comm, b"]"].concat().into();
    }
    cmdline.iter().map(|&byte| if byte == 0 { b' ' } else { byte }).collect()
}

/// The inode number in the target of a link in `/proc/PID/fd`, if it is a socket.
pub(super) fn socket_inode(target: &[u8]) -> Option<u32> {
    let digits = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    number(digits)
}

/// A decimal number without a sign.
pub(super) fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `cat /proc/PID/stat` of Linux 6.18, with the name of a process that means harm.
    const STAT: &[u8] = b"1234 (a) S 1 (b\xff) S 1 1234 1234 0 -1 4194304 95 0 0 0 0 0 0 0 20 0 1 \
        0 8675309 2949120 480 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0\n";

    #[test]
    fn a_name_that_looks_like_fields_hides_nothing() {
        let stat = stat(STAT).unwrap();
        assert_eq!(stat.comm, b"a) S 1 (b\xff");
        assert_eq!((stat.state, stat.start_time), (b'S', 8_675_309));
    }

    #[test]
    fn no_line_of_stat_is_none() {
        for line in [&b""[..], b"1 (a", b"1 (a)", b")(", b"1 (a) S 1 2 3"] {
            assert_eq!(stat(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_command_line_has_spaces_for_nuls_and_keeps_every_other_byte() {
        assert_eq!(&*command_line(b"ssh\0-p\0\0host\xff\x1b\0", b"ssh"), b"ssh -p  host\xff\x1b ");
        assert_eq!(&*command_line(b"nginx: worker process", b"nginx"), b"nginx: worker process");
        assert_eq!(&*command_line(b"", b"kworker/0:1"), b"[kworker/0:1]");
    }

    #[test]
    fn only_sockets_have_a_socket_inode() {
        assert_eq!(socket_inode(b"socket:[12345]"), Some(12345));
        for target in
            [&b"pipe:[12345]"[..], b"/dev/null", b"socket:[]", b"socket:[4294967296]", b"socket:[1"]
        {
            assert_eq!(socket_inode(target), None, "{target:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (stat(&bytes), socket_inode(&bytes), number(&bytes));
        }

        #[test]
        fn numbers_are_read_back(n: u32) {
            prop_assert_eq!(number(n.to_string().as_bytes()), Some(n));
        }
    }
}
