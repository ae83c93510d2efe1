//! Where things are on a screen of some height.

/// The parts of the screen, from the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Areas {
    /// Lines of the header.
    pub header: u16,
    /// Whether there is a line with titles.
    pub titles: bool,
    /// Lines of the list.
    pub list: u16,
    /// Whether there is a line with the last message.
    pub message: bool,
    /// Whether there is a line with the keys, or the filter that is typed.
    pub footer: bool,
}

impl Areas {
    /// The parts of a screen with this many lines.
    pub(super) fn of(height: u16, typing: bool, message: bool) -> Areas {
        let header = match height {
            16.. => 4,
            10.. => 2,
            3.. => 1,
            _ => 0,
        };
        let titles = height >= 4;
        let message = message && height >= 10;
        let footer = height >= 7 || typing && height >= 2;
        let others = header + u16::from(titles) + u16::from(message) + u16::from(footer);
        Areas { header, titles, list: height.saturating_sub(others), message, footer }
    }

    /// The line in which the list begins.
    pub(super) fn first_line(&self) -> u16 {
        self.header + u16::from(self.titles)
    }

    /// Lines of a text instead of the list.
    pub(super) fn text(&self) -> u16 {
        self.list + u16::from(self.titles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_height_has_its_parts() {
        for height in 0..200 {
            for (typing, message) in [(false, false), (true, true)] {
                let areas = Areas::of(height, typing, message);
                let others = u16::from(areas.message) + u16::from(areas.footer);
                assert_eq!(areas.first_line() + areas.list + others, height, "{areas:?}");
                assert!(areas.list > 0 || height < 3, "{height}: {areas:?}");
            }
        }
    }
}
