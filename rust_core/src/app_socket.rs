//! Connections to the app's Unix socket, as the HTTP client's pool wants them.

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    Uri,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{net::UnixStream, time::Instant};
use tower_service::Service;

/// How long a full backlog is waited for. A Unix socket's `connect` does not wait by itself when it is non-blocking: it
/// fails at once with `EAGAIN`.
const BACKLOG_PATIENCE: Duration = Duration::from_secs(1);
const BACKLOG_PAUSE: Duration = Duration::from_millis(5);

/// Opens connections to one Unix socket, whatever the URI says.
#[derive(Debug, Clone)]
pub(crate) struct AppConnector {
    path: Arc<Path>,
}

impl AppConnector {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path: path.into() }
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
        let path = Arc::clone(&self.path);
        Box::pin(async move { Ok(AppStream(TokioIo::new(connect(&path).await?))) })
    }
}

async fn connect(path: &Path) -> io::Result<UnixStream> {
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

/// One connection to the app.
#[derive(Debug)]
pub(crate) struct AppStream(TokioIo<UnixStream>);

impl Connection for AppStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for AppStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for AppStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }
}
