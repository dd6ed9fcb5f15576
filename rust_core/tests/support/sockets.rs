//! A WebSocket client that sees every byte: what tungstenite would refuse or hide is what these tests look for.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{http::Client, token};

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;

/// One open socket, or the reading half of one.
pub(crate) struct Socket<R = TcpStream>(pub(crate) Client<R>);

impl Socket {
    /// A socket of `user`, with `query` (`&name=value…`) behind its token. Its welcome is not read yet.
    pub(crate) async fn open(address: SocketAddr, user: &str, query: &str) -> Self {
        Self::over(Client::connect(address).await, user, query).await
    }

    /// The two directions, to be used at the same time.
    pub(crate) fn split(self) -> (Socket<OwnedReadHalf>, OwnedWriteHalf) {
        let (reading, writing) = self.0.split();
        (Socket(reading), writing)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// A socket of `user` over a connection that is there; see [`Socket::open`].
    pub(crate) async fn over(mut client: Client<S>, user: &str, query: &str) -> Self {
        let head = client.upgrade(&format!("/ws?token={}{query}", token::valid(user)), &[]).await;
        assert_eq!(head.status, 101);
        Self(client)
    }

    /// Sends a frame whose payload is at most 125 bytes long, masked by zeros.
    pub(crate) async fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        self.0.send(frame).await;
    }
}

impl<R: AsyncRead + Unpin> Socket<R> {
    /// The next frame: opcode and payload.
    pub(crate) async fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.0.exactly(2).await;
        assert_eq!(head[0] & 0xF0, 0x80, "every frame of ours is a whole message without extensions");
        let length = match head[1] {
            126 => u64::from(u16::from_be_bytes(self.0.exactly(2).await.try_into().unwrap())),
            127 => u64::from_be_bytes(self.0.exactly(8).await.try_into().unwrap()),
            length => u64::from(length),
        };
        (head[0] & 0xF, self.0.exactly(usize::try_from(length).unwrap()).await)
    }

    /// The next frame, which must be JSON text.
    pub(crate) async fn json(&mut self) -> Value {
        let (opcode, payload) = self.frame().await;
        assert_eq!(opcode, TEXT, "{payload:?}");
        serde_json::from_slice(&payload).unwrap()
    }

    /// Reads the welcome, which must come first.
    pub(crate) async fn welcomed(mut self) -> Self {
        assert_eq!(self.json().await["data"]["title"], "Connected");
        self
    }

    /// Reads on to the Close frame: its code.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            let (opcode, payload) = self.frame().await;
            if opcode == CLOSE {
                return u16::from_be_bytes([payload[0], payload[1]]);
            }
        }
    }
}
