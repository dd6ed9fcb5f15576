//! Connections to the app, as the HTTP client's pool wants them.

use std::{
    future::Future,
    io,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    Uri,
    http::Extensions,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{
    net::{TcpStream, UnixStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_util::either::Either;
use tower_service::Service;

use crate::app_address::AppAddress;

/// How long a full backlog is waited for. A Unix socket's `connect` does not wait by itself when it is non-blocking: it
/// fails at once with `EAGAIN`.
const BACKLOG_PATIENCE: Duration = Duration::from_secs(1);
const BACKLOG_PAUSE: Duration = Duration::from_millis(5);

/// Time to look a host up and to reach it: so long a first packet that was lost is sent again twice.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens connections to one app, whatever the URI says.
#[derive(Debug, Clone)]
pub(crate) struct AppConnector {
    address: Arc<AppAddress>,
}

impl AppConnector {
    pub(crate) fn new(address: AppAddress) -> Self {
        Self { address: Arc::new(address) }
    }
}

impl Service<Uri> for AppConnector {
    type Response = AppStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<AppStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = Arc::clone(&self.address);
        Box::pin(async move {
            let socket = match &*address {
                AppAddress::Unix(path) => Either::Left(connect_unix(path).await?),
                AppAddress::Tcp { host, port } => Either::Right(connect_tcp(host, *port).await?),
            };
            Ok(AppStream { socket: TokioIo::new(socket), answered: Answered::default() })
        })
    }
}

async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let give_up = Instant::now() + BACKLOG_PATIENCE;
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < give_up => {
                tokio::time::sleep(BACKLOG_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

async fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<_> = timeout(CONNECT_TIMEOUT, lookup_host((host, port))).await??.collect();
    // One that swallows everything leaves the others their part of the time.
    let each = CONNECT_TIMEOUT / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match timeout(each, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = error,
            Err(elapsed) => failure = elapsed.into(),
        }
    }
    Err(failure)
}

/// Whether the app has answered a request on a connection, which then came from the pool for the next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answered(Arc<AtomicBool>);

impl Answered {
    /// Notes it for the connection that `extensions` of a response tell of.
    pub(crate) fn note(extensions: &Extensions) {
        if let Some(Self(answered)) = extensions.get() {
            answered.store(true, Ordering::Relaxed);
        }
    }

    /// Whether this is so for the connection that `info` tells of.
    pub(crate) fn on(info: &Connected) -> bool {
        let mut extensions = Extensions::new();
        info.get_extras(&mut extensions);
        extensions.get().is_some_and(|Self(answered)| answered.load(Ordering::Relaxed))
    }
}

/// One connection to the app.
#[derive(Debug)]
pub(crate) struct AppStream {
    socket: TokioIo<Either<UnixStream, TcpStream>>,
    answered: Answered,
}

impl Connection for AppStream {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.answered.clone())
    }
}

impl Read for AppStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl Write for AppStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }
}
