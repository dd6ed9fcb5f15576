//! The handle on the clients, and the thread behind it.

use std::{
    io,
    net::SocketAddr,
    sync::mpsc::{Receiver, Sender, TryRecvError, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, Waker, net::TcpStream};

use crate::{
    connection::{Connection, End, Phase},
    report::{Report, Tally},
};

/// Bytes that are read at a time, by whichever connection's turn it is.
const BUFFER_BYTES: usize = 256 * 1024;
const EVENTS: usize = 1024;
const WAKE: Token = Token(usize::MAX);
/// How long a command may take beyond what it says itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system did not give what the clients need.
    #[error("the load client cannot run")]
    Io(#[from] io::Error),
    /// The thread has ended, or does not answer.
    #[error("the load client has ended")]
    Ended,
}

/// What became of a call of [`LoadClient::connect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Connections that are past the handshake.
    pub open: u64,
    /// From the first `connect(2)` to the last answer, or to the end of the wait.
    pub elapsed: Duration,
}

enum Command {
    Connect { address: SocketAddr, requests: Vec<Vec<u8>>, in_flight: usize, deadline: Instant, reply: Sender<Opened> },
    Pause { count: usize, paused: bool, reply: Sender<()> },
    Close { count: usize, reply: Sender<()> },
    Report { reply: Sender<Report> },
    Clear { reply: Sender<()> },
}

/// Clients on a thread of their own. Dropping it drops their sockets.
#[derive(Debug)]
pub struct LoadClient {
    commands: Option<Sender<Command>>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl LoadClient {
    /// Starts the thread, without a connection.
    pub fn start() -> Result<Self, Error> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let (commands, receiver) = channel();
        let tally = Tally::new().map_err(io::Error::other)?;
        let driver = Driver { poll, commands: receiver, connections: Vec::new(), tally, opening: None };
        let thread = std::thread::Builder::new().name("load-client".into()).spawn(move || driver.run())?;
        Ok(Self { commands: Some(commands), waker, thread: Some(thread) })
    }

    /// Opens a connection for each of `requests`, whole HTTP upgrade requests, and returns when all have been answered,
    /// or after `wait`. At most `in_flight` handshakes are under way at once.
    pub fn connect(
        &mut self,
        address: SocketAddr,
        requests: Vec<Vec<u8>>,
        in_flight: usize,
        wait: Duration,
    ) -> Result<Opened, Error> {
        let (reply, answer) = channel();
        let deadline = Instant::now() + wait;
        self.command(Command::Connect { address, requests, in_flight: in_flight.max(1), deadline, reply })?;
        receive(&answer, wait)
    }

    /// Lets the `count` oldest connections stop reading, or go on. One that has stopped costs nothing, whatever it is
    /// sent; that it was closed shows when it goes on.
    pub fn pause(&self, count: usize, paused: bool) -> Result<(), Error> {
        self.ask(|reply| Command::Pause { count, paused, reply })
    }

    /// Closes the `count` oldest connections, with 1000.
    pub fn close(&self, count: usize) -> Result<(), Error> {
        self.ask(|reply| Command::Close { count, reply })
    }

    /// What was seen since the beginning, or since [`Self::clear`].
    pub fn report(&self) -> Result<Report, Error> {
        self.ask(|reply| Command::Report { reply })
    }

    /// Begins to count anew; what is received after the return is counted.
    pub fn clear(&self) -> Result<(), Error> {
        self.ask(|reply| Command::Clear { reply })
    }

    /// Has the thread do something, and waits until it is done.
    fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = channel();
        self.command(command(reply))?;
        receive(&answer, Duration::ZERO)
    }

    fn command(&self, command: Command) -> Result<(), Error> {
        self.commands.as_ref().ok_or(Error::Ended)?.send(command).map_err(|_| Error::Ended)?;
        Ok(self.waker.wake()?)
    }
}

impl Drop for LoadClient {
    fn drop(&mut self) {
        self.commands = None;
        let woken = self.waker.wake().is_ok();
        if let Some(thread) = self.thread.take()
            && woken
        {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn receive<T>(answer: &Receiver<T>, wait: Duration) -> Result<T, Error> {
    answer.recv_timeout(wait + PATIENCE).map_err(|_| Error::Ended)
}

/// Connections that are still to be opened.
struct Opening {
    address: SocketAddr,
    requests: std::vec::IntoIter<Vec<u8>>,
    in_flight: usize,
    under_way: usize,
    opened: u64,
    began: Instant,
    deadline: Instant,
    reply: Sender<Opened>,
}

struct Driver {
    poll: Poll,
    commands: Receiver<Command>,
    /// By token; ended ones leave their place empty.
    connections: Vec<Option<Connection>>,
    tally: Tally,
    opening: Option<Opening>,
}

impl Driver {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; BUFFER_BYTES];
        while self.take_commands(&mut buffer) {
            self.open_more();
            let wait = self.opening.as_ref().map(|opening| opening.deadline.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, wait) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            }
            for event in &events {
                if event.token() != WAKE {
                    self.serve(event.token().0, &mut buffer);
                }
            }
        }
    }

    /// False once the handle is gone.
    fn take_commands(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Connect { address, requests, in_flight, deadline, reply }) => {
                    self.opening = Some(Opening {
                        address,
                        requests: requests.into_iter(),
                        in_flight,
                        under_way: 0,
                        opened: 0,
                        began: Instant::now(),
                        deadline,
                        reply,
                    });
                }
                Ok(Command::Pause { count, paused, reply }) => {
                    for index in self.oldest(count) {
                        self.set_paused(index, paused, buffer);
                    }
                    let _ = reply.send(());
                }
                Ok(Command::Close { count, reply }) => {
                    for index in self.oldest(count) {
                        if let Some(mut connection) = self.connections[index].take() {
                            connection.close();
                            self.tally.open -= 1;
                        }
                    }
                    let _ = reply.send(());
                }
                Ok(Command::Report { reply }) => drop(reply.send(self.tally.report())),
                Ok(Command::Clear { reply }) => {
                    self.tally.clear();
                    let _ = reply.send(());
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn set_paused(&mut self, index: usize, paused: bool, buffer: &mut [u8]) {
        let Some(connection) = &mut self.connections[index] else { return };
        if connection.paused == paused {
            return;
        }
        connection.paused = paused;
        let registry = self.poll.registry();
        let result = if paused {
            registry.deregister(&mut connection.socket)
        } else {
            registry.register(&mut connection.socket, Token(index), Interest::READABLE | Interest::WRITABLE)
        };
        if result.is_err() {
            // Without events nothing would come of it any more.
            self.connections[index] = None;
            self.tally.lost(1006);
        } else if !paused {
            self.serve(index, buffer);
        }
    }

    fn oldest(&self, count: usize) -> Vec<usize> {
        let is_open = |connection: &Connection| connection.phase == Phase::Open;
        let places = self.connections.iter().enumerate();
        places.filter(|(_, place)| place.as_ref().is_some_and(is_open)).map(|(index, _)| index).take(count).collect()
    }

    /// Begins as many handshakes as may be under way; answers when the last is done, or the time is over.
    fn open_more(&mut self) {
        let Some(opening) = &mut self.opening else { return };
        while opening.under_way < opening.in_flight {
            let Some(request) = opening.requests.next() else { break };
            let index = self.connections.len();
            let socket = TcpStream::connect(opening.address).and_then(|mut socket| {
                self.poll.registry().register(&mut socket, Token(index), Interest::READABLE | Interest::WRITABLE)?;
                Ok(socket)
            });
            match socket {
                Ok(socket) => {
                    self.connections.push(Some(Connection::new(socket, request)));
                    opening.under_way += 1;
                }
                Err(_) => *self.tally.refused.entry(0).or_insert(0) += 1,
            }
        }
        let is_done = opening.under_way == 0 && opening.requests.len() == 0;
        if is_done || Instant::now() >= opening.deadline {
            let elapsed = opening.began.elapsed();
            // A caller that has stopped waiting needs no answer.
            let _ = opening.reply.send(Opened { open: opening.opened, elapsed });
            self.opening = None;
        }
    }

    /// Writes and reads what can be.
    fn serve(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else { return };
        let before = connection.phase;
        let result = connection.write().and_then(|()| connection.read(buffer, &mut self.tally));
        let after = connection.phase;
        if before == Phase::Handshake
            && (after == Phase::Open || result.is_err())
            && let Some(opening) = &mut self.opening
        {
            opening.under_way -= 1;
            opening.opened += u64::from(after == Phase::Open);
        }
        let Err(end) = result else { return };
        self.connections[index] = None;
        match end {
            End::Refused(status) => *self.tally.refused.entry(status).or_insert(0) += 1,
            End::Closed(code) => self.tally.lost(code),
        }
    }
}
