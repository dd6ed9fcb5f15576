//! A real HTTP app on a Unix socket, as uvicorn would be.

use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, channel::Channel, combinators::BoxBody};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jasaweb_rt_core::{app_address::AppAddress, config::Config};
use tokio::{
    net::UnixListener,
    task::{JoinHandle, JoinSet},
};

use super::{Door, config};

pub(crate) type AppBody = BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A folder that goes with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("jasaweb-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("app.sock")
    }

    pub(crate) fn address(&self) -> AppAddress {
        AppAddress::Unix(self.socket())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running app; dropping it ends every connection at once, as a killed process would.
pub(crate) struct App {
    pub(crate) connections: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
    path: PathBuf,
}

impl App {
    /// Serves `path` with `handler`.
    pub(crate) fn start<H, F>(path: PathBuf, handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<AppBody>> + Send + 'static,
    {
        let listener = UnixListener::bind(&path).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let serving = tokio::spawn(serve(listener, handler, Arc::clone(&connections)));
        Self { connections, serving, path }
    }

    /// How many connections it has accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Ends it and waits until its sockets are closed.
    pub(crate) async fn kill(mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.serving.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Accepts for ever; the connections end with it.
pub(crate) async fn serve<H, F>(listener: UnixListener, handler: H, accepted: Arc<AtomicUsize>)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<AppBody>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        accepted.fetch_add(1, Ordering::SeqCst);
        let handler = handler.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let response = handler(request);
                async move { Ok::<_, Infallible>(response.await) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// A whole body.
pub(crate) fn full(bytes: impl Into<Bytes>) -> AppBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body that is written piece by piece; at most one piece waits.
pub(crate) fn piecewise() -> (http_body_util::channel::Sender<Bytes, std::io::Error>, AppBody) {
    let (sender, body) = Channel::new(1);
    (sender, body.map_err(Into::into).boxed())
}

/// Says what it got: method, target, and headers one a line, sorted; then the body.
pub(crate) async fn echo(request: Request<Incoming>) -> Response<AppBody> {
    let (head, body) = request.into_parts();
    let mut headers: Vec<String> =
        head.headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
    headers.sort();
    let body = body.collect().await.unwrap().to_bytes();
    let text = format!("{} {} {:?}\n{}\n", head.method, head.uri, head.version, headers.concat());
    Response::new(full([text.as_bytes(), &body].concat()))
}

/// A front door before the app on the socket in `folder`.
pub(crate) fn door_to(folder: &Folder) -> Door {
    Door::open(Config { app: Some(folder.address()), ..config() })
}
