//! The least that a fan-out can cost: one `write(2)` per connection and message, on one thread, and nothing else.
//!
//! It keeps no protocol beyond what lets the load client in, and it waits for the slowest: it is a measuring rod, not a
//! server. It is told what to do by lines on its standard input and answers each by a line, as every program under
//! `benches/servers` does:
//!
//! | line | does | answer |
//! |---|---|---|
//! | (start) | listens on loopback | `port P` |
//! | `open N` | lets N connections in | `opened N` |
//! | `publish RATE COUNT SIZE` | sends COUNT messages of SIZE bytes to everyone, RATE a second | `published COUNT` |
//! | `arrive SIZE MOMENT …` | sends a message of SIZE bytes to everyone at each MOMENT, in µs from the order, stamped with it | `published COUNT` |
//! | `each RATE COUNT SIZE USERS` | sends each of USERS users a message of its own, RATE a second | `published COUNT` |
//! | `many RATE COUNT SIZE USERS` | the same, by one call for all of them | `published COUNT` |
//! | end of input | ends | |
//!
//! Users have two connections each, and are taken in turn: COUNT times the next USERS of them. Here it makes no difference
//! how many a call is for.

use std::{
    error::Error,
    io::{self, BufRead, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    net::listen,
    time::{ClockId, clock_gettime},
};

/// No client of ours sends a longer request.
const MAX_REQUEST: usize = 8192;
/// Connections that may wait to be accepted: as many as at our own door, and more than the load client opens at once.
/// The standard library has 128, beyond which a connection waits a second for its next try.
const BACKLOG: i32 = 4096;
/// Connections of a user, where messages go to users.
const PER_USER: usize = 2;
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // On a socket that listens already, this changes the length of its queue and nothing else.
    listen(&listener, BACKLOG)?;
    say(&format!("port {}", listener.local_addr()?.port()))?;
    let mut connections = Vec::new();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["open", count] => {
                for _ in 0..count.parse::<usize>()? {
                    connections.push(accept(&listener)?);
                }
                say(&format!("opened {count}"))?;
            }
            ["publish", rate, count, size] => {
                publish(&mut connections, rate.parse()?, count.parse()?, size.parse()?)?;
                say(&format!("published {count}"))?;
            }
            ["arrive", size, ref moments @ ..] => {
                arrive(&mut connections, size.parse()?, moments)?;
                say(&format!("published {}", moments.len()))?;
            }
            ["each" | "many", rate, count, size, users] => {
                let users = users.parse()?;
                publish_distinct(&mut connections, rate.parse()?, count.parse()?, size.parse()?, users)?;
                say(&format!("published {count}"))?;
            }
            _ => return Err(format!("this is no command: {line}").into()),
        }
    }
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Takes a connection and answers its request, whatever it asks for.
fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut request = [0; MAX_REQUEST];
    let mut read = 0;
    while !request[..read].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[read..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => read += more,
        }
    }
    stream.write_all(SWITCHING)?;
    Ok(stream)
}

/// Writes each message to each connection, the messages at their times.
fn publish(connections: &mut [TcpStream], rate: f64, count: u32, size: usize) -> io::Result<()> {
    at(rate, count, |_| {
        let frame = frame(now_ns(), size);
        connections.iter_mut().try_for_each(|connection| connection.write_all(&frame))
    })
}

/// Writes messages that come at their `moments`, in microseconds from now. One that comes while another is written waits,
/// and its time runs.
fn arrive(connections: &mut [TcpStream], size: usize, moments: &[&str]) -> Result<(), Box<dyn Error>> {
    let began = now_ns();
    for moment in moments {
        let due = began + moment.parse::<u64>()? * 1000;
        sleep(Duration::from_nanos(due.saturating_sub(now_ns())));
        let frame = frame(due, size);
        connections.iter_mut().try_for_each(|connection| connection.write_all(&frame))?;
    }
    Ok(())
}

/// Writes a message of its own to each of some users at a time, in turn over all.
fn publish_distinct(connections: &mut [TcpStream], rate: f64, count: u32, size: usize, users: usize) -> io::Result<()> {
    let total = connections.len() / PER_USER;
    at(rate, count, |number| {
        for turn in 0..users {
            let user = (number as usize * users + turn) % total;
            let frame = frame(now_ns(), size);
            let own = &mut connections[user * PER_USER..(user + 1) * PER_USER];
            own.iter_mut().try_for_each(|connection| connection.write_all(&frame))?;
        }
        Ok(())
    })
}

/// Does something `count` times, `rate` times a second.
fn at(rate: f64, count: u32, mut act: impl FnMut(u32) -> io::Result<()>) -> io::Result<()> {
    let began = Instant::now();
    for number in 0..count {
        let due = began + Duration::from_secs_f64(f64::from(number) / rate);
        sleep(due.saturating_duration_since(Instant::now()));
        act(number)?;
    }
    Ok(())
}

/// Nanoseconds of the clock that the load client reads too.
fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// A text frame (RFC 6455 section 5.2) with a message of `size` bytes that names its moment.
fn frame(stamp: u64, size: usize) -> Vec<u8> {
    let (head, tail) = (format!(r#"{{"type":"bench","data":{{"stamp":{stamp},"pad":""#), "\"}}");
    let pad = size.saturating_sub(head.len() + tail.len());
    let length = head.len() + pad + tail.len();
    let mut frame = vec![0x81];
    if length < 0x7e {
        frame.push(length as u8);
    } else if let Ok(length) = u16::try_from(length) {
        frame.push(0x7e);
        frame.extend_from_slice(&length.to_be_bytes());
    } else {
        frame.push(0x7f);
        frame.extend_from_slice(&(length as u64).to_be_bytes());
    }
    frame.extend_from_slice(head.as_bytes());
    frame.resize(frame.len() + pad, b'x');
    frame.extend_from_slice(tail.as_bytes());
    frame
}
