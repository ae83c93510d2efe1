//! Serves the page: [`Server`].
//!
//! One thread does all of it. No client can delay the program or other clients: the page is made
//! under a lock that is not held while it is sent, every step of a connection has a timeout, and if
//! there are too many connections the oldest is closed. `axum::serve` has neither timeouts nor a
//! maximum of connections; so connections are accepted here, and hyper's timeouts surround the
//! routes.

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

/// The limits of connections.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Maximum number of connections.
    connections: usize,
    /// Timeout for the complete head of a request. It starts with the connection, or with the end
    /// of the answer before, so it limits idle connections too.
    head: Duration,
    /// Lifetime of a connection. An answer that is being sent then has [`Limits::head`] to arrive,
    /// so a client that never reads does not stay for ever.
    life: Duration,
}

const LIMITS: Limits =
    Limits { connections: 64, head: Duration::from_secs(10), life: Duration::from_secs(60) };

/// How long accepting pauses if the kernel has no descriptor or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Maximum bytes of the head of a request. Longer ones are refused.
const HEAD: usize = 16 << 10;

/// Maximum age of a cached page if nothing was recorded since.
const FRESH: Duration = Duration::from_secs(1);

/// A running web server of one page. Dropping it closes all of its connections.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// State shared by the thread and the program.
#[derive(Debug)]
struct Shared {
    /// The listening address, with the real port.
    address: SocketAddr,
    history: Mutex<History>,
}

impl Server {
    /// Listens on `address`, with port 0 on any free port, and serves from now on. The history is
    /// empty until something is recorded.
    ///
    /// # Errors
    /// The address can't be listened on, or a descriptor or thread is not available.
    pub(crate) fn start(address: SocketAddr) -> Result<Server, ListenError> {
        Server::with_limits(address, LIMITS)
    }

    fn with_limits(address: SocketAddr, limits: Limits) -> Result<Server, ListenError> {
        let listen = |error| ListenError::Listen { address, error };
        let system = |what| move |error| ListenError::System { what, error };
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let real = listener.local_addr().map_err(listen)?;
        // Everything that may fail comes first: the thread can't report errors.
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
                    // Both sending and dropping end it.
                    let _ = stopped.await;
                });
                // Here the runtime ends, and with it all tasks.
            }
        });
        let thread = thread.map_err(system("a thread"))?;
        Ok(Server { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The listening address, with the real port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Adds a refresh to the history, as [`History::record`] does.
    ///
    /// It waits while a page is being made, which takes milliseconds, but never for a client.
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
            // If it panicked, it has reported it on stderr.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last page. All clients share its bytes, so neither many clients nor one that asks all the
/// time make the program's thread wait for more than one page per record.
#[derive(Default)]
struct Cache(Option<Made>);

struct Made {
    version: u64,
    at: Instant,
    page: Bytes,
}

impl Cache {
    /// The current page.
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

/// Accepts connections for ever.
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
                // No descriptors or no memory, and the connection stays in the backlog: without a
                // pause this would be a busy loop. Connections that end free some.
                sleep(PAUSE).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        // The oldest is closed: a real client has its answer by then. If new clients waited
        // instead, silent connections would lock out everyone.
        while open.len() >= limits.connections {
            let Some(oldest) = open.pop_front() else { break };
            oldest.abort();
            // Until it is closed.
            let _ = oldest.await;
        }
        open.push_back(tokio::spawn(talk(stream, routes.clone(), limits)));
    }
}

/// Whether the error is only about the connection that was to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | WouldBlock)
}

/// Answers the requests of one connection, to its end.
async fn talk(stream: tokio::net::TcpStream, routes: Router, limits: Limits) {
    // If this fails, the answer is a little late at worst.
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
