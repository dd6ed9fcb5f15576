//! The answer to plain HTTP on a port that speaks TLS.

use std::io;

use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Duration, Instant, timeout_at},
};

use crate::lingering::linger;

const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 84\r\n\
    connection: close\r\n\r\n\
    {\"success\":false,\"error\":\"This port speaks TLS: begin the URL with https: or wss:\"}\n";

/// Time that the peer has to take the answer and to end its side.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers 400 to whatever it was, and closes; at the latest at `deadline`.
pub(super) async fn refuse(mut socket: TcpStream, deadline: Instant) {
    let answer = async {
        socket.write_all(ANSWER).await?;
        socket.shutdown().await?;
        linger(&socket).await;
        io::Result::Ok(())
    };
    // A peer that does not take it has nothing to lose.
    let _ = timeout_at(deadline.min(Instant::now() + PATIENCE), answer).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_length_that_it_says() {
        let text = std::str::from_utf8(ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
