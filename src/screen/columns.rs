//! The columns of the list: which, how wide, and which of them have room.

use clap::ValueEnum;

use crate::render::units::Units;

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Column {
    /// Received bytes per second
    In,
    /// Sent bytes per second
    Out,
    /// The part of all bytes, in and out together, as a bar
    Share,
    /// The rate in the last 12 refreshes
    Graph,
    /// All received bytes
    TotalIn,
    /// All sent bytes
    TotalOut,
    /// The pid, and how many more processes
    Pid,
    /// The effective user
    User,
    /// The pod, container or systemd unit
    #[value(name = "unit")]
    Place,
    /// The name of the program
    Program,
    /// The number of remote ends
    Ends,
    /// The command line, application or pipe, in the rest of the line
    Name,
}

/// Cells between two columns.
pub(super) const GAP: u16 = 2;
/// Cells that the name has before other columns do.
const LEAST_NAME: u16 = 32;

impl Column {
    /// All columns, in the order at the start.
    pub(super) const ALL: [Column; 12] = [
        Column::In,
        Column::Out,
        Column::Share,
        Column::Graph,
        Column::TotalIn,
        Column::TotalOut,
        Column::Pid,
        Column::User,
        Column::Place,
        Column::Program,
        Column::Ends,
        Column::Name,
    ];

    /// Its title, as short as it is wide.
    pub(super) fn title(self) -> &'static str {
        match self {
            Column::In => "IN/s",
            Column::Out => "OUT/s",
            Column::Share => "SHARE",
            Column::Graph => "LAST 12",
            Column::TotalIn => "TOTAL IN",
            Column::TotalOut => "TOTAL OUT",
            Column::Pid => "PID",
            Column::User => "USER",
            Column::Place => "UNIT",
            Column::Program => "PROGRAM",
            Column::Ends => "ENDS",
            Column::Name => "NAME",
        }
    }

    /// Its name in flags and in the order.
    pub(super) fn name(self) -> &'static str {
        match self {
            Column::In => "in",
            Column::Out => "out",
            Column::Share => "share",
            Column::Graph => "graph",
            Column::TotalIn => "total-in",
            Column::TotalOut => "total-out",
            Column::Pid => "pid",
            Column::User => "user",
            Column::Place => "unit",
            Column::Program => "program",
            Column::Ends => "ends",
            Column::Name => "name",
        }
    }

    /// What it is, for the chooser.
    pub(super) fn help(self) -> &'static str {
        match self {
            Column::In => "received bytes per second",
            Column::Out => "sent bytes per second",
            Column::Share => "part of all bytes, in and out together",
            Column::Graph => "rate of the last 12 refreshes, each row by its own maximum",
            Column::TotalIn => "all received bytes",
            Column::TotalOut => "all sent bytes",
            Column::Pid => "pid, and how many more processes",
            Column::User => "effective user",
            Column::Place => "pod, container or systemd unit",
            Column::Program => "name of the program",
            Column::Ends => "number of remote ends",
            Column::Name => "command line, application or pipe",
        }
    }

    /// Whether the text ends at the right edge.
    pub(super) fn is_figure(self) -> bool {
        use Column::{Ends, In, Out, Pid, TotalIn, TotalOut};
        matches!(self, In | Out | TotalIn | TotalOut | Pid | Ends)
    }

    /// Whether the list can be sorted by it.
    pub(super) fn can_sort(self) -> bool {
        self != Column::Graph
    }

    fn width(self, units: Option<Units>, narrow: bool) -> u16 {
        let figure = |plain: usize| if narrow { 5 } else { figure_width(units, plain) as u16 };
        match self {
            Column::In | Column::Out => figure(10),
            Column::TotalIn | Column::TotalOut => figure(13).max(if narrow { 0 } else { 9 }),
            Column::Share => 8,
            Column::Graph => 12,
            Column::Pid => 10,
            Column::User => 8,
            Column::Place => 16,
            Column::Program => 15,
            Column::Ends => 5,
            Column::Name => 0,
        }
    }

    /// The columns that come first where there is little room, the most important first.
    fn priority(totals: bool) -> [Column; 11] {
        use Column::{Ends, Graph, In, Out, Pid, Place, Program, Share, TotalIn, TotalOut, User};
        match totals {
            false => [In, Out, Share, Pid, User, Graph, TotalIn, TotalOut, Place, Program, Ends],
            true => [TotalIn, TotalOut, Share, Pid, User, In, Out, Graph, Place, Program, Ends],
        }
    }
}

/// Cells of a figure.
pub(super) fn figure_width(units: Option<Units>, plain: usize) -> usize {
    units.map_or(plain, Units::brief_width)
}

/// A column in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// The column.
    pub column: Column,
    /// Its first cell.
    pub x: u16,
    /// Its cells.
    pub width: u16,
}

/// The columns of a list.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    /// All of them in order, with those that are wanted.
    pub all: Vec<(Column, bool)>,
}

impl Default for Columns {
    fn default() -> Columns {
        let wanted = |column| !matches!(column, Column::Program | Column::Ends);
        Columns { all: Column::ALL.map(|column| (column, wanted(column))).to_vec() }
    }
}

impl Columns {
    /// These columns in this order, and the others unwanted behind them; without any, those at the start.
    pub(super) fn of(chosen: &[Column]) -> Columns {
        if chosen.is_empty() {
            return Columns::default();
        }
        let mut all: Vec<(Column, bool)> = Vec::new();
        let others = Column::ALL.iter().map(|column| (*column, false));
        for (column, wanted) in chosen.iter().map(|column| (*column, true)).chain(others) {
            if all.iter().all(|(known, _)| *known != column) {
                all.push((column, wanted));
            }
        }
        Columns { all }
    }

    /// Whether figures have to be short in a list of this width.
    pub(super) fn are_narrow(width: u16, units: Option<Units>) -> bool {
        width < 2 * (Column::In.width(units, false) + GAP) + 12
    }

    /// The columns that have room in a line of `width` cells, in their places.
    pub(super) fn placed(&self, width: u16, units: Option<Units>, totals: bool) -> Vec<Placed> {
        let narrow = Columns::are_narrow(width, units);
        let gap = if narrow { 1 } else { GAP };
        let wanted = |column: Column| self.all.iter().any(|(of, wanted)| *of == column && *wanted);
        let has_name = wanted(Column::Name);
        let mut room = width.saturating_sub(match (has_name, narrow) {
            (true, true) => 6,
            (true, false) => LEAST_NAME.min((width / 3).max(24.min(width / 2))),
            (false, _) => 0,
        });
        let mut taken = vec![Column::Name];
        for column in Column::priority(totals).into_iter().filter(|column| wanted(*column)) {
            let cost = column.width(units, narrow) + gap;
            if cost <= room {
                room -= cost;
                taken.push(column);
            }
        }
        // Of the two totals both or none, if both are wanted.
        let totals = [Column::TotalIn, Column::TotalOut];
        let lone = totals.iter().filter(|column| taken.contains(column)).count() == 1;
        if lone && totals.iter().all(|column| wanted(*column)) {
            taken.retain(|column| !totals.contains(column));
        }
        let shown: Vec<Column> = self.all.iter().map(|(column, _)| *column).collect();
        let shown: Vec<Column> =
            shown.into_iter().filter(|column| wanted(*column) && taken.contains(column)).collect();
        let others: u16 = shown
            .iter()
            .filter(|c| **c != Column::Name)
            .map(|c| c.width(units, narrow) + gap)
            .sum();
        let mut x = 0;
        let place = |column: Column| {
            let width = match column {
                Column::Name => width.saturating_sub(others),
                other => other.width(units, narrow),
            };
            let placed = Placed { column, x, width };
            x += width + gap;
            placed
        };
        shown.into_iter().map(place).filter(|placed| placed.width > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(width: u16, totals: bool) -> String {
        let placed = Columns::default().placed(width, Some(Units::BinBytes), totals);
        let names: Vec<&str> = placed.iter().map(|placed| placed.column.name()).collect();
        names.join(" ")
    }

    #[test]
    fn the_important_ones_have_room_first() {
        assert_eq!(names(20, false), "in out name");
        assert_eq!(names(40, false), "in out name");
        assert_eq!(names(80, false), "in out share pid user name");
        assert_eq!(names(80, true), "share total-in total-out pid user name");
        assert_eq!(names(200, false), "in out share graph total-in total-out pid user unit name");
    }

    #[test]
    fn chosen_ones_have_the_order_of_the_choice() {
        use Column::{Ends, Name, Out};
        let columns = Columns::of(&[Name, Ends, Out, Ends]);
        let placed = columns.placed(80, None, false);
        assert_eq!(placed.iter().map(|of| of.column).collect::<Vec<_>>(), [Name, Ends, Out]);
        assert_eq!(columns.all.len(), Column::ALL.len(), "the others can be chosen later");
        for column in Column::ALL {
            let value = column.to_possible_value().unwrap();
            assert_eq!(value.get_name(), column.name(), "its name in flags");
        }
    }

    #[test]
    fn no_column_goes_beyond_the_edge() {
        for units in [None, Some(Units::BinBits)] {
            for width in 0..250 {
                let placed = Columns::default().placed(width, units, false);
                let mut end = 0;
                for Placed { x, width: cells, .. } in placed {
                    assert!(x >= end && x + cells <= width, "{width}");
                    end = x + cells;
                }
            }
        }
    }
}
