//! Load: a busy loop for each processor, at the priority of everything else.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use crate::programs::short;

/// The seconds after which a loop ends by itself, whatever becomes of the process that started it.
const LIFE: u32 = 300;

/// Busy loops that end when it is dropped.
pub struct Busy {
    loops: Vec<Child>,
}

impl Busy {
    /// The loops of this test process, which share the processors with every workload that plays meanwhile.
    pub fn shared() -> Arc<Busy> {
        static CURRENT: Mutex<Weak<Busy>> = Mutex::new(Weak::new());
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        current.upgrade().unwrap_or_else(|| {
            let busy = Arc::new(Busy::start());
            *current = Arc::downgrade(&busy);
            busy
        })
    }

    /// As `shared`, where the environment asks for it.
    pub fn where_asked() -> Option<Arc<Busy>> {
        let asked = std::env::var_os("BWMON_BUSY").is_some_and(|value| value == "1");
        asked.then(Busy::shared)
    }

    fn start() -> Busy {
        let processors = thread::available_parallelism().unwrap().get();
        let start = |_| {
            let mut command = Command::new(short());
            command.args(["hog", "hog", &format!("life={LIFE}")]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
        };
        Busy { loops: (0..processors).map(start).collect() }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for hog in &mut self.loops {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}
