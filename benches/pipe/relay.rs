//! A forwarder on realm's own library, doing what realm does.

use std::io;
use std::net::Ipv4Addr;

use tokio::net::{TcpListener, TcpStream};

const EINVAL: i32 = 22;

/// Forwards from one port to another until it is killed.
pub(crate) fn serve(port: u16, remote: u16) -> anyhow::Result<()> {
    // As many threads as there are cores.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // On a worker, as realm has it: the thread that waits here would be a third one.
    runtime.block_on(runtime.spawn(accept(port, remote)))?
}

async fn accept(port: u16, remote: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    loop {
        let (local, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A connection that fails is the client's to notice.
            let _ = forward(local, remote).await;
        });
    }
}

async fn forward(mut local: TcpStream, remote: u16) -> io::Result<()> {
    let _ = local.set_nodelay(true);
    let mut remote = TcpStream::connect((Ipv4Addr::LOCALHOST, remote)).await?;
    let _ = remote.set_nodelay(true);
    match realm_io::bidi_zero_copy(&mut local, &mut remote).await {
        Err(error) if error.raw_os_error() == Some(EINVAL) => {
            realm_io::bidi_copy(&mut local, &mut remote).await.map(drop)
        }
        outcome => outcome.map(drop),
    }
}
