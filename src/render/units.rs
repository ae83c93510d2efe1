//! Bytes in human-readable units.

use clap::ValueEnum;

/// A family of units, with the names of bandwhich's `--unit-family`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Units {
    /// B, KiB, MiB: steps of 1024
    BinBytes,
    /// bit, Kibit, Mibit: steps of 1024
    BinBits,
    /// B, kB, MB: steps of 1000
    SiBytes,
    /// bit, kbit, Mbit: steps of 1000
    SiBits,
}

impl Units {
    /// Maximum characters of a result of [`Units::show`] below 1024 EiB.
    pub(crate) const fn width(self) -> usize {
        match self {
            Units::BinBytes => "1023.99 KiB".len(),
            Units::BinBits => "1023.99 Kibit".len(),
            Units::SiBytes => "999.99 kB".len(),
            Units::SiBits => "999.99 kbit".len(),
        }
    }

    /// This many bytes, with two decimals above the smallest unit: `512 B`, `1.50 KiB`.
    pub(crate) fn show(self, bytes: f64) -> String {
        let (value, decimals, unit) = self.scaled(bytes, |_| 2);
        format!("{value:.decimals$} {unit}")
    }

    /// Cells of a result of [`Units::brief`].
    pub(crate) const fn brief_width(self) -> usize {
        match self {
            Units::BinBytes => "1023 KiB".len(),
            Units::BinBits => "1023 Kibit".len(),
            Units::SiBytes => "9.99 kB".len(),
            Units::SiBits => "9.99 kbit".len(),
        }
    }

    /// This many bytes with three digits, the units below each other: `512 B  `, `1.50 KiB`, `12.3 MiB`.
    pub(crate) fn brief(self, bytes: f64) -> String {
        let decimals = |value: f64| match value {
            ..9.995 => 2,
            9.995..99.95 => 1,
            _ => 0,
        };
        let (value, decimals, unit) = self.scaled(bytes, decimals);
        let number = format!("{value:.decimals$}");
        let cells = self.brief_width() - "1023 ".len();
        format!("{number:>4} {unit:<cells$}")
    }

    /// This many bytes in the unit that fits, with the decimals of the value above the smallest unit, and the unit.
    fn scaled(self, bytes: f64, decimals: impl Fn(f64) -> usize) -> (f64, usize, String) {
        let (step, prefixes, unit, is_bits) = match self {
            Units::BinBytes => (1024.0, ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"], "B", false),
            Units::BinBits => (1024.0, ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"], "bit", true),
            Units::SiBytes => (1000.0, ["k", "M", "G", "T", "P", "E"], "B", false),
            Units::SiBits => (1000.0, ["k", "M", "G", "T", "P", "E"], "bit", true),
        };
        let mut value = if is_bits { bytes * 8.0 } else { bytes };
        if value.round() < step {
            return (value, 0, unit.to_owned());
        }
        let (last, others) = (prefixes[5], &prefixes[..5]);
        for prefix in others {
            value /= step;
            let decimals = decimals(value);
            // A value that rounding would lift to the next unit is shown in that unit.
            let scale = 10_f64.powi(decimals as i32);
            if (value * scale).round() < step * scale {
                return (value, decimals, format!("{prefix}{unit}"));
            }
        }
        value /= step;
        (value, decimals(value), format!("{last}{unit}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_family_has_its_steps_and_names() {
        let cases = [
            (Units::BinBytes, 0.0, "0 B"),
            (Units::BinBytes, 0.4, "0 B"),
            (Units::BinBytes, 1023.4, "1023 B"),
            (Units::BinBytes, 1023.6, "1.00 KiB"),
            (Units::BinBytes, 1536.0, "1.50 KiB"),
            (Units::BinBytes, 1024.0 * 1024.0 - 1.0, "1.00 MiB"),
            (Units::BinBytes, 5.0 * 1024.0 * 1024.0, "5.00 MiB"),
            (Units::BinBits, 128.0, "1.00 Kibit"),
            (Units::BinBits, 127.0, "1016 bit"),
            (Units::SiBytes, 999.0, "999 B"),
            (Units::SiBytes, 1500.0, "1.50 kB"),
            (Units::SiBytes, 999_999.0, "1.00 MB"),
            (Units::SiBits, 125_000.0, "1.00 Mbit"),
            (Units::SiBits, 1.0, "8 bit"),
            (Units::BinBytes, u64::MAX as f64, "16.00 EiB"),
            (Units::SiBits, u64::MAX as f64, "147.57 Ebit"),
        ];
        for (units, bytes, expected) in cases {
            assert_eq!(units.show(bytes), expected, "{units:?} {bytes}");
        }
    }

    #[test]
    fn three_digits_say_enough() {
        let cases = [
            (Units::BinBytes, 0.0, "   0 B  "),
            (Units::BinBytes, 1023.0, "1023 B  "),
            (Units::BinBytes, 1536.0, "1.50 KiB"),
            (Units::BinBytes, 9.996 * 1024.0, "10.0 KiB"),
            (Units::BinBytes, 99.96 * 1024.0, " 100 KiB"),
            (Units::BinBytes, 1023.4 * 1024.0, "1023 KiB"),
            (Units::BinBytes, 1023.6 * 1024.0, "1.00 MiB"),
            (Units::SiBytes, 999.0, " 999 B "),
            (Units::SiBytes, 999_600.0, "1.00 MB"),
            (Units::SiBits, 125_000.0, "1.00 Mbit"),
            (Units::BinBits, 127.0, "1016 bit  "),
            (Units::BinBytes, u64::MAX as f64, "16.0 EiB"),
        ];
        for (units, bytes, expected) in cases {
            assert_eq!(units.brief(bytes), expected, "{units:?} {bytes}");
        }
    }

    proptest! {
        #[test]
        fn brief_figures_are_as_wide_as_their_column(bytes in any::<u64>()) {
            for units in Units::value_variants() {
                prop_assert_eq!(units.brief(bytes as f64).len(), units.brief_width());
            }
        }

        #[test]
        fn nothing_is_wider_than_its_column(bytes in any::<u64>()) {
            for units in Units::value_variants() {
                prop_assert!(units.show(bytes as f64).len() <= units.width());
            }
        }
    }
}
