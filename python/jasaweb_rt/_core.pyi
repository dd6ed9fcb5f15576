"""The Rust core: sockets, sessions, fan-out. Everything here may be called from any thread."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Literal, TypeAlias, final

from jasaweb_rt.messages import Envelope, Payload

_Frame: TypeAlias = str | bytes | Payload | Envelope
__all__ = [
    "AppEvent",
    "ClientFrame",
    "ClusterClient",
    "ClusterEvent",
    "ClusterStats",
    "Connected",
    "ConnectionInfo",
    "Disconnected",
    "Drops",
    "FanoutServer",
    "HandshakeRefusals",
    "Histogram",
    "HttpRefusals",
    "LoadClient",
    "LoadReport",
    "LogRecord",
    "OverloadedError",
    "Progress",
    "RealtimeError",
    "ServerStoppedError",
    "Stats",
    "SyncRequest",
    "verify_token",
]

class RealtimeError(Exception):
    """Base of every error that is the core's own."""

class ServerStoppedError(RealtimeError):
    """The call needs a running server: before `start`, after `stop`, or in a fork of the process that made it."""

class OverloadedError(RealtimeError):
    """The send backlog is full; nothing was lost that was queued before. Try again later."""

@final
class Connected:
    """A connection was opened and registered."""

    connection_id: str
    user_id: str
    role: str
    name: str
    client_address: str
    user_agent: str | None
    connected_at: float
    """Unix time in seconds."""

@final
class Disconnected:
    """A connection has ended. It says all that its `Connected` said, which is dropped where too many events wait."""

    connection_id: str
    user_id: str
    client_address: str
    user_agent: str | None
    connected_at: float
    """Unix time in seconds."""
    last_activity: float
    """Unix time in seconds of the last frame from the client, a pong included."""
    code: int
    """Close code of the contract; 1005 or 1006 where the peer sent none (RFC 6455 section 7.4.1)."""
    reason: str
    status: Literal["disconnected", "timeout", "error"]

@final
class ClientFrame:
    """A text message from a client, valid UTF-8, within the size and rate limits; nothing else of it was checked."""

    connection_id: str
    user_id: str
    role: str
    session_id: str | None
    """The session that the connection stood for when the message came, by the claim `sid` of its token."""
    frame: bytes

@final
class SyncRequest:
    """A session waits for what lies in the database: answer it with `answer_sync`, or `disconnect` it."""

    connection_id: str
    user_id: str
    after: int | None
    """Everything after this `seq` is wanted; `None`: the client gave no position and starts at the head."""
    epoch: str | None
    """The epoch that the client named with its position, if any."""
    first: bool
    """True for the answer that a new session waits for (checked identity, `sync` frame); false to fill a gap."""
    session_id: str | None
    """The session that the connection stands for, by the claim `sid` of its token."""

@final
class ClusterEvent:
    """The link to the other nodes has changed, or something may have been lost on it.

    After each, what is durable is to be compared with the database, once `fence` has returned true. Trouble of one kind
    is told four times a second at most.
    """

    connected: bool
    """Whether the node is linked to NATS, and hears its own echo, now."""
    reason: str
    """What happened, for the log."""

@final
class AppEvent:
    """What a server gave to `publish_event`."""

    data: bytes

@final
class LogRecord:
    """A log record of the core."""

    level: Literal["ERROR", "WARNING", "INFO", "DEBUG"]
    target: str
    message: str

_Event: TypeAlias = Connected | Disconnected | ClientFrame | SyncRequest | ClusterEvent | LogRecord

@final
class HandshakeRefusals:
    """WebSocket requests that were refused since `start`, by reason."""

    draining: int
    """503: the server is stopping, or `set_draining` was called."""
    tls: int
    """403: not over TLS, where that is required."""
    malformed: int
    """400 or 426: not a valid handshake."""
    origin: int
    """403: a page of a foreign origin."""
    rate: int
    """429: an address that opens connections too fast."""
    address_full: int
    """429: an address with all the connections that it may have."""
    server_full: int
    """503: a server with all the connections that it may have."""
    authentication: int
    """Close 1008: no token, or one that does not hold."""

@final
class HttpRefusals:
    """What plain HTTP was refused since `start`, by reason."""

    address_full: int
    """429 to its first request: an address with all the connections that it may have."""
    displaced: int
    """Closed without an answer: had waited longest without a whole request when most descriptors were in use."""
    rate: int
    """429: an address that makes requests too fast."""
    requests_address_full: int
    """429: an address with too many requests under way."""
    requests_full: int
    """503: too many requests under way in all."""
    malformed: int
    """400 or 501: what is no request, or could be read in two ways."""
    too_large: int
    """413 or 431: content or head."""
    too_slow: int
    """408, or closed: content that came too slowly, a response that was taken too slowly."""

@final
class Histogram:
    """How often something took how long, since `start`."""

    bounds: tuple[float, ...]
    """Seconds at which each bucket but the last ends, from 50 µs to 10 s."""
    counts: tuple[int, ...]
    """How many times fell into each bucket: up to its bound and beyond the one before; the last has what is left."""
    sum_seconds: float
    """All times together."""

@final
class Drops:
    """What did not get through since `start`, by reason.

    Messages to clients, each counted once for each connection:
    """

    slow_consumer: int
    """What waited for a connection that was closed with 4002, and the one message that found no room."""
    no_pong: int
    """What waited for a connection that was closed with 4003."""
    closing: int
    """For a connection that was being closed, or had failed; its sender may have counted it as open."""
    disconnected: int
    """What waited for a connection when it ended otherwise."""
    duplicate: int
    """Durable messages that the connection had."""
    superseded: int
    """Durable messages that were let go since the database has been read for them, or is read again; none is missed."""
    outdated: int
    """Unread counts that a newer one had overtaken."""

    overloaded: int
    """Direct sends, each a call, that raised `OverloadedError`; `publish` and its like are not counted."""

    client_rate: int
    """Frames of clients beyond `message_rate`; each closed its connection with 1008."""
    client_backlog: int
    """Messages of clients for which too many events waited; each closed its connection with 1013."""
    client_refused: int
    """Calls of `refuse`, and of `acknowledge` where it was not believed, on a connection that was open."""
    client_slow: int
    """Messages of clients that were begun and not finished in time; each closed its connection with 1008."""

    events: int
    """Events, `Connected` first of all, that found the queue full. `ConnectionInfo`s are the truth."""
    progress: int
    """Records for `take_progress` that nobody took in time."""

@final
class ClusterStats:
    """How things stand with the other nodes, and what was counted of it since `start`."""

    connected: bool
    """Whether the node is linked to NATS and hears its own echo, which is sent every 2 s; two may not be missing."""
    peers: int
    """Other nodes that are heard now. One that says nothing for 7 s is not, and that is trouble, as is its return."""
    subscriptions: int
    """Users whose frames the node hears now: those that are connected, and for 2 s those who were."""
    silent: int
    """Subscriptions that did not echo, were made anew, and have not echoed since. All are tried, in 5 minutes."""
    outbox_bytes: int
    """Bytes that wait to leave for other nodes now, 64 MiB at most."""

    published: int
    """Messages that were handed to NATS for other nodes, one for each user or audience."""
    received: int
    """Messages of other nodes that came."""
    dropped_unlinked: int
    """Messages for other nodes that were dropped because there was no link."""
    dropped_too_large: int
    """Messages for other nodes that were dropped because NATS takes none of their size (its `max_payload`, 1 MiB)."""
    dropped_overloaded: int
    """Messages of other nodes that were dropped because a shard, or the queue of events, was full."""
    refused: int
    """Calls that raised `OverloadedError` because too much waited to leave, `publish` and its like too."""
    malformed: int
    """Messages on our subjects that could not be read, or are of another version."""
    subscribed: int
    """Users that the node began to hear."""
    unsubscribed: int
    """Users that the node left off hearing."""
    links: int
    """Links to NATS that were made, the first among them."""
    slow_consumers: int
    """Messages that were lost because a subscription was not read fast enough."""
    silenced: int
    """Subscriptions that were found silent, and made anew."""

@final
class Stats:
    """What the core has counted since `start`, and how things stand. Each number is of about the same moment."""

    connections: int
    """Open now."""
    users: int
    """With an open connection now."""
    backlog_bytes: int
    """Bytes of frames that wait for their shard's thread now."""
    accepting: bool
    """Whether new connections are let in now: file descriptors are not short."""

    connections_opened: int
    connections_closed: int
    connections_turned_away: int
    """Connections that were turned away by a 503 or just closed, because file descriptors were short."""
    handshakes_refused: int
    """All of `refusals` together."""
    refusals: HandshakeRefusals
    http_connections: int
    """Open now and no WebSockets, or not yet."""
    http_refused: int
    """All of `http_refusals` together."""
    http_refusals: HttpRefusals

    frames_published: int
    """Frames that were sent or published, each once for each user or audience that it was for; those that came from
    other nodes too."""
    frames_encoded: int
    """Messages that were encoded, each once whatever its receivers. By `deliveries`: encodes per delivery."""
    deliveries: int
    """Frames that were handed to an open connection, once for each: written at once, queued, or dropped (`drops`)."""
    writes: int
    """System calls that wrote to a connection."""
    arrays: int
    """Messages that were made of two or more frames, for clients that asked for `batch=1`."""
    frames_written: int
    """Frames whose last byte was in one of these calls, control frames too."""
    coalesced_writes: int
    """Those of these calls that finished more than one frame."""
    coalesced_frames: int
    """The frames that those finished."""
    bytes_written: int
    """Bytes that `writes` took, frame headers included."""
    compressions: int
    """Messages that were deflated, each once whatever its receivers."""
    frames_received: int
    """Text messages of clients that were within their limits."""
    slow_consumers: int
    """Connections that were closed with 4002."""
    drops: Drops
    panics: int
    """Tasks that ended in a panic, each with its connection, or a shard with all of its."""

    queue_high_water_bytes: int
    """The most bytes that have waited for one connection. One that is blocked is looked at once a second."""
    backlog_high_water_bytes: int
    """The most bytes of frames that have waited for one shard's thread."""
    events_high_water: int
    """The most events that have waited for `drain_events`, or for `on_message`'s callback."""

    publish_to_write: Histogram
    """Writes that carried a frame of yours, by the time from the call that sent or published the oldest one in it to
    the write's return. None counts as quicker than it was, or as slower by more than 15 further writes take."""

    cluster: ClusterStats | None
    """`None` where there are no other nodes: no `nats_url` was given."""

@final
class ConnectionInfo:
    """One open connection, as of now."""

    connection_id: str
    user_id: str
    role: str
    name: str
    client_address: str
    user_agent: str | None
    connected_at: float
    """Unix time in seconds."""
    last_activity: float
    """Unix time in seconds of the last frame from the client, a pong included."""
    last_seq: int
    """`seq` of the last durable frame that was queued to it."""
    last_rev: int
    """`rev` of the newest unread count that was queued to it; 0: none."""
    queued_bytes: int

@final
class Progress:
    """What was queued to one connection since it was last asked, by position in its user's sequence."""

    connection_id: str
    user_id: str
    from_seq: int
    through_seq: int
    """Every durable frame from `from_seq` through this `seq` was queued; a number between them that does not exist
    belongs to a deleted notification. Nothing was queued where `from_seq` lies behind it."""
    delivered_seq: int
    """What was queued to the connection up to this `seq` has arrived: the peer answered a ping behind it (RFC 6455
    section 5.5.3), or acknowledged it."""

@final
class FanoutServer:
    """Accepts WebSocket connections on threads of its own and fans frames out to them.

    With `tls_cert` and `tls_key`, PEM files that are read again when they change, it speaks TLS alone. ValueError names
    the argument that cannot be used: files that cannot be read, are not PEM, or do not belong together among them.
    A frame is `str`, `bytes` (UTF-8), or a message struct of `jasaweb_rt.messages`.

    With `nats_url`, URLs of NATS servers (`nats://` or `tls://`, with `user:password@`, `token@` or neither), it is a
    node of a cluster: what is sent here reaches the connections of every node, and `drain_events` tells of trouble.
    `nats_credentials` is a file with an nkey seed, or of the kind `.creds`; `nats_ca` a PEM file of authorities, with
    which NATS has to speak TLS. A NATS that cannot be reached is no error: it is tried again, and a `ClusterEvent`
    names the setting.

    A `port` other than 0 is its own, but for servers of the same user that are made with `take_over`: they listen
    beside it (`SO_REUSEPORT`, Linux only), so that it can be stopped without anybody being turned away.
    """

    def __new__(
        cls,
        *,
        token_secret: str | bytes,
        host: str = "127.0.0.1",
        port: int = 0,
        token_secret_previous: str | bytes | None = None,
        allowed_origins: Sequence[str] = ...,
        trusted_proxies: Sequence[str] = ...,
        require_tls: bool | None = None,
        max_connections: int | None = None,
        max_connections_per_user: int = 10,
        max_connections_per_ip: int = 100,
        connect_rate_per_ip: int = 20,
        connect_burst_per_ip: int = 100,
        message_rate: int = 20,
        message_burst: int = 50,
        max_message_bytes: int = 65536,
        send_queue_bytes: int = 1048576,
        compress_min_bytes: int = 512,
        workers: int | None = None,
        coalesce_ms: int = 10,
        ping_interval: float = 25.0,
        pong_timeout: float = 10.0,
        tls_cert: str | PathLike[str] | None = None,
        tls_key: str | PathLike[str] | None = None,
        app_url: str | None = None,
        probe_url: str | None = None,
        sync: bool = False,
        nats_url: Sequence[str] = ...,
        nats_credentials: str | PathLike[str] | None = None,
        nats_ca: str | PathLike[str] | None = None,
        take_over: bool = False,
    ) -> FanoutServer: ...
    def start(self) -> None:
        """Listens and returns.

        OSError: the port cannot be had. ServerStoppedError: it was stopped before, or this is a fork of the process
        that made it.
        """

    def stop(self, drain_seconds: float = 10.0) -> None:
        """Closes every connection with 1001 and a retry time of its own, and returns when all have gone.

        New WebSockets are refused with 503 from now on; where a server with `take_over` listens, it has them instead.
        The closes are spread: 200 a second, faster where eight tenths of `drain_seconds` would not do. Who is not
        closed yet goes on being sent to. It takes `drain_seconds` and a second more at most; connections that are still
        there then are cut.
        """

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that the server listens on."""

    @property
    def node_id(self) -> str:
        """First part of every connection id of this server; new with each `FanoutServer`."""

    def broadcast_to_user(self, user_id: str, frame: _Frame) -> int:
        """Returns how many connections of this node it was queued to; so do the others.

        OverloadedError: too much waits already, here or for other nodes, and nobody got it.
        """

    def broadcast_to_users(self, user_ids: Sequence[str], frame: _Frame) -> int: ...
    def broadcast_to_admins(self, frame: _Frame) -> int: ...
    def broadcast_to_clients(self, frame: _Frame) -> int: ...
    def broadcast_to_all(self, frame: _Frame) -> int: ...
    def broadcast_many(self, items: Sequence[tuple[str, _Frame]]) -> int: ...
    def send(self, connection_id: str, frame: _Frame) -> int:
        """To one connection: 1 where it is open here, or was handed on to the node that has it; else 0."""

    def disconnect(self, connection_id: str, code: int = 4500) -> bool:
        """Closes a connection, by 1000, 1008, 1011, 1013, 4001, 4004 or 4500; false where it is not open.

        True too where it is another node's, and was handed on to it.
        """

    def publish_event(self, data: bytes) -> bool:
        """For one of the `ClusterClient`s that listen to events, if there are any; false where there is no link."""

    def fence(self, timeout_seconds: float) -> bool:
        """Waits until NATS has taken all that was sent, and all subscriptions that were asked for, before the call.

        A `SyncRequest` is told after its user's subscription was asked for, so what is published from a true fence on
        reaches that session. False: there is no link, it was lost meanwhile, or the time is up. It does not see that a
        link was lost and made again between a `publish` and the fence; a `ClusterEvent` on every node tells of that.
        True at once without `nats_url`.
        """

    def stats(self) -> Stats:
        """Reads the counters. It waits for nobody, and works after `stop` too."""

    def connections(self) -> list[ConnectionInfo]:
        """Every open connection, in no particular order. OverloadedError: a shard did not answer within 5 s."""

    def take_progress(self) -> list[Progress]:
        """What connections were sent since the last call: those to which anything happened, and those that have ended.

        Works after `stop` too. Waits for every shard, 5 s at most; a late one's come with the next call. From the first
        call on, connections are pinged behind what they are sent, once a second each on average, and what ended ones
        were sent is kept, for 262,144 of them. Call it before `start` to miss none, and then every few seconds.
        """

    def acknowledge(self, connection_id: str, seq: int, refusal: _Frame) -> bool:
        """Believes a client that everything up to `seq` has arrived; false where it is gone.

        Where that is beyond what was sent to it, nothing is believed, and it gets `refusal` as by `refuse`.
        """

    def on_message(self, callback: Callable[[list[tuple[str, str, str, bytes]]], object]) -> None:
        """Calls `callback` with batches of `(connection_id, user_id, role, frame)`, on its own thread, until `stop`."""

    def fileno(self) -> int:
        """File descriptor that is readable while events wait."""

    def drain_events(self, limit: int = 4096) -> list[_Event]:
        """Takes the events that wait, oldest first."""

    def publish(self, items: Sequence[tuple[str, int, int, _Frame]]) -> int:
        """Durable frames, each `(user_id, seq, rev, frame)`: a session gets its user's in `seq` order, each once."""

    def publish_read(self, items: Sequence[tuple[str, int, _Frame]], *, local: bool = False) -> int:
        """`read` frames, each `(user_id, rev, frame)`; one with a `rev` older than the session's is dropped.

        `local`: for this node's connections alone, as for what was found out about them; so below.
        """

    def announce_heads(self, items: Sequence[tuple[str, int]], *, local: bool = False) -> None:
        """Each `(user_id, head_seq)` as committed: sessions that are behind ask for what they lack."""

    def answer_sync(
        self,
        request: SyncRequest,
        *,
        role: str,
        head: int,
        through: int,
        rev: int,
        restart: bool = False,
        preface: _Frame | None = None,
        frames: Sequence[tuple[int, _Frame]] = ...,
    ) -> bool:
        """Answers `request` with what lies up to `through`: final, also for numbers that `frames` lacks.

        `restart`: the session goes on behind `through`, wherever it took itself to be. `preface` (a `sync` or `resync`
        frame) goes out first. While `through` is below `head`, the session asks again once its queue has drained.
        Where the session has asked for something else meanwhile, nothing happens. Returns false where the connection is
        gone.
        """

    def refuse(self, connection_id: str, frame: _Frame) -> bool:
        """Sends an `error` frame for a client frame that was refused. The twentieth in a minute closes with 1008."""

    def extend_session(self, connection_id: str, expires_at: int | None, session_id: str | None = None) -> bool:
        """Has a connection stand for another session of its user from now on; false where it is not open.

        `expires_at` is Unix time in seconds, or None for no end. ValueError: `session_id` is not 16 hexadecimal digits.
        """

    def heed(self, items: Sequence[tuple[str, Literal["admin", "client"] | None, Sequence[str]]]) -> None:
        """What the database says of users, each `(user_id, role, ids of sessions that were ended)`.

        Connections of a user with no role, for there is none, are closed with 1008, those of an ended session with
        4001; the others act in that role from now on. However much waits, this is not refused.
        """

    def set_token_secrets(self, current: str | bytes, previous: str | bytes | None = None) -> None:
        """Accepts tokens signed with either key, and with no other, from now on; connections that are open stay.

        ValueError, and nothing is changed: a key has less than 32 bytes. ServerStoppedError: it was not started.
        """

    def set_draining(self, draining: bool) -> None:
        """While true, new connections are refused with 503; open ones stay."""

    def leave_port_to_successor(self) -> bool:
        """Closes the port if a server with `take_over` listens on it too, and says whether that is so.

        Whoever had come before is let in. Open sockets stay, other connections end with their next answer. It cannot be
        undone.
        """

@final
class ClusterClient:
    """Publishes to the connections of a cluster's servers, from a program that is none of them.

    The arguments are those of `FanoutServer`. Everything but `connect` raises ServerStoppedError before that and after
    `close`. While there is no link, what is sent is dropped and counted, and the link is tried again.
    """

    def __new__(
        cls,
        nats_url: Sequence[str],
        nats_credentials: str | PathLike[str] | None = None,
        nats_ca: str | PathLike[str] | None = None,
    ) -> ClusterClient: ...
    def connect(self, timeout: float = 10.0) -> None:
        """Returns once there is a link. ConnectionError: not in so many seconds; it goes on trying all the same."""

    def close(self) -> None:
        """Sends what waits, and ends the link; within 3 s."""

    def broadcast_to_user(self, user_id: str, frame: _Frame) -> None:
        """OverloadedError, here and below: too much waits to leave."""

    def broadcast_to_users(self, user_ids: Sequence[str], frame: _Frame) -> None: ...
    def broadcast_many(self, items: Sequence[tuple[str, _Frame]]) -> None: ...
    def broadcast_to_admins(self, frame: _Frame) -> None: ...
    def broadcast_to_clients(self, frame: _Frame) -> None: ...
    def broadcast_to_all(self, frame: _Frame) -> None: ...
    def send(self, connection_id: str, frame: _Frame) -> int:
        """To one connection: 1 where it was handed on to its node, 0 where there is no link or the id is none."""

    def disconnect(self, connection_id: str, code: int = 4500) -> bool:
        """Closes a connection, by a code of `FanoutServer.disconnect`; false as with `send`."""

    def fence(self, timeout_seconds: float) -> bool:
        """As `FanoutServer.fence`."""

    def listen_to_events(self) -> None:
        """From now on `drain_events` tells what servers gave to `publish_event`.

        Each event reaches one of those that listen. Events beyond what may wait are dropped and counted.
        """

    def stats(self) -> ClusterStats:
        """How things stand."""

    def fileno(self) -> int:
        """A descriptor that is readable while events wait."""

    def drain_events(self, limit: int = 4096) -> list[AppEvent | ClusterEvent | LogRecord]:
        """Takes events, oldest first."""

@final
class LoadReport:
    """What the clients of a `LoadClient` saw since the beginning, or since its counts were cleared."""

    @property
    def open(self) -> int:
        """Connections that are open now."""

    @property
    def messages(self) -> int: ...
    @property
    def compressed(self) -> int:
        """Messages that came compressed (RFC 7692). They are counted among `messages`, and not timed."""

    @property
    def timed(self) -> int:
        """Messages that named the moment of their publication."""

    @property
    def bytes(self) -> int:
        """Bytes read, handshakes apart."""

    @property
    def closed(self) -> list[tuple[int, int]]:
        """Connections that ended: `(close code, how many)`; 1006 where none came."""

    @property
    def refused(self) -> list[tuple[int, int]]:
        """Handshakes that failed: `(HTTP status, how many)`; 0 where there was no answer."""

    @property
    def publications(self) -> list[tuple[int, int, int]]:
        """`(stamp, receivers, moment of the last receipt)` of the newest 4096 stamped messages, oldest first."""

    def delay(self, quantile: float) -> float | None:
        """Seconds from stamp to receipt that this share of the stamped messages kept to; None: there were none."""

@final
class LoadClient:
    """Very many WebSocket clients in one thread, to load a server and to time it.

    A message with a member `"stamp"`, nanoseconds of `time.monotonic_ns()` of this machine, is timed.
    """

    def __new__(cls) -> LoadClient: ...
    def connect(
        self, address: tuple[str, int], requests: Sequence[bytes], *, in_flight: int = 256, wait: float = 30.0
    ) -> tuple[int, float]:
        """Opens a connection for each upgrade request, and says how many are open after how many seconds.

        It returns when all have been answered, or after `wait` seconds.
        """

    def pause(self, count: int, paused: bool) -> None:
        """Lets the `count` oldest connections stop reading, or go on.

        One that has stopped costs nothing, whatever it is sent; that it was closed shows when it goes on.
        """

    def close(self, count: int) -> None:
        """Closes the `count` oldest connections with 1000."""

    def report(self) -> LoadReport: ...
    def clear(self) -> None:
        """Begins to count anew; what is open stays counted."""

    def stop(self) -> None:
        """Drops every connection and ends the thread; every later call raises `ServerStoppedError`."""

def verify_token(
    token: str, secret: str | bytes, *, previous: str | bytes | None = None, now: float
) -> tuple[str, str, str, int | None, str | None]:
    """Checks a token at Unix time `now`: `(user_id, role, name, session_exp, sid)`. ValueError: it does not hold."""
