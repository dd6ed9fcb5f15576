//! TLS on a session's socket, from the end of its handshake on.
//!
//! What is written is encrypted a record at a time, and the next one only when the socket has all of the one before. So
//! what rustls keeps of a connection whose socket is full is one record at most, and the rest waits in the send queue,
//! where it is counted.

use std::{
    cell::RefCell,
    io::{self, IoSlice, Read, Write},
};

use rustls::ServerConnection;

use crate::send_queue::MAX_SLICES;

/// Bytes of a record's content, the most that TLS allows (RFC 8446 section 5.1).
const RECORD_BYTES: usize = 16 * 1024;

/// Times that the socket is read for one call: a peer may send records without content for ever, and others wait.
const READS_PER_CALL: usize = 16;

/// The state of TLS on one connection.
#[derive(Debug)]
pub(super) struct Encrypted {
    connection: RefCell<ServerConnection>,
}

impl Encrypted {
    /// The handshake must be over.
    pub(super) fn new(mut connection: ServerConnection) -> Self {
        connection.set_buffer_limit(Some(RECORD_BYTES));
        Self { connection: RefCell::new(connection) }
    }

    /// Encrypts and sends `pieces`, at most [`MAX_SLICES`], as far as the socket takes them and up to a record beyond that;
    /// `WouldBlock` where it takes nothing.
    pub(super) fn write(&self, pieces: &[IoSlice<'_>], records: &mut impl Write) -> io::Result<usize> {
        let connection = &mut *self.connection.borrow_mut();
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut left = &mut slices[..pieces.len()];
        left.copy_from_slice(pieces);
        let mut written = 0;
        while !left.is_empty() && send_held(connection, records)? {
            let taken = connection.writer().write_vectored(left)?;
            if taken == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            written += taken;
            IoSlice::advance_slices(&mut left, taken);
        }
        if written == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        send_held(connection, records)?;
        Ok(written)
    }

    /// Whether a record waits for the socket to have room.
    pub(super) fn is_held_up(&self) -> bool {
        self.connection.borrow().wants_write()
    }

    /// Sends what waits; true when nothing does any more.
    pub(super) fn flush(&self, records: &mut impl Write) -> io::Result<bool> {
        send_held(&mut self.connection.borrow_mut(), records)
    }

    /// Decrypts what has come. `Ok(0)`: the peer's end, be it that it did not say so: a WebSocket has a word of its own for
    /// that.
    pub(super) fn read(&self, buffer: &mut [u8], records: &mut (impl Read + Write)) -> io::Result<usize> {
        let connection = &mut *self.connection.borrow_mut();
        for _ in 0..READS_PER_CALL {
            match connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            if connection.read_tls(records)? == 0 {
                return Ok(0);
            }
            let processed = connection.process_new_packets();
            // An alert, as far as the socket takes it. Whatever it is that failed, it shows again.
            let _ = send_held(connection, records);
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        connection.reader().read(buffer)
    }

    /// Whether there is something to read, whatever the socket says.
    pub(super) fn is_readable(&self) -> bool {
        !self.connection.borrow().wants_read()
    }

    /// Ends our side of the stream (RFC 8446 section 6.1); true when the socket has taken that.
    pub(super) fn say_goodbye(&self, records: &mut impl Write) -> io::Result<bool> {
        let connection = &mut *self.connection.borrow_mut();
        connection.send_close_notify();
        send_held(connection, records)
    }
}

/// Sends what is encrypted already; true when the socket has taken it all.
fn send_held(connection: &mut ServerConnection, records: &mut impl Write) -> io::Result<bool> {
    while connection.wants_write() {
        match connection.write_tls(records) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use rustls::{ClientConnection, StreamOwned};

    use super::*;
    use crate::{
        socket::Socket,
        test_support::{handshake, sockets},
    };

    type Peer = StreamOwned<ClientConnection, TcpStream>;

    fn connected() -> (Socket, Peer) {
        let (ours, peer) = sockets();
        let (server, client) = handshake();
        (Socket::new(ours, Some(server)).unwrap(), StreamOwned::new(*client, peer))
    }

    /// Pieces whose ends lie on and beside those of records.
    fn pieces() -> Vec<Vec<u8>> {
        [1, RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 1, 5, 0, 3 * RECORD_BYTES, 100_000]
            .iter()
            .enumerate()
            .map(|(index, length)| vec![b'a' + index as u8; *length])
            .collect()
    }

    #[tokio::test]
    async fn whatever_the_socket_takes_at_a_time_the_peer_reads_what_was_written() {
        for grain in [1, 7, 4_096, RECORD_BYTES + 10, usize::MAX] {
            let (socket, mut peer) = connected();
            let expected = pieces().concat();
            let length = expected.len();
            let reading = std::thread::spawn(move || {
                let mut read = vec![0; length];
                peer.read_exact(&mut read).unwrap();
                read
            });
            socket.take_at_most(grain);
            let mut written = 0;
            while written < expected.len() || socket.is_held_up() {
                socket.writable().await.unwrap();
                let slices: Vec<_> = expected[written..].chunks(30_000).map(IoSlice::new).collect();
                match socket.try_write_vectored(&slices) {
                    Ok(taken) => written += taken,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
            assert!(reading.join().unwrap() == expected, "{grain}");
        }
    }

    #[tokio::test]
    async fn a_full_socket_holds_one_record_up_and_takes_no_more() {
        let (socket, mut peer) = connected();
        socket.writable().await.unwrap();
        let bytes = vec![b'x'; 100_000];
        let mut written = 0;
        let refused = loop {
            match socket.try_write(&bytes) {
                Ok(taken) => written += taken,
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(socket.is_held_up());
        let held = socket.encrypted.as_ref().unwrap().connection.borrow_mut().process_new_packets().unwrap();
        assert!(held.tls_bytes_to_write() <= RECORD_BYTES + 64, "{held:?}");
        assert_eq!(socket.try_write(b"more").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let reading = std::thread::spawn(move || {
            let mut read = Vec::new();
            peer.read_to_end(&mut read).unwrap();
            read.len()
        });
        while !socket.flush().unwrap() {
            socket.writable().await.unwrap();
        }
        while !socket.end().unwrap() {
            socket.writable().await.unwrap();
        }
        assert_eq!(reading.join().unwrap(), written, "what counts as written has come, and the end was said");
    }

    #[tokio::test]
    async fn what_is_no_record_is_an_error_and_an_end_without_a_word_is_an_end() {
        let (socket, peer) = connected();
        peer.sock.shutdown(std::net::Shutdown::Write).unwrap();
        socket.readable().await.unwrap();
        assert_eq!(socket.try_read(&mut [0; 10]).unwrap(), 0);
        let (socket, mut peer) = connected();
        peer.sock.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        socket.readable().await.unwrap();
        assert_eq!(socket.try_read(&mut [0; 10]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn what_was_decrypted_and_not_read_is_ready() {
        let (socket, mut peer) = connected();
        peer.write_all(&[b'x'; 1_000]).unwrap();
        socket.readable().await.unwrap();
        let mut buffer = [0; 999];
        assert_eq!(socket.try_read(&mut buffer).unwrap(), 999);
        let ready = std::future::poll_fn(|context| std::task::Poll::Ready(socket.poll_read_ready(context))).await;
        assert!(ready.is_ready());
        assert_eq!(socket.try_read(&mut buffer).unwrap(), 1);
        assert_eq!(socket.try_read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
