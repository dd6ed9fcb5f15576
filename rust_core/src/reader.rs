//! A session's own task: it reads, and writes on when the socket was full. It ends when the connection does.

use std::{io, net::Shutdown, rc::Rc};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        error::{CapacityError, Error as Failure, ProtocolError},
        protocol::{Role as Side, WebSocketConfig},
    },
};

use crate::{close::CloseReason, events::Ending, session::Session, transport::Transport};

/// Bytes that tungstenite reads at a time. It allocates them at once for every connection, so they are few: an idle
/// connection receives a pong now and then.
const READ_BUFFER_BYTES: usize = 512;

/// Reads until the connection ends, then leaves the session to the shard to be taken out of its registry.
pub(crate) async fn run(departure: Departure, read_ahead: Bytes) {
    let session = Rc::clone(&departure.0);
    let max_message_bytes = session.context.config.max_message_bytes;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(64 * 1024)
        .max_message_size(Some(max_message_bytes))
        .max_frame_size(Some(max_message_bytes));
    let transport = Transport(Rc::clone(&session));
    let mut messages =
        WebSocketStream::from_partially_read(transport, read_ahead.to_vec(), Side::Server, Some(config)).await;
    let mut peer_closed = false;
    while !session.is_aborted() {
        tokio::select! {
            () = session.wake.notified() => {}
            ready = session.socket.writable(), if session.is_blocked() => flush(&session, ready),
            message = messages.next() => match message {
                Some(Ok(message)) => {
                    peer_closed |= message.is_close();
                    take(&session, message);
                }
                Some(Err(failure)) => {
                    give_up(&session, &failure);
                    break;
                }
                None => break,
            }
        }
    }
    drop(messages);
    if peer_closed {
        session.finish(session.context.clock.now_ms());
    }
    linger(&session, peer_closed).await;
}

/// Works on what tungstenite read. After our own Close only the peer's is of interest (RFC 6455 section 1.4).
fn take(session: &Session, message: Message) {
    match message {
        Message::Close(frame) => {
            let (code, reason) =
                frame.map_or((1005, String::new()), |close| (close.code.into(), close.reason.to_string()));
            session.set_ending(code, &reason, Ending::Disconnected);
        }
        _ if session.is_closing() => {}
        Message::Pong(payload) => {
            // One that nobody asked for is a frame like another.
            if !session.pong(&payload) {
                session.admits_frame();
            }
        }
        Message::Text(text) if session.admits_frame() => session.deliver_text(text.into()),
        Message::Binary(_) => close(session, CloseReason::BinaryRefused),
        Message::Ping(_) => {
            session.admits_frame();
        }
        Message::Text(_) | Message::Frame(_) => {}
    }
}

/// Answers what the peer did wrong with its close code; where the transport failed there is nothing to answer.
fn give_up(session: &Session, failure: &Failure) {
    match failure {
        Failure::Capacity(CapacityError::MessageTooLong { .. }) => close(session, CloseReason::MessageTooBig),
        Failure::Utf8(_) => close(session, CloseReason::InvalidUtf8),
        Failure::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            session.set_ending(1006, "", Ending::Disconnected);
            session.abort();
        }
        Failure::Protocol(_) => close(session, CloseReason::ProtocolError),
        Failure::Io(error) => session.fail(error),
        other => session.fail(&io::Error::other(other.to_string())),
    }
}

fn close(session: &Session, reason: CloseReason) {
    session.begin_close(reason, session.context.clock.now_ms());
}

fn flush(session: &Session, ready: io::Result<()>) {
    match ready {
        Ok(()) => session.flush(session.context.clock.now_ms()),
        Err(error) => session.fail(&error),
    }
}

/// Writes the rest of what is owed to a connection that is over. Where the peer has not closed, our side of the stream is
/// ended behind the Close frame, and the peer's read until it ends too: a socket that is dropped with unread bytes resets
/// the connection, and the Close frame may be lost with it (RFC 6455 section 7.1.1). The shard's sweep bounds this wait.
async fn linger(session: &Session, peer_closed: bool) {
    let mut discarded = [0; 512];
    let mut ended = false;
    while !session.is_aborted() && (session.has_unwritten() || !peer_closed) {
        if !ended && !session.has_unwritten() {
            ended = true;
            if socket2::SockRef::from(&session.socket).shutdown(Shutdown::Write).is_err() {
                return;
            }
        }
        tokio::select! {
            () = session.wake.notified() => {}
            ready = session.socket.writable(), if session.is_blocked() => flush(session, ready),
            ready = session.socket.readable() => match ready.and_then(|()| session.socket.try_read(&mut discarded)) {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => {}
            },
        }
    }
}

/// Leaves the session to the shard, whatever ended its task, be it that it never ran.
pub(crate) struct Departure(Rc<Session>);

impl Departure {
    pub(crate) fn of(session: Rc<Session>) -> Self {
        Self(session)
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        let context = Rc::clone(&self.0.context);
        if std::thread::panicking() {
            context.counters.panics.add(1);
            self.0.set_ending(1006, "", Ending::Error);
        }
        self.0.abort();
        context.departed.borrow_mut().push(Rc::clone(&self.0));
        context.departure.notify_one();
    }
}
