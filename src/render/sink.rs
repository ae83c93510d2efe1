//! Writes refreshes in a thread of their own, so that a slow reader delays nothing else.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Refreshes that may wait in a stream. A thread that is late for a moment loses none.
const STREAM: usize = 64;
/// Refreshes that may wait for a screen, where only the newest is of interest.
const SCREEN: usize = 1;
/// Bytes that may wait, apart from the newest refresh.
const BYTES: usize = 16 << 20;

/// An item to write.
pub(crate) trait Frame: Send + 'static {
    /// Approximate bytes of memory that it takes while it waits.
    fn weight(&self) -> usize;
}

/// Writes refreshes one after the other, each as a whole.
///
/// If they come faster than they are written, the oldest waiting ones are dropped. So the reader gets only whole
/// refreshes, and always the newest.
#[derive(Debug)]
pub(crate) struct Sink<F> {
    shared: Arc<Shared<F>>,
    room: usize,
}

#[derive(Debug)]
struct Shared<F> {
    state: Mutex<Queue<F>>,
    /// Signals that something was taken or written.
    changed: Condvar,
}

#[derive(Debug)]
struct Queue<F> {
    /// Waiting items, with their weights.
    waiting: VecDeque<(usize, F)>,
    weight: usize,
    /// Whether one is being written.
    writing: bool,
    /// Number of items written, or failed.
    done: u64,
    left_out: u64,
    error: Option<io::Error>,
    /// Whether no more items come.
    ended: bool,
    /// Whether the reader has left.
    closed: bool,
}

impl<F: Frame> Sink<F> {
    /// Starts the thread that writes to `out`: a screen that each refresh clears, or a stream. `format` gives the bytes
    /// of a refresh. `failed` is called when a write fails; [`Sink::take_error`] then has the reason. The thread calls
    /// both.
    ///
    /// # Errors
    /// The thread can't be started.
    pub(crate) fn start(
        out: impl Write + Send + 'static,
        is_screen: bool,
        format: impl FnMut(F) -> Vec<u8> + Send + 'static,
        failed: impl FnMut() + Send + 'static,
    ) -> io::Result<Sink<F>> {
        let state = Queue {
            waiting: VecDeque::new(),
            weight: 0,
            writing: false,
            done: 0,
            left_out: 0,
            error: None,
            ended: false,
            closed: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let writer = shared.clone();
        let work = move || write_all(out, &writer, format, failed);
        thread::Builder::new().name("output".to_owned()).spawn(work)?;
        Ok(Sink { shared, room: if is_screen { SCREEN } else { STREAM } })
    }

    /// Queues one refresh; never waits.
    pub(crate) fn show(&self, frame: F) {
        let weight = frame.weight();
        let mut state = self.shared.state();
        if state.closed {
            return;
        }
        state.weight += weight;
        state.waiting.push_back((weight, frame));
        while state.waiting.len() > 1 && (state.waiting.len() > self.room || state.weight > BYTES) {
            state.take();
            state.left_out += 1;
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Number of refreshes dropped since the last call.
    pub(crate) fn take_left_out(&self) -> u64 {
        std::mem::take(&mut self.shared.state().left_out)
    }

    /// The error of a failed write since the last call. After a broken pipe nothing more is written.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        self.shared.state().error.take()
    }

    /// Waits until everything queued is written or has failed, or until nothing was written for `patience`.
    /// Returns whether everything is done.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let is_busy = |state: &Queue<F>| state.writing || !state.waiting.is_empty();
        wait_while(self.shared.state(), &self.shared.changed, patience, is_busy, |state| state.done)
    }
}

/// Waits while a writer is busy, but not once it made no progress for `patience`. Returns whether
/// it is idle.
pub(crate) fn wait_while<T>(
    mut state: MutexGuard<'_, T>,
    changed: &Condvar,
    patience: Duration,
    is_busy: impl Fn(&T) -> bool,
    done: impl Fn(&T) -> u64,
) -> bool {
    let (mut before, mut deadline) = (done(&state), Instant::now() + patience);
    while is_busy(&state) {
        let now = done(&state);
        if now != before {
            (before, deadline) = (now, Instant::now() + patience);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        state = changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    true
}

/// The thread ends when all is written.
impl<F> Drop for Sink<F> {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.shared.changed.notify_all();
    }
}

impl<F> Queue<F> {
    /// Takes the oldest waiting item.
    fn take(&mut self) -> Option<F> {
        let (weight, frame) = self.waiting.pop_front()?;
        self.weight -= weight;
        Some(frame)
    }
}

impl<F> Shared<F> {
    fn state(&self) -> MutexGuard<'_, Queue<F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_all<F>(
    mut out: impl Write,
    shared: &Shared<F>,
    mut format: impl FnMut(F) -> Vec<u8>,
    mut failed: impl FnMut(),
) {
    let mut state = shared.state();
    loop {
        let Some(frame) = state.take() else {
            if state.ended {
                return;
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        state.writing = true;
        drop(state);
        // One write for all: a terminal that receives the clear sequence and the lines in separate writes
        // flickers. A panic in the writing has printed its message; everything else continues without it.
        let formatted = panic::catch_unwind(AssertUnwindSafe(|| format(frame)));
        let formatted = formatted.map_err(|_| io::Error::other("a refresh can't be formatted"));
        let written = formatted.and_then(|bytes| out.write_all(&bytes)).and_then(|()| out.flush());
        state = shared.state();
        state.writing = false;
        state.done += 1;
        let broken = written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        if broken {
            state.closed = true;
            state.waiting.clear();
            state.weight = 0;
        }
        if let Err(error) = written {
            state.error = Some(error);
            drop(state);
            failed();
            state = shared.state();
        }
        shared.changed.notify_all();
        if broken {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::until::until;

    impl Frame for Vec<u8> {
        fn weight(&self) -> usize {
            self.len()
        }
    }

    /// A reader who takes a write each time the test says so.
    struct Slow {
        go: Receiver<io::Result<()>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.go.recv().unwrap_or(Ok(()))?;
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Test {
        sink: Sink<Vec<u8>>,
        go: Sender<io::Result<()>>,
        written: Receiver<Vec<u8>>,
        failures: Arc<AtomicUsize>,
    }

    fn start(is_screen: bool) -> Test {
        let ((go, may), (done, written)) = (channel(), channel());
        let failures = Arc::new(AtomicUsize::new(0));
        let failed = {
            let failures = failures.clone();
            move || {
                failures.fetch_add(1, Ordering::Relaxed);
            }
        };
        let sink =
            Sink::start(Slow { go: may, written: done }, is_screen, |frame| frame, failed).unwrap();
        Test { sink, go, written, failures }
    }

    /// Gives a refresh that is being written from now on.
    fn occupy(test: &Test) {
        test.sink.show(b"first".to_vec());
        until("it is being written", || test.sink.shared.state().writing.then_some(()));
    }

    fn number(number: usize) -> Vec<u8> {
        number.to_string().into_bytes()
    }

    /// Counts writes and flushes.
    #[derive(Clone, Default)]
    struct Counting(Arc<Mutex<(Vec<u8>, usize, usize)>>);

    impl Write for Counting {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut counts = self.0.lock().unwrap();
            counts.0.extend_from_slice(bytes);
            counts.1 += 1;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.lock().unwrap().2 += 1;
            Ok(())
        }
    }

    #[test]
    fn a_refresh_is_one_write() {
        let out = Counting::default();
        let sink = Sink::start(out.clone(), false, |frame| frame, || ()).unwrap();
        sink.show(b"a\nb\n".to_vec());
        assert!(sink.wait(Duration::from_secs(60)));
        assert_eq!(*out.0.lock().unwrap(), (b"a\nb\n".to_vec(), 1, 1));
    }

    #[test]
    fn a_screen_that_is_stopped_gets_the_newest_when_it_goes_on() {
        let test = start(true);
        occupy(&test);
        (0..1000).for_each(|at| test.sink.show(number(at)));
        assert_eq!(test.sink.take_left_out(), 999);
        assert!(!test.sink.wait(Duration::from_millis(1)));
        drop(test.go);
        assert!(test.sink.wait(Duration::from_secs(60)));
        assert_eq!(test.written.try_iter().collect::<Vec<_>>(), [b"first".to_vec(), number(999)]);
    }

    #[test]
    fn a_stream_loses_whole_refreshes_and_the_oldest() {
        let test = start(false);
        occupy(&test);
        (0..STREAM + 2).for_each(|at| test.sink.show(number(at)));
        assert_eq!(test.sink.take_left_out(), 2);
        assert_eq!(test.sink.take_left_out(), 0);
        drop(test.go);
        assert!(test.sink.wait(Duration::from_secs(60)));
        let rest: Vec<Vec<u8>> = test.written.try_iter().skip(1).collect();
        assert_eq!(rest, (2..STREAM + 2).map(number).collect::<Vec<_>>());
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_but_the_newest_stays() {
        let test = start(false);
        occupy(&test);
        test.sink.show(vec![b'a'; 1]);
        test.sink.show(vec![b'b'; BYTES + 1]);
        assert_eq!(test.sink.take_left_out(), 1);
        drop(test.go);
        assert!(test.sink.wait(Duration::from_secs(60)));
        assert_eq!(test.written.try_iter().map(|frame| frame.len()).max(), Some(BYTES + 1));
    }

    #[test]
    fn a_full_disk_is_told_and_the_next_refresh_is_written() {
        let test = start(false);
        test.go.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        test.go.send(Ok(())).unwrap();
        test.sink.show(number(1));
        test.sink.show(number(2));
        assert!(test.sink.wait(Duration::from_secs(60)));
        assert_eq!(test.failures.load(Ordering::Relaxed), 1);
        assert_eq!(test.sink.take_error().unwrap().kind(), io::ErrorKind::StorageFull);
        assert!(test.sink.take_error().is_none());
        assert_eq!(test.written.try_iter().collect::<Vec<_>>(), [number(2)]);
    }

    #[test]
    fn nothing_waits_for_a_reader_who_left() {
        let test = start(false);
        test.go.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        test.sink.show(number(1));
        until("it is told", || (test.failures.load(Ordering::Relaxed) > 0).then_some(()));
        test.sink.show(number(2));
        assert!(test.sink.wait(Duration::ZERO), "nothing is to be written any more");
        assert_eq!(test.sink.take_error().unwrap().kind(), io::ErrorKind::BrokenPipe);
    }
}
