//! Kernel pipes, through which splice(2) moves bytes without copying them.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

/// Requested capacity in bytes. A larger one gains nothing: it exceeds the receiver's cache.
const CAPACITY: usize = 256 << 10;

/// Number of empty kernel pipes that a worker keeps. More may be borrowed at a time.
const KEPT: usize = 8;

/// Number of a worker's connections that may hold bytes in a kernel pipe at a time. Each costs two
/// descriptors and up to [`CAPACITY`] of the kernel's memory while its reader is slow. A connection
/// without one copies.
const BORROWED: usize = 64;

/// A kernel pipe with `held` bytes in it.
#[derive(Debug)]
pub(super) struct KernelPipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
    held: usize,
}

impl KernelPipe {
    fn new() -> Result<KernelPipe, Errno> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // An unprivileged user has a limit for all pipes; a small pipe works as well.
        let capacity = fcntl_setpipe_size(&write, CAPACITY)
            .or_else(|_| fcntl_getpipe_size(&write))
            .unwrap_or(4096);
        Ok(KernelPipe { read, write, capacity, held: 0 })
    }

    /// Bytes that are in it.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Moves up to `limit` bytes from a socket into the empty pipe; 0 at the end of the stream.
    ///
    /// The pipe has to be empty, so that `AGAIN` can only mean an empty socket.
    pub(super) fn fill(&mut self, socket: &OwnedFd, limit: usize) -> Result<usize, Errno> {
        debug_assert_eq!(self.held, 0, "a pipe with bytes in it");
        let limit = limit.min(self.capacity);
        let moved = splice(socket, None, &self.write, None, limit, SpliceFlags::NONBLOCK)?;
        self.held = moved;
        Ok(moved)
    }

    /// Moves its bytes into a socket, as far as that takes them.
    pub(super) fn drain(&mut self, socket: &OwnedFd) -> Result<usize, Errno> {
        let moved = splice(&self.read, None, socket, None, self.held, SpliceFlags::NONBLOCK)?;
        self.held -= moved;
        Ok(moved)
    }
}

/// The kernel pipes of a worker.
#[derive(Debug, Default)]
#[allow(clippy::vec_box, reason = "a connection holds it as a box: moving it allocates nothing")]
pub(super) struct Pool {
    kept: Vec<Box<KernelPipe>>,
    borrowed: usize,
}

impl Pool {
    /// An empty pipe, if one is available.
    pub(super) fn borrow(&mut self) -> Option<Box<KernelPipe>> {
        if self.borrowed >= BORROWED {
            return None;
        }
        let pipe = match self.kept.pop() {
            Some(pipe) => pipe,
            None => Box::new(KernelPipe::new().ok()?),
        };
        self.borrowed += 1;
        Some(pipe)
    }

    /// Takes a pipe back and discards its bytes.
    pub(super) fn give_back(&mut self, pipe: Box<KernelPipe>) {
        self.borrowed -= 1;
        if pipe.held == 0 && self.kept.len() < KEPT {
            self.kept.push(pipe);
        }
    }

    /// Closes unused pipes, which frees descriptors.
    pub(super) fn shrink(&mut self) {
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    #[test]
    fn bytes_go_through_and_the_pipe_knows_how_many() {
        let (mut from, into) = pair();
        let (out, mut to) = pair();
        into.set_nonblocking(true).unwrap();
        let (into, out) = (OwnedFd::from(into), OwnedFd::from(out));
        let mut pool = Pool::default();
        let mut pipe = pool.borrow().unwrap();
        assert_eq!(pipe.fill(&into, 100), Err(Errno::AGAIN));
        from.write_all(b"hello").unwrap();
        assert_eq!(pipe.fill(&into, 100), Ok(5));
        assert_eq!(pipe.drain(&out), Ok(5));
        assert_eq!(pipe.held(), 0);
        let mut got = [0; 5];
        to.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        // Closing alone says nothing while a child that another test forks holds the socket, too.
        from.shutdown(Shutdown::Write).unwrap();
        assert_eq!(pipe.fill(&into, 100), Ok(0));
        pool.give_back(pipe);
        assert_eq!((pool.kept.len(), pool.borrowed), (1, 0));
    }

    #[test]
    fn only_empty_pipes_are_kept_and_only_so_many_borrowed() {
        let (mut from, into) = pair();
        from.write_all(b"left").unwrap();
        let into = OwnedFd::from(into);
        let mut pool = Pool::default();
        let mut pipe = pool.borrow().unwrap();
        assert_eq!(pipe.fill(&into, 100), Ok(4));
        pool.give_back(pipe);
        assert!(pool.kept.is_empty());

        let all: Vec<_> = std::iter::from_fn(|| pool.borrow()).collect();
        assert_eq!(all.len(), BORROWED);
        all.into_iter().for_each(|pipe| pool.give_back(pipe));
        assert_eq!((pool.kept.len(), pool.borrowed), (KEPT, 0));
        pool.shrink();
        assert!(pool.kept.is_empty());
    }
}
