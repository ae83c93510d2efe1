//! The time between two refreshes of a program that watches the kernel.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::signals::{Signals, Woken};

/// Where ends are not announced, the kernel keeps an ended connection's counters for ten seconds at
/// the least (TCP after a reset): who looks more often than that sees them, however seldom the
/// screen is refreshed.
const LOOK_AT_LEAST: Duration = Duration::from_secs(5);

/// How long announcements may wait to be taken together: the kernel's buffer has room for what
/// comes meanwhile.
const BREATH: Duration = Duration::from_millis(50);

/// How often to see whether it is time to look where nothing announces it: a busy host makes some thousand
/// sockets meanwhile.
const GLANCE: Duration = Duration::from_millis(250);

/// How soon after a look another one is taken because something happened.
const LOOK_AT_MOST: Duration = Duration::from_millis(200);

/// Whatever watches the kernel.
pub(super) trait Watching {
    /// Become readable when the kernel announces something.
    fn events(&self) -> Vec<BorrowedFd<'_>>;

    /// Takes what was announced; whether it is such that it is time to look.
    fn drain(&mut self) -> bool;

    /// Whether that may be so although nothing was announced.
    fn needs_glances(&self) -> bool;

    /// Looks.
    fn look(&mut self) -> anyhow::Result<()>;
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The next refresh.
    Refresh,
    /// The same refresh again: the terminal has another size.
    Redraw,
    /// The configuration is to be read again.
    Reload,
    /// The end.
    Stop,
}

/// Keeps what is announced from being lost, and looks often enough.
#[derive(Debug)]
pub(super) struct Vigil {
    looked: Instant,
    /// Whether it is time to look, once the last look is long enough ago.
    called: bool,
    /// Until when announcements wait.
    listen: Instant,
}

impl Vigil {
    /// A look has just been taken.
    pub(super) fn new() -> Vigil {
        let now = Instant::now();
        Vigil { looked: now, called: false, listen: now }
    }

    /// Waits until `refresh`, for which it doesn't look itself, or until something else is due.
    pub(super) fn wait(
        &mut self,
        signals: &mut Signals,
        watching: &mut impl Watching,
        refresh: Instant,
    ) -> anyhow::Result<Due> {
        loop {
            let patience = if self.called { LOOK_AT_MOST } else { LOOK_AT_LEAST };
            let look = refresh.min(self.looked + patience);
            // Between two pauses for breath whatever was announced is taken at once.
            let pausing = Instant::now() < self.listen;
            let events = if pausing { Vec::new() } else { watching.events() };
            let mut until = if pausing { look.min(self.listen) } else { look };
            if watching.needs_glances() && !self.called {
                until = until.min(Instant::now() + GLANCE);
            }
            match signals.wait(until, &events).context("waiting failed")? {
                Woken::Stop => return Ok(Due::Stop),
                Woken::Reload => return Ok(Due::Reload),
                Woken::Resized => return Ok(Due::Redraw),
                Woken::Events => {
                    self.called |= watching.drain();
                    self.listen = Instant::now() + BREATH;
                }
                Woken::Time if until < look => self.called |= watching.drain(),
                Woken::Time => {
                    self.looked = Instant::now();
                    self.called = false;
                    if look == refresh {
                        return Ok(Due::Refresh);
                    }
                    watching.look()?;
                }
            }
        }
    }
}
