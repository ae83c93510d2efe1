//! The aggregator's list: KiB per second in and out, application.

use super::{Layout, frame, short};
use crate::aggregator::Usage;

/// Bytes in a KiB.
const KIB: f64 = 1024.0;

/// Whether an application has a line of its own: it used more than 1024 bytes per second in or out.
pub fn is_busy(usage: &Usage) -> bool {
    usage.rate.received > KIB || usage.rate.sent > KIB
}

/// `usage` as a line without its newline: KiB per second received and sent, and the name made safe
/// to print and cut to 60 characters. Scripts read these lines: the format does not change. On a screen
/// with so many `columns` it is cut to them instead.
pub fn line(usage: &Usage, columns: Option<usize>) -> String {
    let (received, sent) = (usage.rate.received, usage.rate.sent);
    let full = format!("{:>10.2} KiB / {:>10.2} KiB -- ", received / KIB, sent / KIB);
    let short = || format!("{:>4}/{:>4} ", short(received), short(sent));
    super::row(&usage.name, full, short, columns)
}

/// The bytes of one refresh that shows `usages` in their order; see [`frame`]. `notes` are lines of
/// their own above them, and the first to go where there is no room.
pub fn compose<'a>(
    notes: &[String],
    usages: impl DoubleEndedIterator<Item = &'a Usage>,
    layout: &Layout,
) -> Vec<u8> {
    let columns = layout.columns();
    frame(notes.iter().cloned().chain(usages.map(|usage| line(usage, columns))), layout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{Rate, Traffic};

    fn usage(received: f64, sent: f64, name: &[u8]) -> Usage {
        let (recent, rate) = (Traffic::ZERO, Rate { received, sent });
        Usage { name: name.into(), recent, rate, total: Traffic::ZERO }
    }

    #[test]
    fn golden_lines() {
        for (usage, expected) in [
            (usage(1536.0, 0.0, b"Web"), "      1.50 KiB /       0.00 KiB -- Web"),
            (usage(0.0, 1.0, b""), "      0.00 KiB /       0.00 KiB -- "),
            (usage(123_456_789_012.0, 5119.0, b"x"), "120563270.52 KiB /       5.00 KiB -- x"),
            (
                usage(1.0, 1.0, b"evil\x1b[2J\n9.00 KiB / 9.00 KiB -- root"),
                "      0.00 KiB /       0.00 KiB -- evil\\x1b[2J\\n9.00 KiB / 9.00 KiB -- root",
            ),
            (
                usage(2048.0, 2048.0, &[b'y'; 61]),
                concat!(
                    "      2.00 KiB /       2.00 KiB -- ",
                    "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy..."
                ),
            ),
        ] {
            assert_eq!(line(&usage, None), expected);
        }
    }

    #[test]
    fn a_screen_has_whole_rows() {
        let web = usage(123_456.0, 789.0, b"Web server of the whole house");
        for (columns, expected) in [
            (80, "    120.56 KiB /       0.77 KiB -- Web server of the whole house"),
            (44, "    120.56 KiB /       0.77 KiB -- Web se..."),
            (40, "121K/ 789 Web server of the whole house"),
            (20, "121K/ 789 Web ser..."),
        ] {
            assert_eq!(line(&web, Some(columns)), expected);
        }
    }

    #[test]
    fn one_kib_is_not_more_than_one() {
        assert!(!is_busy(&usage(1024.0, 1024.0, b"a")));
        assert!(is_busy(&usage(1024.1, 0.0, b"a")) && is_busy(&usage(0.0, 1024.1, b"a")));
    }

    #[test]
    fn golden_refreshes() {
        let usages = [usage(1536.0, 0.0, b"a"), usage(2048.0, 1.0, b"b")];
        let text = compose(&["note".to_owned()], usages.iter(), &Layout::default());
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "note\n      1.50 KiB /       0.00 KiB -- a\n      2.00 KiB /       0.00 KiB -- b\n\n"
        );
    }
}
