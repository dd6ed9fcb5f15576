//! The close of a WebSocket that never became a session.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{CloseFrame, Role, WebSocketConfig},
};

use crate::{close::CloseReason, door_socket::DoorSocket};

/// Time that the peer has to take our Close frame and to answer it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Nothing that the peer says is of interest any more but its own Close.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// Sends a Close frame with `reason`, waits for the peer's or for its end, at most two seconds, then closes the socket.
///
/// Waiting matters: closing at once with unread bytes makes the kernel reset the connection, and a reset may overtake
/// the Close frame, so that the client would see 1006 and not the reason (RFC 6455 section 7.1.1).
pub(crate) async fn close(stream: DoorSocket, read_ahead: Bytes, reason: &CloseReason) {
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_MESSAGE_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let farewell = async {
        let mut socket =
            WebSocketStream::from_partially_read(stream, read_ahead.into(), Role::Server, Some(config)).await;
        let frame = CloseFrame { code: reason.code().into(), reason: reason.text().as_ref().into() };
        if socket.close(Some(frame)).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
            // Under TLS an end that is not said is taken for a cut. Whoever has gone does not mind.
            let _ = socket.get_mut().shutdown().await;
        }
    };
    if tokio::time::timeout(PATIENCE, farewell).await.is_err() {
        tracing::debug!(code = reason.code(), "the peer did not answer the Close frame");
    }
}
