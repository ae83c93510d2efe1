//! Sets the terminal up for the screen, and restores it, whatever happens.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::buffer::Buffer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// The alternate screen, no cursor, and the buttons of the mouse as `SGR` sequences.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?1000h\x1b[?1006h";
/// All of that back, and no colour.
const LEAVE: &[u8] = b"\x1b[?1006l\x1b[?1000l\x1b[0m\x1b[?25h\x1b[?1049l";
/// A terminal that knows it shows what is between these at once.
const BEGIN: &[u8] = b"\x1b[?2026h";
const END: &[u8] = b"\x1b[?2026l";
const CLEAR: &[u8] = b"\x1b[0m\x1b[2J";

/// How long restoring waits for a terminal that is not read.
const PATIENCE: Duration = Duration::from_millis(250);

/// A terminal that was set up, and how it was before.
struct Entered {
    keys: OwnedFd,
    before: Termios,
}

/// The terminal, while the screen has it. A panic and a signal have to find it.
static ENTERED: Mutex<Option<Entered>> = Mutex::new(None);
/// Held while something is written to the terminal.
static WRITING: Mutex<()> = Mutex::new(());

fn entered() -> MutexGuard<'static, Option<Entered>> {
    ENTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why there can be no screen.
///
/// # Errors
/// Standard output is no terminal, or none that has a screen, or no terminal sends keys.
pub(crate) fn check() -> Result<(), String> {
    let term = std::env::var_os("TERM").unwrap_or_default();
    if !io::stdout().is_terminal() {
        return Err(
            "--top needs a terminal, and standard output is none; without --top it can be any file"
                .into(),
        );
    }
    if !crate::render::terminal::can_be_cleared(&term) {
        let term = if term.is_empty() { "not set".into() } else { term.to_string_lossy() };
        return Err(format!(
            "--top needs a terminal with a screen, and TERM is {term}; set TERM, or leave --top out"
        ));
    }
    keys().map(drop).map_err(|error| {
        format!(
            "--top needs a terminal that sends keys: standard input is none, and /dev/tty: {error}"
        )
    })
}

/// The terminal that sends keys: standard input, or the controlling terminal.
pub(super) fn keys() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    match stdin.is_terminal() {
        true => stdin.as_fd().try_clone_to_owned(),
        false => Ok(tty()?.into()),
    }
}

fn tty() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty")
}

/// Whether the screen has the terminal.
pub(crate) fn is_entered() -> bool {
    entered().is_some()
}

/// Sets the terminal up. Once more does no harm: another program may have changed it meanwhile.
///
/// Signals of keys (Ctrl-C, Ctrl-Z) stay signals, so that they work even if nothing else does; the one that dumps
/// core does not.
///
/// # Errors
/// There is no terminal that sends keys, or it can't be set.
pub(crate) fn enter() -> io::Result<()> {
    let mut slot = entered();
    let (keys, before) = match slot.take() {
        Some(Entered { keys, before }) => (keys, before),
        None => {
            let keys = keys()?;
            let before = tcgetattr(&keys)?;
            (keys, before)
        }
    };
    let mut modes = before.clone();
    modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::IEXTEN;
    modes.input_modes -= InputModes::ICRNL | InputModes::IXON;
    modes.special_codes[SpecialCodeIndex::VQUIT] = 0;
    modes.special_codes[SpecialCodeIndex::VMIN] = 1;
    modes.special_codes[SpecialCodeIndex::VTIME] = 0;
    tcsetattr(&keys, OptionalActions::Now, &modes)?;
    *slot = Some(Entered { keys, before });
    drop(slot);
    write_if_read(ENTER);
    Ok(())
}

/// Restores the terminal; nothing if it is not set up. From any thread.
pub(crate) fn leave() {
    let Some(Entered { keys, before }) = entered().take() else { return };
    // Nothing is drawn from now on. What is being drawn comes first, unless the terminal is not read.
    let deadline = Instant::now() + PATIENCE;
    let writing = loop {
        match WRITING.try_lock() {
            Ok(guard) => break Some(guard),
            Err(TryLockError::Poisoned(guard)) => break Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => break None,
        }
    };
    if writing.is_some() {
        write_if_read(LEAVE);
    }
    let _ = tcsetattr(&keys, OptionalActions::Now, &before);
}

/// Writes a few bytes if the terminal takes them soon.
fn write_if_read(bytes: &[u8]) {
    let stdout = io::stdout();
    let mut waiting = [PollFd::new(&stdout, PollFlags::OUT)];
    let timeout = Timespec { tv_sec: 0, tv_nsec: PATIENCE.subsec_nanos().into() };
    if matches!(poll(&mut waiting, Some(&timeout)), Ok(1..)) {
        // Not through the standard library, whose lock a thread that is stuck may hold.
        let _ = rustix::io::write(&stdout, bytes);
    }
}

/// The changes from one screen to the next, as bytes for the terminal. All of it if there is none before.
pub(super) fn changes(before: Option<&Buffer>, next: &Buffer) -> io::Result<Vec<u8>> {
    let mut bytes = BEGIN.to_vec();
    let blank = Buffer::empty(next.area);
    let before = before.filter(|before| before.area == next.area);
    if before.is_none() {
        bytes.extend_from_slice(CLEAR);
    }
    let cells = before.unwrap_or(&blank).diff(next);
    CrosstermBackend::new(&mut bytes).draw(cells.into_iter())?;
    bytes.extend_from_slice(END);
    Ok(bytes)
}

/// Writes bytes to the terminal while the screen has it; waits as long as nobody reads it.
///
/// # Errors
/// It can't be written.
pub(super) fn write(mut bytes: &[u8]) -> io::Result<()> {
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let stdout = io::stdout();
    while !bytes.is_empty() && is_entered() {
        match rustix::io::write(&stdout, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut waiting = [PollFd::new(&stdout, PollFlags::OUT)];
                let _ = poll(&mut waiting, None);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// A panic shows its message on the terminal as it was before.
pub(super) fn restore_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        leave();
        before(info);
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use ratatui::layout::Rect;
    use ratatui::style::Style;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    /// Is run on a terminal by the test below.
    #[test]
    #[ignore = "it panics, on a terminal of its own"]
    fn panics_on_a_terminal() {
        restore_on_panic();
        enter().unwrap();
        write(b"drawn").unwrap();
        panic!("it has failed");
    }

    #[test]
    fn a_panic_is_told_on_the_terminal_as_it_was_before() {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let tty = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let before = tcgetattr(&tty).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", "--test-threads=1"]);
        command.arg("screen::terminal::tests::panics_on_a_terminal");
        let [stdin, stdout, stderr] = [(); 3].map(|()| tty.try_clone().unwrap());
        let status = command.stdin(stdin).stdout(stdout).stderr(stderr).status().unwrap();
        assert!(!status.success(), "it has run");
        let after = tcgetattr(&tty).unwrap();
        assert_eq!(after.local_modes, before.local_modes);
        assert_eq!(after.input_modes, before.input_modes);
        let mut bytes = [0; 4096];
        let length = rustix::io::read(&terminal, &mut bytes[..]).unwrap();
        let shown = String::from_utf8_lossy(&bytes[..length]).into_owned();
        let [enter, leave] = [ENTER, LEAVE].map(|of| str::from_utf8(of).unwrap());
        let places = [enter, "drawn", leave, "it has failed"].map(|text| shown.find(text));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}: {shown:?}");
    }

    #[test]
    fn what_has_not_changed_is_not_written() {
        let mut one = Buffer::empty(Rect::new(0, 0, 20, 2));
        one.set_string(0, 0, "abc", Style::new());
        let all = String::from_utf8(changes(None, &one).unwrap()).unwrap();
        assert!(all.contains("\x1b[2J") && all.contains("abc"), "{all:?}");
        let nothing = changes(Some(&one), &one).unwrap();
        assert!(nothing.len() < 40, "{nothing:?}");
        let mut two = one.clone();
        two.set_string(1, 1, "x", Style::new());
        let some = String::from_utf8(changes(Some(&one), &two).unwrap()).unwrap();
        assert!(some.contains("\x1b[2;2Hx") && !some.contains("abc"), "{some:?}");
        let bigger = Buffer::empty(Rect::new(0, 0, 30, 2));
        let all = String::from_utf8(changes(Some(&one), &bigger).unwrap()).unwrap();
        assert!(all.contains("\x1b[2J"), "{all:?}");
    }
}
