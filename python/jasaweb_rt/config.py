"""What can be configured. The one place of names, defaults and limits; read once, by the entry point.

A value comes from the environment, else from a `.env` file, else from the default here. An empty value
counts as none, except for a secret, where it is an error. How text becomes a value stands in `config_source`, where
secrets come from in `config_secrets`.
"""

import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec

from jasaweb_rt import config_role, config_secrets, config_source
from jasaweb_rt.exceptions import ConfigurationError

__all__ = [
    "PREFIX",
    "ROLES",
    "Keys",
    "Role",
    "Settings",
    "default_max_connections",
    "load_keys",
    "load_settings",
    "max_connections_for",
]

PREFIX = config_source.PREFIX

Count = Annotated[int, msgspec.Meta(ge=0, le=2_000_000_000)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]

Role = Literal["all", "gateway", "app"]
ROLES: tuple[Role, ...] = get_args(Role)

_SECRETS = frozenset({"jwt_secret", "token_secret", "token_secret_previous", "midtrans_server_key"})
_URLS = frozenset({"database_url", "migrate_url"})


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """The secrets that sign sessions and tokens, checked. They do not show in `repr`."""

    jwt_secret: str
    token_secret: str
    token_secret_previous: str | None = None

    def __repr__(self) -> str:
        return "Keys(***)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []

    @property
    def csrf_secret(self) -> str:
        """Key that signs CSRF tokens, derived from `jwt_secret`."""
        return config_secrets.derive(self.jwt_secret, "jasaweb-rt csrf token 1")

    @property
    def derives_token_secret(self) -> bool:
        """Whether the key of connection tokens changes with that of sessions."""
        return self.token_secret == _token_secret_of(self.jwt_secret)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, checked. A limit of 0 is off. Secrets do not show in `repr`."""

    jwt_secret: str
    """HS256 key of session JWTs, at least 32 bytes. `JASAWEB_RT_JWT_SECRET`, or `_JWT_SECRET_FILE`; none of these:
    generated once and kept in `data_dir`."""
    token_secret: str
    """HS256 key of connection tokens, at least 32 bytes. `JASAWEB_RT_TOKEN_SECRET`, or `_TOKEN_SECRET_FILE`; none of
    these: derived from `jwt_secret`."""
    token_secret_previous: str | None = None
    """Key of connection tokens accepted until a rotation is over. `JASAWEB_RT_TOKEN_SECRET_PREVIOUS`, or `_FILE`."""
    database_url: str | None = None
    """PostgreSQL 14 or newer; none: the embedded server. `DATABASE_URL`, without prefix."""
    migrate_url: str | None = None
    """URL of a role that may create tables; none: `database_url`. `JASAWEB_RT_MIGRATE_URL`."""
    host: str = "127.0.0.1"
    """Address of the public front door. `JASAWEB_RT_HOST`."""
    port: Port = 8000
    """Port of the public front door; 0 takes a free one. `JASAWEB_RT_PORT`."""
    public_url: str | None = None
    """What the outside calls this server, as in `https://rt.example.org`; none: taken from each request.
    `JASAWEB_RT_PUBLIC_URL`."""
    session_cookie: str = "auth_token"
    """Cookie that carries the session JWT. `JASAWEB_RT_SESSION_COOKIE`."""
    allowed_origins: tuple[str, ...] = ()
    """Origins that may open sockets beside the server's own; `*`: any. `JASAWEB_RT_ALLOWED_ORIGINS`, with commas."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose `X-Forwarded-*` is believed; for an app that listens on a TCP port, the gateways'.
    `JASAWEB_RT_TRUSTED_PROXIES`, comma-separated."""
    require_tls: bool | None = None
    """Whether a WebSocket is refused that came neither to us by TLS nor to a trusted proxy by https; none: true unless
    bound to loopback. `JASAWEB_RT_REQUIRE_TLS`."""
    tls_cert: str | None = None
    """PEM file of the server's certificate and its chain, read again when it changes; the public port then speaks TLS
    alone. None: plain HTTP. `JASAWEB_RT_TLS_CERT`."""
    tls_key: str | None = None
    """PEM file of its key, without a passphrase. `JASAWEB_RT_TLS_KEY`."""
    max_connections: Count = 0
    """Sockets in all; more get 503. `JASAWEB_RT_MAX_CONNECTIONS`; from `ulimit -n` where not given."""
    max_connections_per_user: Count = 10
    """Sockets of one user; one more closes the idlest of them with 4004. `JASAWEB_RT_MAX_CONNECTIONS_PER_USER`."""
    max_connections_per_ip: Count = 100
    """Sockets from one address; more get 429. `JASAWEB_RT_MAX_CONNECTIONS_PER_IP`."""
    connect_rate_per_ip: Count = 20
    """New connections a second from one address; more get 429. `JASAWEB_RT_CONNECT_RATE_PER_IP`."""
    connect_burst_per_ip: Count = 100
    """New connections that one address may open at once. `JASAWEB_RT_CONNECT_BURST_PER_IP`."""
    message_rate: Count = 20
    """Frames a second from one client; more close with 1008. `JASAWEB_RT_MESSAGE_RATE`."""
    message_burst: Count = 50
    """Frames that one client may send at once. `JASAWEB_RT_MESSAGE_BURST`."""
    max_message_bytes: Annotated[int, msgspec.Meta(ge=1024, le=16_777_216)] = 65_536
    """Bytes of a client's message; a longer one closes with 1009. `JASAWEB_RT_MAX_MESSAGE_BYTES`."""
    send_queue_bytes: Annotated[int, msgspec.Meta(ge=65_536, le=1_073_741_824)] = 1_048_576
    """Bytes that may wait for one connection; more close it with 4002. `JASAWEB_RT_SEND_QUEUE_BYTES`."""
    compress_min_bytes: Count = 512
    """Bytes of a frame from which on it is deflated for clients that offer it; 0: none is.
    `JASAWEB_RT_COMPRESS_MIN_BYTES`."""
    workers: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    """Threads of the core; none: one for each processor core. `JASAWEB_RT_WORKERS`."""
    coalesce_ms: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 10
    """Least milliseconds between two writes to one connection under load; 0: at once. `JASAWEB_RT_COALESCE_MS`."""
    ping_interval: Seconds = 25.0
    """Seconds of silence after which a peer is pinged. `JASAWEB_RT_PING_INTERVAL`."""
    pong_timeout: Seconds = 10.0
    """Seconds that a peer has to answer a ping before it is closed with 4003. `JASAWEB_RT_PONG_TIMEOUT`."""
    message_log: Literal["durable", "off"] = "durable"
    """Which frames that were sent are kept in `websocket_messages`. `JASAWEB_RT_MESSAGE_LOG`."""
    drain_seconds: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 10.0
    """Seconds that a stop may take in all. `JASAWEB_RT_DRAIN_SECONDS`."""
    metrics_networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks that may read the details of `/readyz`. `JASAWEB_RT_METRICS_NETWORKS`, comma-separated."""
    role: Role = "all"
    """Which part of a server this process is: the front door with all that belongs to sockets (`gateway`), the web
    application (`app`), or both. `JASAWEB_RT_ROLE`."""
    nats_url: tuple[str, ...] = ()
    """NATS servers of a cluster; none: a single node. `JASAWEB_RT_NATS_URL`, comma-separated."""
    nats_credentials: str | None = None
    """File of credentials for NATS: a JWT with its key, as `nsc` writes it, or the seed of an nkey.
    `JASAWEB_RT_NATS_CREDENTIALS`."""
    nats_ca: str | None = None
    """PEM file of the authority that the certificates of NATS are checked by; none: those that the system trusts.
    `JASAWEB_RT_NATS_CA`."""
    app_url: str | None = None
    """Where a gateway forwards what is not `/ws`, and where an app listens: `unix:/path/to/socket` or
    `http://host:port`; none: `app.sock` in `data_dir`. `JASAWEB_RT_APP_URL`."""
    midtrans_server_key: str | None = None
    """Server key of the Midtrans account, which signs payment results; none: the webhook answers 503.
    `JASAWEB_RT_MIDTRANS_SERVER_KEY`."""
    retention_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 30
    """Days that `websocket_messages` and closed `websocket_connections` are kept; 0: for ever.
    `JASAWEB_RT_RETENTION_DAYS`."""
    data_dir: Path = Path(".jasaweb")
    """Folder of the embedded database and of generated secrets, under the working directory. Not a variable."""

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        shown: list[tuple[str, object]] = []
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and name in _SECRETS:
                value = "***"
            elif value is not None and name in _URLS:
                value = config_source.without_password(value)
            elif name == "nats_url":
                value = tuple(config_source.without_account(url) for url in value)
            shown.append((name, value))
        return shown

    @property
    def app_address(self) -> str:
        """Where a gateway and its app meet, as a URL. ConfigurationError: `data_dir` leaves no room for a socket."""
        return self.app_url or config_role.socket_in(self.data_dir)

    @property
    def keys(self) -> Keys:
        """The secrets of sessions and tokens, as they were at the start."""
        return Keys(
            jwt_secret=self.jwt_secret,
            token_secret=self.token_secret,
            token_secret_previous=self.token_secret_previous,
        )


_PARSERS = {
    "app_url": config_role.app_url,
    "database_url": config_source.database_url,
    "migrate_url": config_source.database_url,
    "public_url": config_source.public_url,
    "allowed_origins": config_source.origins,
    "trusted_proxies": config_source.networks,
    "metrics_networks": config_source.networks,
    "nats_url": config_source.nats_urls,
    "session_cookie": config_source.cookie_name,
}


def load_settings(
    environ: Mapping[str, str] = os.environ,
    dotenv: Path | None = Path(".env"),
    *,
    data_dir: Path = Path(".jasaweb"),
) -> Settings:
    """Reads and checks every setting; the environment wins over the file `dotenv`, which need not exist.

    Where no JWT secret is configured, one is made in `data_dir` and used from then on.

    Raises:
        ConfigurationError: with the name of the variable and the mend.
    """
    texts = _texts(environ, dotenv)
    values: dict[str, object] = {
        "data_dir": data_dir,
        "max_connections": default_max_connections(),
    }
    for field in msgspec.structs.fields(Settings):
        if (text := texts.get(field.name)) is not None and field.name not in Keys.__struct_fields__:
            values[field.name] = _value(field.name, field.type, text)
    for name in ("nats_credentials", "nats_ca"):
        if name in values and "nats_url" not in values:
            raise ConfigurationError(
                f"{config_source.variable(name)} is set without {config_source.variable('nats_url')}; set that, "
                "too, or unset this one."
            )
    values |= msgspec.structs.asdict(_keys(texts, data_dir))
    settings = msgspec.convert(values, Settings)
    config_role.check(settings, texts)
    return settings


def load_keys(
    environ: Mapping[str, str] = os.environ,
    dotenv: Path | None = Path(".env"),
    *,
    data_dir: Path = Path(".jasaweb"),
) -> Keys:
    """The secrets alone, by the same rules as `load_settings`: what files hold is read anew.

    Raises:
        ConfigurationError: with the name of the variable and the mend.
    """
    return _keys(_texts(environ, dotenv), data_dir)


def _texts(environ: Mapping[str, str], dotenv: Path | None) -> Mapping[str, str]:
    known = [field for field in Settings.__struct_fields__ if field != "data_dir"]
    return config_source.read(environ, dotenv, known + [f"{name}_file" for name in Keys.__struct_fields__])


def _keys(texts: Mapping[str, str], data_dir: Path) -> Keys:
    jwt_secret = config_secrets.resolve(texts, "jwt_secret") or config_secrets.generated(data_dir / "jwt_secret")
    return Keys(
        jwt_secret=jwt_secret,
        token_secret=config_secrets.resolve(texts, "token_secret") or _token_secret_of(jwt_secret),
        # The file stays named between two rotations, so that no restart is needed for one.
        token_secret_previous=config_secrets.resolve(texts, "token_secret_previous", may_be_empty=True),
    )


def _token_secret_of(jwt_secret: str) -> str:
    return config_secrets.derive(jwt_secret, "jasaweb-rt connection token 1")


def _value(field: str, kind: object, text: str) -> object:
    variable = config_source.variable(field)
    parser = _PARSERS.get(field)
    return parser(variable, text) if parser else config_source.parse(variable, text, kind)


def default_max_connections() -> int:
    """How many sockets fit into this process's limit of open files."""
    return max_connections_for(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def max_connections_for(open_files: int) -> int:
    """How many sockets fit into a limit of `open_files` (`ulimit -n`); 0, no bound, where that is unlimited.

    A quarter of it, at most 1,024, is kept: for HTTP connections, requests on their way to the web app, the database
    and files.
    """
    if open_files == resource.RLIM_INFINITY:
        return 0
    return max(1, open_files - min(1024, open_files // 4))
