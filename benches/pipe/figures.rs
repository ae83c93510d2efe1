//! What is measured, and how much of it.

use std::collections::HashMap;

use testbed::bench::server::Server;

use crate::peers::Forwarder;
use crate::stage::Stage;

/// Figures that come from the same server and client.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// Programs.
    pub(crate) needs: &'static [&'static str],
    /// The server's port.
    pub(crate) remote: u16,
    pub(crate) sections: &'static [Section],
    /// Starts the server, if it is a program of its own.
    pub(crate) serve: fn(&Stage) -> anyhow::Result<Option<Server>>,
    /// The figures of all sections, in their order.
    pub(crate) measure: fn(&Forwarder, Effort) -> anyhow::Result<Vec<Figure>>,
}

/// A table of figures of one kind.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) headings: &'static [&'static str],
    pub(crate) more_is_better: bool,
    pub(crate) decimals: usize,
}

/// What was measured, and what was wrong with it. Not a number if it wasn't measured.
#[derive(Clone)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    pub(crate) flaw: Option<String>,
}

impl Figure {
    pub(crate) fn missing(error: &anyhow::Error) -> Figure {
        Figure { value: f64::NAN, flaw: Some(format!("{error:#}")) }
    }
}

impl From<f64> for Figure {
    fn from(value: f64) -> Figure {
        Figure { value, flaw: None }
    }
}

/// How much to do for a figure.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) seconds: u64,
    /// Only the first run of each group.
    pub(crate) brief: bool,
}

impl Effort {
    pub(crate) fn of<T>(self, runs: &[T]) -> &[T] {
        if self.brief { &runs[..runs.len().min(1)] } else { runs }
    }
}

/// The figures of one contestant in one group: a list for each round.
pub(crate) type Results = HashMap<(&'static str, &'static str), Vec<Vec<Figure>>>;
