//! A session's own task: it reads, and writes on when the socket was full. It ends when the connection does.
//!
//! The task is written by hand, for there is one for every connection: it holds the session and little else. The
//! protocol machine with its buffers exists only while something of a message is there; see [`crate::frame_boundary`].

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::{
    Message,
    error::{Error as Failure, ProtocolError},
};

use crate::{
    close::CloseReason,
    events::Ending,
    frame::Frame,
    protocol::{Protocol, close_reason},
    session::Session,
    transport::Transport,
};

/// Messages taken in one turn; a client that sends without end must not hold up the shard.
const MESSAGES_PER_TURN: usize = 32;

/// Bytes read in one turn. A message may come in fragments of nothing without end, and is then never taken.
const BYTES_PER_TURN: usize = 64 * 1024;

/// The future of a connection: it is done when the connection is over, and leaves the session to the shard to be taken
/// out of its registry.
pub(crate) struct Reader {
    departure: Departure,
    stage: Stage,
}

/// What is read for.
enum Stage {
    /// Messages. The protocol machine is there while one is unfinished.
    Open(Option<Box<Conversation>>),
    /// The peer's end: the connection is over.
    Linger { peer_closed: bool, shut: bool },
}

struct Conversation {
    protocol: Protocol,
    peer_closed: bool,
}

/// Whether the task has something to do at once.
enum Turn {
    /// The connection was given up, or lingers no more.
    Done,
    /// It goes on in the next stage.
    Next(Stage),
    /// There is more to read, and others wait.
    Yield,
    /// Nothing, until the socket or the session wakes the task.
    Wait,
}

impl Reader {
    /// For a session, and what was read of it already.
    pub(crate) fn new(session: Rc<Session>, read_ahead: &Bytes) -> Self {
        let begun = (!read_ahead.is_empty()).then(|| Box::new(Conversation::new(&session, read_ahead)));
        Self { departure: Departure(session), stage: Stage::Open(begun) }
    }
}

impl Future for Reader {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let session = &*this.departure.0;
        session.register(context.waker());
        loop {
            if session.is_aborted() {
                return Poll::Ready(());
            }
            write_on(session, context);
            let turn = match &mut this.stage {
                Stage::Open(conversation) => read(session, conversation, context),
                Stage::Linger { peer_closed, shut } => linger(session, *peer_closed, shut, context),
            };
            match turn {
                Turn::Done => return Poll::Ready(()),
                Turn::Next(stage) => this.stage = stage,
                Turn::Yield => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Turn::Wait => return Poll::Pending,
            }
        }
    }
}

/// Writes what waits where the socket was full, as far as it takes it now.
fn write_on(session: &Session, context: &mut Context<'_>) {
    while session.is_blocked() && !session.is_aborted() {
        match session.socket.poll_write_ready(context) {
            Poll::Ready(Ok(())) => session.flush(session.context.clock.now_ms()),
            Poll::Ready(Err(error)) => session.fail(&error),
            Poll::Pending => return,
        }
    }
}

/// Reads messages until there is no more.
fn read(session: &Session, conversation: &mut Option<Box<Conversation>>, context: &mut Context<'_>) -> Turn {
    // What was read with the handshake is in the machine and is no news to the socket.
    if conversation.is_none() {
        match session.socket.poll_read_ready(context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                session.fail(&error);
                return Turn::Done;
            }
            Poll::Pending => return Turn::Wait,
        }
    }
    let present = conversation.get_or_insert_with(|| Box::new(Conversation::new(session, &[])));
    let mut allowance = BYTES_PER_TURN;
    for _ in 0..MESSAGES_PER_TURN {
        match present.read(session, &mut allowance) {
            Ok(message) => {
                present.peer_closed |= message.is_close();
                if message.is_text() || message.is_binary() {
                    session.note_unfinished(false);
                }
                take(session, message);
                if session.is_aborted() {
                    return Turn::Done;
                }
            }
            Err(Failure::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                let is_between_messages = present.protocol.is_between_messages();
                session.note_unfinished(!is_between_messages);
                if is_between_messages {
                    *conversation = None;
                }
                // A socket that turned out to be empty is no longer ready, so this registers the task to be woken. One that
                // is ready still has had its turn.
                return match session.socket.poll_read_ready(context) {
                    Poll::Pending => Turn::Wait,
                    Poll::Ready(_) => Turn::Yield,
                };
            }
            Err(failure) => {
                let peer_closed = present.peer_closed;
                if !matches!(failure, Failure::ConnectionClosed | Failure::AlreadyClosed) {
                    give_up(session, &failure);
                }
                if peer_closed {
                    session.finish(session.context.clock.now_ms());
                }
                return Turn::Next(Stage::Linger { peer_closed, shut: false });
            }
        }
    }
    Turn::Yield
}

impl Conversation {
    fn new(session: &Session, read_ahead: &[u8]) -> Self {
        let protocol = Protocol::new(session.deflates, session.context.config.max_message_bytes, read_ahead);
        Self { protocol, peer_closed: false }
    }

    fn read(&mut self, session: &Session, allowance: &mut usize) -> Result<Message, Failure> {
        if session.is_closing() {
            self.protocol.drop_messages();
        }
        self.protocol.read(&mut Transport { session, allowance })
    }
}

/// Works on what was read. After our own Close only the peer's is of interest (RFC 6455 section 1.4).
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
        Message::Text(text) if session.context.config.echo => session.echo(Frame::text(&text)),
        Message::Binary(bytes) if session.context.config.echo => session.echo(Frame::binary(&bytes)),
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
    match (failure, close_reason(failure)) {
        (_, Some(reason)) => close(session, reason),
        (Failure::Protocol(ProtocolError::ResetWithoutClosingHandshake), None) => {
            session.set_ending(1006, "", Ending::Disconnected);
            session.abort();
        }
        (Failure::Io(error), None) => session.fail(error),
        (other, None) => session.fail(&io::Error::other(other.to_string())),
    }
}

fn close(session: &Session, reason: CloseReason) {
    session.begin_close(reason, session.context.clock.now_ms());
}

/// Writes the rest of what is owed to a connection that is over. Where the peer has not closed, our side of the stream is
/// ended behind the Close frame, and the peer's read until it ends too: a socket that is dropped with unread bytes resets
/// the connection, and the Close frame may be lost with it (RFC 6455 section 7.1.1). The shard's sweep bounds this wait.
fn linger(session: &Session, peer_closed: bool, shut: &mut bool, context: &mut Context<'_>) -> Turn {
    if !session.has_unwritten() {
        if !*shut {
            match if peer_closed { session.socket.say_goodbye() } else { session.socket.end() } {
                Ok(true) => *shut = true,
                // Which waits for the socket now, and comes back here.
                Ok(false) => return Turn::Next(Stage::Linger { peer_closed, shut: false }),
                Err(_) => return Turn::Done,
            }
        }
        if peer_closed {
            return Turn::Done;
        }
    }
    let mut discarded = [0; 512];
    for _ in 0..MESSAGES_PER_TURN {
        match session.socket.poll_read_ready(context) {
            Poll::Pending => return Turn::Wait,
            Poll::Ready(Err(_)) => return Turn::Done,
            Poll::Ready(Ok(())) => {}
        }
        match session.socket.try_read(&mut discarded) {
            Ok(0) => return Turn::Done,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Turn::Done,
            _ => {}
        }
    }
    Turn::Yield
}

/// Leaves the session to the shard, whatever ended its task, be it that it never ran.
struct Departure(Rc<Session>);

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

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::TcpStream,
        os::{fd::OwnedFd, unix::net::UnixStream},
        task::Waker,
        time::Duration,
    };

    use super::*;
    use crate::{
        config::Config,
        front_door::Admitted,
        test_support::{admitted, config, context},
    };

    /// Header of a text message that goes on, plain or compressed, and of a fragment that is empty and not the last.
    const BEGIN: [[u8; 6]; 2] = [[0x01, 0x80, 0, 0, 0, 0], [0x41, 0x80, 0, 0, 0, 0]];
    const NOTHING: [u8; 6] = [0x00, 0x80, 0, 0, 0, 0];

    /// A session that has read what its peer has `sent`.
    async fn having_read(sent: &[u8], context: &Rc<crate::session::Context>) -> Rc<Session> {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let admitted = admitted(TcpStream::from(OwnedFd::from(ours)), "user-1");
        let session = Rc::new(Session::new(admitted, 256, Rc::clone(context)).unwrap().0);
        peer.write_all(sent).unwrap();
        session.socket.readable().await.unwrap();
        let mut reader = Reader::new(Rc::clone(&session), &Bytes::new());
        assert!(Pin::new(&mut reader).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        std::mem::forget((reader, peer));
        session
    }

    #[tokio::test]
    async fn a_message_that_is_never_finished_is_not_waited_for() {
        let whole = [0x81, 0x80, 0, 0, 0, 0];
        let ping = [0x89, 0x80, 0, 0, 0, 0];
        let part_of_a_frame = &whole[..1];
        let cases: [(Vec<u8>, bool); 5] = [
            (whole.to_vec(), false),
            (part_of_a_frame.to_vec(), true),
            (BEGIN[0].to_vec(), true),
            ([&BEGIN[0][..], &ping].concat(), true),
            ([&BEGIN[0][..], &[0x80, 0x80, 0, 0, 0, 0]].concat(), false),
        ];
        let config = Config { ping_interval: Duration::ZERO, max_message_bytes: 4096, ..config() };
        for (sent, is_unfinished) in cases {
            let context = context(config.clone());
            let session = having_read(&sent, &context).await;
            let now = context.clock.now_ms();
            session.beat(now + 30_000, 0);
            assert!(!session.is_closing(), "{sent:?}");
            session.beat(now + 30_000 + 4_000 + 3_000, 0);
            assert_eq!(session.is_closing(), is_unfinished, "{sent:?}");
            assert_eq!(context.counters.refused_as_slow.get(), u64::from(is_unfinished));
        }
    }

    #[tokio::test]
    async fn a_message_without_end_does_not_keep_others_waiting() {
        for (deflates, begin) in [(false, BEGIN[0]), (true, BEGIN[0]), (true, BEGIN[1])] {
            let (ours, mut peer) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let admitted = Admitted { deflates, ..admitted(TcpStream::from(OwnedFd::from(ours)), "user-1") };
            let session = Rc::new(Session::new(admitted, 256, context(config())).unwrap().0);
            let mut sent = begin.to_vec();
            sent.extend(NOTHING.repeat(BYTES_PER_TURN / NOTHING.len() + 1_000));
            peer.write_all(&sent).unwrap();
            session.socket.readable().await.unwrap();
            let mut reader = Reader::new(Rc::clone(&session), &Bytes::new());
            assert!(Pin::new(&mut reader).poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert!(!session.is_over());
            let left = session.socket.try_read(&mut vec![0; sent.len()]).unwrap();
            assert_eq!(left, sent.len() - BYTES_PER_TURN);
        }
    }
}
