//! The thread that shows the screen: a terminal that is not read delays nothing else.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::input::Decoder;
use super::state::{Setup, State};
use super::{parents, terminal};
use crate::render::Frame;
use crate::render::sink::wait_while;
use crate::render::terminal::stdout_size;

/// How long an escape waits for the rest of a sequence.
const REST: Duration = Duration::from_millis(50);
/// The largest screen that is drawn.
const LARGEST: (u16, u16) = (1000, 500);

/// What waits for the thread, and what it has done.
#[derive(Debug, Default)]
struct Inbox {
    frame: Option<Frame>,
    /// Whether everything has to be drawn anew.
    redraw: bool,
    ended: bool,
    /// Whether the thread has ended.
    done: bool,
    /// Whether a refresh is being drawn.
    drawing: bool,
    drawn: u64,
    error: Option<io::Error>,
}

#[derive(Debug, Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    changed: Condvar,
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the screen's thread; clones are for other threads.
#[derive(Debug)]
pub(crate) struct Waker {
    shared: Arc<Shared>,
    stream: UnixStream,
}

impl Waker {
    fn wake(&self) {
        // If the pipe is full, the thread wakes anyway.
        let _ = (&self.stream).write(&[0]);
    }

    /// Lets everything be drawn anew: the terminal was another program's, or has another size.
    pub(crate) fn redraw(&self) {
        self.shared.inbox().redraw = true;
        self.wake();
    }
}

/// The interactive screen.
#[derive(Debug)]
pub(crate) struct Screen {
    waker: Waker,
}

impl Screen {
    /// Starts the thread. The screen appears with the first refresh. `ended` is called when the user wants to quit, or
    /// the terminal is gone.
    ///
    /// # Errors
    /// There is no terminal that sends keys, or no thread can be started.
    pub(crate) fn start(setup: Setup, ended: impl FnMut() + Send + 'static) -> io::Result<Screen> {
        let keys = terminal::keys()?;
        let (wake, stream) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        stream.set_nonblocking(true)?;
        let shared = Arc::new(Shared::default());
        terminal::restore_on_panic();
        // The theme decides on colours, not crossterm.
        crossterm::style::force_color_output(true);
        let thread = Thread {
            state: State::new(setup),
            shared: shared.clone(),
            wake,
            keys,
            decoder: Decoder::default(),
            shown: None,
        };
        let work = move || thread.run(ended);
        thread::Builder::new().name("screen".to_owned()).spawn(work)?;
        Ok(Screen { waker: Waker { shared, stream } })
    }

    /// A waker for another thread.
    ///
    /// # Errors
    /// No descriptor is available.
    pub(crate) fn waker(&self) -> io::Result<Waker> {
        Ok(Waker { shared: self.waker.shared.clone(), stream: self.waker.stream.try_clone()? })
    }

    /// Shows a refresh; never waits. The newest one is drawn.
    pub(crate) fn show(&self, frame: Frame) {
        self.waker.shared.inbox().frame = Some(frame);
        self.waker.wake();
    }

    /// Why the thread has ended by itself, since the last call.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        self.waker.shared.inbox().error.take()
    }

    /// Waits until the last refresh is drawn, or nothing was drawn for `patience`. Returns whether it is.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let shared = &self.waker.shared;
        let is_busy = |inbox: &Inbox| !inbox.done && (inbox.drawing || inbox.frame.is_some());
        wait_while(shared.inbox(), &shared.changed, patience, is_busy, |inbox| inbox.drawn)
    }

    /// Ends the screen and restores the terminal. A thread that waits for the terminal is left to itself.
    pub(crate) fn end(&self, patience: Duration) {
        let shared = &self.waker.shared;
        shared.inbox().ended = true;
        self.waker.wake();
        wait_while(shared.inbox(), &shared.changed, patience, |inbox| !inbox.done, |_| 0);
        terminal::leave();
    }
}

/// The thread's own.
struct Thread {
    state: State,
    shared: Arc<Shared>,
    wake: UnixStream,
    keys: OwnedFd,
    decoder: Decoder,
    /// What is on the terminal.
    shown: Option<Buffer>,
}

impl Thread {
    fn run(mut self, mut ended: impl FnMut()) {
        let shared = self.shared.clone();
        // A panic has printed its message.
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| self.work()))
            .unwrap_or_else(|_| Err(io::Error::other("the screen has ended")));
        terminal::leave();
        let mut inbox = shared.inbox();
        inbox.error = outcome.err();
        inbox.done = true;
        inbox.drawing = false;
        drop(inbox);
        shared.changed.notify_all();
        ended();
    }

    /// Draws refreshes and handles keys until the end.
    fn work(&mut self) -> io::Result<()> {
        let mut is_begun = false;
        loop {
            let keys = self.wait(is_begun)?;
            let (redraw, frame) = {
                let mut inbox = self.shared.inbox();
                if inbox.ended {
                    return Ok(());
                }
                let frame = inbox.frame.take();
                inbox.drawing = frame.is_some();
                (std::mem::take(&mut inbox.redraw), frame)
            };
            let is_new = frame.is_some();
            if let Some(frame) = frame {
                if !is_begun {
                    terminal::enter()?;
                    is_begun = true;
                }
                self.state.refresh(frame);
            }
            if keys && !self.read_keys()? {
                return Ok(());
            }
            if self.state.ended {
                return Ok(());
            }
            if is_begun && (is_new || redraw || keys) {
                if redraw {
                    self.shown = None;
                }
                self.learn();
                self.draw()?;
            }
            let mut inbox = self.shared.inbox();
            inbox.drawing = false;
            inbox.drawn += u64::from(is_new);
            drop(inbox);
            self.shared.changed.notify_all();
        }
    }

    /// Waits for a refresh or a key. Returns whether there is a key.
    fn wait(&mut self, with_keys: bool) -> io::Result<bool> {
        loop {
            let mut waiting = vec![PollFd::new(&self.wake, PollFlags::IN)];
            if with_keys {
                waiting.push(PollFd::new(&self.keys, PollFlags::IN));
            }
            let rest = Timespec { tv_sec: 0, tv_nsec: REST.subsec_nanos().into() };
            let timeout = self.decoder.waits().then_some(&rest);
            match poll(&mut waiting, timeout) {
                Ok(0) => {
                    if let Some(input) = self.decoder.end() {
                        self.state.input(input);
                    }
                    return Ok(true);
                }
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            let has_key = waiting.get(1).is_some_and(|fd| !fd.revents().is_empty());
            drop(waiting);
            let mut bytes = [0; 64];
            while matches!((&self.wake).read(&mut bytes), Ok(1..)) {}
            return Ok(has_key);
        }
    }

    /// Reads and handles what was typed. Returns `false` if the terminal is gone.
    fn read_keys(&mut self) -> io::Result<bool> {
        let mut waiting = [PollFd::new(&self.keys, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if !matches!(poll(&mut waiting, Some(&now)), Ok(1..)) {
            return Ok(true);
        }
        let mut bytes = [0; 4096];
        match rustix::io::read(&self.keys, &mut bytes) {
            Ok(0) | Err(Errno::IO) => Ok(false),
            Ok(length) => {
                for input in self.decoder.push(&bytes[..length]) {
                    self.state.input(input);
                }
                Ok(true)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Looks up the ancestors of the processes of an open row.
    fn learn(&mut self) {
        for process in self.state.wanted_parents() {
            let parents = parents::of(Path::new("/proc"), process);
            self.state.learn_parents(process.pid, parents);
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        let (width, height) = stdout_size().map_or((80, 24), |size| (size.cols, size.rows));
        let (width, height) = (width.min(LARGEST.0), height.min(LARGEST.1));
        self.state.resize(width, height);
        let mut next = Buffer::empty(Rect::new(0, 0, width, height));
        self.state.draw(&mut next);
        terminal::write(&terminal::changes(self.shown.as_ref(), &next)?)?;
        self.shown = Some(next);
        Ok(())
    }
}
