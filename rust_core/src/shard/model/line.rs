//! A peer's end of a connection, plain or encrypted. It does not block.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
};

use rustls::ClientConnection;

pub(super) struct Line {
    socket: UnixStream,
    tls: Option<Box<ClientConnection>>,
}

impl Line {
    pub(super) fn new(socket: UnixStream, tls: Option<Box<ClientConnection>>) -> Self {
        Self { socket, tls }
    }

    /// Sends what is encrypted already, as far as the socket takes it. One that was closed takes nothing any more.
    pub(super) fn send_on(&mut self) -> bool {
        let Some(tls) = &mut self.tls else { return true };
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Ends this side of the stream, once all is sent.
    pub(super) fn end(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        if self.send_on() {
            // The shard may have ended the other side as well.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A peer that has ended its side is not waited for until its socket has room for the word of our end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            tls.read_tls(&mut self.socket)?;
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.send_on() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match &mut self.tls {
            None => self.socket.write(bytes),
            Some(tls) => tls.writer().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
