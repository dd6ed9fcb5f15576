//! A client that writes and reads HTTP/1.1 as bytes, so that it can also do what no good client does.

use std::{collections::VecDeque, net::SocketAddr};

use bytes::{Buf as _, BytesMut};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::within;

/// A response's head.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) version: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Every value of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a field that is there at most once.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} is there {} times", values.len());
        values.first().copied()
    }
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Response {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The sentence of an error, whose shape is checked.
    pub(crate) fn error(&self) -> String {
        assert_eq!(self.head.get("content-type"), Some("application/json"));
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["success"], Value::Bool(false));
        assert_eq!(body.as_object().unwrap().len(), 2);
        body["error"].as_str().unwrap().to_owned()
    }
}

/// One connection, or the reading half of one.
pub(crate) struct Client<R = TcpStream> {
    pub(crate) stream: R,
    buffer: BytesMut,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = within(TcpStream::connect(address)).await.unwrap();
        // What the other side does to it shows with the next write, and not when that is sent.
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: BytesMut::new() }
    }

    /// The two directions, to be used at the same time; what was read already stays with the reading one.
    pub(crate) fn split(self) -> (Client<OwnedReadHalf>, OwnedWriteHalf) {
        let (reading, writing) = self.stream.into_split();
        (Client { stream: reading, buffer: self.buffer }, writing)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.stream.write_all(bytes.as_ref())).await.unwrap();
        within(self.stream.flush()).await.unwrap();
    }

    /// A request without a body, and its response.
    pub(crate) async fn get(&mut self, target: &str, headers: &[(&str, &str)]) -> Response {
        self.send(request("GET", target, headers)).await;
        self.response().await
    }

    /// A WebSocket handshake, and the head of its response.
    pub(crate) async fn upgrade(&mut self, target: &str, headers: &[(&str, &str)]) -> Head {
        self.send(handshake(target, headers)).await;
        self.head().await
    }

    /// A WebSocket handshake that is refused, and the answer.
    pub(crate) async fn refused(&mut self, target: &str, headers: &[(&str, &str)]) -> Response {
        self.send(handshake(target, headers)).await;
        self.response().await
    }
}

impl<R: AsyncRead + Unpin> Client<R> {
    pub(crate) fn over(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    pub(crate) async fn head(&mut self) -> Head {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            assert!(self.fill().await > 0, "the connection ended within a head: {:?}", self.buffer);
        };
        let text = String::from_utf8(self.buffer.split_to(end + 4).to_vec()).unwrap();
        let mut lines: VecDeque<&str> = text.trim_end().split("\r\n").collect();
        let status_line = lines.pop_front().unwrap();
        let (version, rest) = status_line.split_once(' ').unwrap();
        Head {
            status: rest[..3].parse().unwrap(),
            version: version.to_owned(),
            headers: lines.into_iter().map(field).collect(),
        }
    }

    /// The response to anything but HEAD.
    pub(crate) async fn response(&mut self) -> Response {
        let head = self.head().await;
        self.body_of(head).await
    }

    /// The rest of such a response.
    pub(crate) async fn body_of(&mut self, head: Head) -> Response {
        let mut response = Response { head, body: Vec::new(), trailers: Vec::new() };
        if response.head.get("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                response.body.extend(chunk);
            }
            loop {
                let line = self.line().await;
                if line.is_empty() {
                    break;
                }
                response.trailers.push(field(&line));
            }
        } else if let Some(length) = response.head.get("content-length") {
            response.body = self.exactly(length.parse().unwrap()).await;
        } else if !matches!(response.head.status, 204 | 304) {
            response.body = self.until_end().await;
        }
        response
    }

    /// The next chunk of a chunked body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.line().await, 16).unwrap();
        if length == 0 {
            return None;
        }
        let chunk = self.exactly(length).await;
        assert_eq!(self.exactly(2).await, b"\r\n");
        Some(chunk)
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = self.buffer.split_to(at);
                self.buffer.advance(2);
                return String::from_utf8(line.to_vec()).unwrap();
            }
            assert!(self.fill().await > 0, "the connection ended within a line");
        }
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.fill().await > 0, "the connection ended {} bytes early", length - self.buffer.len());
        }
        self.buffer.split_to(length).to_vec()
    }

    /// Everything up to the end of the connection, be it orderly or a reset.
    pub(crate) async fn until_end(&mut self) -> Vec<u8> {
        while self.fill().await > 0 {}
        self.buffer.split().to_vec()
    }

    /// Reads what is there; 0 at the end.
    async fn fill(&mut self) -> usize {
        within(self.stream.read_buf(&mut self.buffer)).await.unwrap_or(0)
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap();
    (name.to_ascii_lowercase(), value.trim().to_owned())
}

/// The head of a request with a Host.
pub(crate) fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let fields = headers.iter().map(|(name, value)| [name, ": ", value, "\r\n"].concat()).collect::<String>();
    format!("{method} {target} HTTP/1.1\r\nHost: site.test\r\n{fields}\r\n")
}

/// The head of a WebSocket handshake; a header given here replaces the usual one, an empty value leaves it out.
pub(crate) fn handshake(target: &str, headers: &[(&str, &str)]) -> String {
    let mut all = vec![
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    all.retain(|(usual, _)| !headers.iter().any(|(name, _)| name == usual));
    all.extend(headers.iter().filter(|(_, value)| !value.is_empty()));
    request("GET", target, &all)
}
