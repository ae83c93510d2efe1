//! Gives the page to whoever asks: [`Server`].
//!
//! One thread of its own does it all. Nobody who asks can hold up the program or the others: the
//! page is made under a lock that is not held while it is sent, every step of a connection has a
//! time limit, and where there are too many connections the oldest makes room. `axum::serve` has
//! neither limit: so the connections are accepted here, and hyper's timeouts are around the routes.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::history::{History, Sample};
use super::page::page;
use super::routes::routes;
use crate::listen::ListenError;
use crate::model::Snapshot;

/// What a connection may cost.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// How many there are at once.
    connections: usize,
    /// The time for the head of a request to be complete. It starts with the connection, or with
    /// the end of the answer before: so it bounds idle connections too.
    head: Duration,
    /// How long a connection is used. An answer that is under way then has [`Limits::head`] to
    /// arrive: who never reads does not stay for ever.
    life: Duration,
}

const LIMITS: Limits =
    Limits { connections: 64, head: Duration::from_secs(10), life: Duration::from_secs(60) };

/// How long nothing is accepted after the kernel had nothing to accept with.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of the head of a request. Longer ones are refused.
const HEAD: usize = 16 << 10;

/// How old a page may be that is given again while nothing was recorded.
const FRESH: Duration = Duration::from_secs(1);

/// A running web server of one page. Dropping it closes all of its connections.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and the program share.
#[derive(Debug)]
struct Shared {
    /// What is listened on, with the real port.
    address: SocketAddr,
    history: Mutex<History>,
}

impl Server {
    /// Listens on `address`, port 0 for any that is free, and serves from now on: an empty history
    /// until something is recorded.
    ///
    /// # Errors
    /// The address can't be listened on, or there is no descriptor or thread to be had.
    pub(crate) fn start(address: SocketAddr) -> Result<Server, ListenError> {
        Server::with_limits(address, LIMITS)
    }

    fn with_limits(address: SocketAddr, limits: Limits) -> Result<Server, ListenError> {
        let listen = |error| ListenError::Listen { address, error };
        let system = |what| move |error| ListenError::System { what, error };
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let real = listener.local_addr().map_err(listen)?;
        // All that may fail comes first: the thread has nobody to tell.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(system("a readiness queue"))?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(system("a readiness queue"))?
        };
        let shared = Arc::new(Shared { address: real, history: Mutex::default() });
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("serve".to_owned()).spawn({
            let shared = shared.clone();
            move || {
                runtime.block_on(async {
                    tokio::spawn(accept(listener, shared, limits));
                    // Sent or dropped, it is the end either way.
                    let _ = stopped.await;
                });
                // Here the runtime goes, and with it whatever waits in it.
            }
        });
        let thread = thread.map_err(system("a thread"))?;
        Ok(Server { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The address that is listened on, with the real port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Adds a refresh to what is shown, as [`History::record`] does.
    ///
    /// It waits for a page that is being made, which takes milliseconds, but never for a client.
    pub(crate) fn record(&self, snapshot: &Snapshot) {
        let rows = snapshot.rows.iter().filter(|row| !row.account.recent.is_zero());
        let samples = rows.map(|row| Sample {
            name: &row.name,
            recent: row.account.recent,
            total: row.account.total,
        });
        self.shared.history().record(snapshot.instant, snapshot.elapsed, samples);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // If it panicked, it has said so on stderr.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The page that was made last. All who ask share its bytes, so neither many clients nor one that
/// asks all the time make the program's thread wait for more than a page per record.
#[derive(Default)]
struct Cache(Option<Made>);

struct Made {
    version: u64,
    at: Instant,
    page: Bytes,
}

impl Cache {
    /// The page, as of now.
    fn page(&mut self, shared: &Shared) -> Bytes {
        let now = Instant::now();
        let history = shared.history();
        let version = history.version();
        if let Some(made) = &self.0
            && made.version == version
            && now.saturating_duration_since(made.at) < FRESH
        {
            return made.page.clone();
        }
        let page = Bytes::from(page(&history, now));
        self.0 = Some(Made { version, at: now, page: page.clone() });
        page
    }
}

/// Accepts for ever.
async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>, limits: Limits) {
    let cache = Arc::new(Mutex::new(Cache::default()));
    let routes = routes(shared.address, move || {
        cache.lock().unwrap_or_else(PoisonError::into_inner).page(&shared)
    });
    let mut open: VecDeque<tokio::task::JoinHandle<()>> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(_) => {
                // No descriptors or no memory, and the connection stays where it is: to try again
                // at once would be to do nothing else. Ours that end give some back.
                sleep(PAUSE).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        // The oldest makes room. Whoever asks in earnest has long been answered; if newcomers
        // waited instead, those who open connections and say nothing would lock out everybody.
        while open.len() >= limits.connections {
            let Some(oldest) = open.pop_front() else { break };
            oldest.abort();
            // Until it is closed.
            let _ = oldest.await;
        }
        open.push_back(tokio::spawn(talk(stream, routes.clone(), limits)));
    }
}

/// Whether only the connection that was to be accepted is gone.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | WouldBlock)
}

/// Answers what comes through one connection, to its end.
async fn talk(stream: tokio::net::TcpStream, routes: Router, limits: Limits) {
    // Without it the answer is a little late at worst.
    let _ = stream.set_nodelay(true);
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(HEAD)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
    );
    // How a connection ended is its client's affair: errors are malformed requests, time that ran
    // out, and clients that left.
    if timeout(limits.life, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(limits.head, connection).await;
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
