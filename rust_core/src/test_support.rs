//! What the unit tests of sessions and shards share: real sockets, and a shard's surroundings.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    rc::Rc,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, crypto::ring,
    pki_types::PrivateKeyDer,
};
use tokio::sync::{Notify, mpsc::unbounded_channel};

use crate::{
    admission::Admission,
    clock::Clock,
    config::Config,
    events::EventQueue,
    front_door::{Admitted, Resume},
    hub::ShardHandle,
    index::Index,
    latency::WriteTimes,
    listener::bind,
    session::Context,
    shard::Parts,
    token::{Identity, Role},
};

/// So many bytes, but in Miri, which takes thousands of times as long, a fraction that shows the same.
pub(crate) const fn large(bytes: usize) -> usize {
    if cfg!(miri) { bytes / 256 } else { bytes }
}

pub(crate) fn config() -> Config {
    Config::new([7; 32])
}

/// What a shard is made of, and the handle to it.
pub(crate) fn parts(config: Config) -> (Parts, ShardHandle) {
    let (commands, receiver) = unbounded_channel();
    let handle = ShardHandle { commands, backlog: Arc::default(), counters: Arc::default() };
    let events = Arc::new(EventQueue::new().unwrap());
    events.listen();
    let parts = Parts {
        config: Arc::new(config),
        events,
        counters: Arc::clone(&handle.counters),
        backlog: Arc::clone(&handle.backlog),
        clock: Clock::start(),
        index: Arc::new(Index::new(None)),
        node_id: "node".into(),
        commands: receiver,
    };
    (parts, handle)
}

/// What the sessions of a shard share.
pub(crate) fn context(config: Config) -> Rc<Context> {
    let (parts, _) = parts(config);
    Rc::new(Context {
        config: parts.config,
        events: parts.events,
        counters: parts.counters,
        clock: parts.clock,
        write_times: WriteTimes::default(),
        index: parts.index,
        node_id: parts.node_id,
        departed: RefCell::default(),
        departure: Notify::new(),
        rounds: RefCell::default(),
    })
}

/// Both ends of a connection: ours does not block, the peer's fails a test that waits too long.
pub(crate) fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, peer)
}

/// A listener on a port that was given, not one of those that the system lends out, and how it was configured.
pub(crate) fn bound_to_a_port(host: &str) -> (Config, TcpListener) {
    loop {
        let port = 20_000 + (getrandom::u32().unwrap() % 12_000) as u16;
        let config = Config { host: host.parse().unwrap(), port, ..config() };
        if let Ok(listener) = bind(&config) {
            return (config, listener);
        }
    }
}

/// Both ends of TLS behind its handshake, on no socket yet.
pub(crate) fn handshake() -> (Box<ServerConnection>, Box<ClientConnection>) {
    static CONFIGS: OnceLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = OnceLock::new();
    let (server, client) = CONFIGS.get_or_init(tls_configs);
    let mut server = Box::new(ServerConnection::new(Arc::clone(server)).unwrap());
    let mut client = Box::new(ClientConnection::new(Arc::clone(client), "rt.test".try_into().unwrap()).unwrap());
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        client.write_tls(&mut there).unwrap();
        server.read_tls(&mut &there[..]).unwrap();
        server.process_new_packets().unwrap();
        server.write_tls(&mut back).unwrap();
        client.read_tls(&mut &back[..]).unwrap();
        client.process_new_packets().unwrap();
    }
    (server, client)
}

/// A server with a certificate that vouches for itself, and a client that trusts it.
fn tls_configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["rt.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let server = server.unwrap().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    (Arc::new(server), Arc::new(client.unwrap().with_root_certificates(roots).with_no_client_auth()))
}

/// A socket that was let in for `user`.
pub(crate) fn admitted(socket: TcpStream, user: &str) -> Admitted {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let slot = Arc::new(Admission::new(&Config { connect_rate_per_ip: 0, ..config() })).admit(address).unwrap();
    Admitted {
        socket,
        tls: None,
        greeting: Bytes::new(),
        read_ahead: Bytes::new(),
        identity: Identity {
            user_id: user.into(),
            role: Role::Client,
            name: user.into(),
            session_expires_at: None,
            session_id: None,
        },
        resume: Resume::default(),
        deflates: false,
        client_address: address,
        user_agent: None,
        slot,
    }
}

/// The first of the frames that a peer was sent (RFC 6455 section 5.2: text, plain or compressed, Close or ping, whole, not masked), and its
/// payload; `None` where not all of it is there.
pub(crate) fn next_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert!([0x81, 0xC1, 0x88, 0x89].contains(&first), "no begin of a frame: {first:#x}");
    let (header, length) = match second {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap())),
        short => (2, u64::from(short)),
    };
    let shortest = match length {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    };
    assert_eq!(header, shortest, "the length is not in its shortest form");
    let frame = bytes.get(..header + length as usize)?;
    Some((frame, &frame[header..]))
}
