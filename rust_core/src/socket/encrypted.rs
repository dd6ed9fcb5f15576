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
