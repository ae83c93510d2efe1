//! Waits for time, signals and the kernel's announcements at once.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::{flag, low_level};

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// The deadline has passed.
    Time,
    /// A signal asks the program to end.
    Stop,
    /// The terminal was resized.
    Resized,
    /// A signal asks for a reload of the configuration.
    Reload,
    /// A refresh could not be written.
    Unwritten,
    /// One of the given descriptors is readable.
    Events,
}

/// Whether the first signal ends the program at once: true during steps that may take long and need no clean-up.
#[derive(Clone, Debug)]
pub(super) struct AtOnce(Arc<AtomicBool>);

impl AtOnce {
    pub(super) fn set(&self, at_once: bool) {
        self.0.store(at_once, Ordering::Relaxed);
    }
}

/// Asks the program to end, from another thread.
#[derive(Debug)]
pub(super) struct Stopper {
    stop: Arc<AtomicBool>,
    at_once: Arc<AtomicBool>,
    waker: UnixStream,
}

impl Stopper {
    /// Asks for the end. Returns `false` if the program has to end at once: it was asked before, or is in a step that
    /// may take long.
    pub(super) fn stop(&self) -> bool {
        let before = self.stop.swap(true, Ordering::Relaxed);
        // If the pipe is full, the loop wakes anyway.
        let _ = (&self.waker).write(&[0]);
        !before && !self.at_once.load(Ordering::Relaxed)
    }
}

/// The signals that the programs handle.
#[derive(Debug)]
pub(super) struct Signals {
    stop: Arc<AtomicBool>,
    at_once: Arc<AtomicBool>,
    resized: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    unwritten: Arc<AtomicBool>,
    wake: UnixStream,
    waker: UnixStream,
}

impl Signals {
    /// Catches SIGINT and SIGTERM from now on. A second one ends the program at once, since the end
    /// may take long.
    pub(super) fn new() -> io::Result<Signals> {
        let signals = Signals::without_ends()?;
        let Signals { stop, at_once, waker, .. } = &signals;
        for signal in [SIGINT, SIGTERM] {
            // In this order: the second signal finds the flag that the first one has set.
            flag::register_conditional_shutdown(signal, 0, stop.clone())?;
            flag::register_conditional_shutdown(signal, 0, at_once.clone())?;
            flag::register(signal, stop.clone())?;
            low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(signals)
    }

    /// As [`Signals::new`], with SIGINT and SIGTERM left to another thread, which has a [`Stopper`].
    pub(super) fn without_ends() -> io::Result<Signals> {
        let stop = Arc::new(AtomicBool::new(false));
        let at_once = Arc::new(AtomicBool::new(false));
        let resized = Arc::new(AtomicBool::new(false));
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        flag::register(SIGWINCH, resized.clone())?;
        low_level::pipe::register(SIGWINCH, waker.try_clone()?)?;
        let (reload, unwritten) = Default::default();
        waker.set_nonblocking(true)?;
        Ok(Signals { stop, at_once, resized, reload, unwritten, wake, waker })
    }

    /// The switch that decides whether the first signal ends the program at once.
    pub(super) fn at_once(&self) -> AtOnce {
        AtOnce(self.at_once.clone())
    }

    /// What asks for the end from another thread.
    ///
    /// # Errors
    /// No descriptor is available.
    pub(super) fn stopper(&self) -> io::Result<Stopper> {
        let (stop, at_once) = (self.stop.clone(), self.at_once.clone());
        Ok(Stopper { stop, at_once, waker: self.waker.try_clone()? })
    }

    /// Lets SIGHUP ask for a reload. Before, it ends the program, as usual.
    pub(super) fn reload_on_hangup(&mut self) -> io::Result<()> {
        flag::register(SIGHUP, self.reload.clone())?;
        low_level::pipe::register(SIGHUP, self.waker.try_clone()?)?;
        Ok(())
    }

    /// The callback for another thread whose refresh can't be written.
    ///
    /// # Errors
    /// No descriptor is available.
    pub(super) fn on_unwritten(&self) -> io::Result<impl FnMut() + Send + 'static> {
        let (unwritten, mut waker) = (self.unwritten.clone(), self.waker.try_clone()?);
        Ok(move || {
            unwritten.store(true, Ordering::Relaxed);
            // If the pipe is full, the loop wakes anyway.
            let _ = waker.write(&[0]);
        })
    }

    /// Whether a signal has asked for the end.
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Notes that the program ends, maybe without a signal: the next signal ends it at once.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until `deadline`, a signal, or any of `events` to be readable.
    pub(super) fn wait(
        &mut self,
        deadline: Instant,
        events: &[BorrowedFd<'_>],
    ) -> io::Result<Woken> {
        loop {
            if self.stopped() {
                return Ok(Woken::Stop);
            }
            if self.resized.swap(false, Ordering::Relaxed) {
                return Ok(Woken::Resized);
            }
            if self.reload.swap(false, Ordering::Relaxed) {
                return Ok(Woken::Reload);
            }
            if self.unwritten.swap(false, Ordering::Relaxed) {
                return Ok(Woken::Unwritten);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Woken::Time);
            }
            let mut waiting = vec![PollFd::new(&self.wake, PollFlags::IN)];
            waiting.extend(events.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut waiting, Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let readable = waiting[1..].iter().any(|fd| !fd.revents().is_empty());
            drop(waiting);
            let mut bytes = [0; 64];
            while matches!(self.wake.read(&mut bytes), Ok(1..)) {}
            if readable && !self.stopped() {
                return Ok(Woken::Events);
            }
        }
    }
}
