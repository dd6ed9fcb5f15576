"""The core as the settings have it: each of its limits is one of them."""

from pathlib import Path

from jasaweb_rt._core import FanoutServer
from jasaweb_rt.config import Settings
from jasaweb_rt.exceptions import ConfigurationError

__all__ = ["open_core"]


def open_core(settings: Settings, own_socket: Path | None, *, take_over: bool = False) -> FanoutServer:
    """A core that is not started yet; `own_socket` and `take_over` as of `Gateway`.

    Raises:
        ConfigurationError: a limit cannot be used as given.
    """
    app_url, probe_url = _forwarding(settings, own_socket)
    try:
        return FanoutServer(
            token_secret=settings.token_secret,
            token_secret_previous=settings.token_secret_previous,
            host=settings.host,
            port=settings.port,
            allowed_origins=settings.allowed_origins,
            trusted_proxies=settings.trusted_proxies,
            require_tls=settings.require_tls,
            max_connections=settings.max_connections,
            max_connections_per_user=settings.max_connections_per_user,
            max_connections_per_ip=settings.max_connections_per_ip,
            connect_rate_per_ip=settings.connect_rate_per_ip,
            connect_burst_per_ip=settings.connect_burst_per_ip,
            message_rate=settings.message_rate,
            message_burst=settings.message_burst,
            max_message_bytes=settings.max_message_bytes,
            send_queue_bytes=settings.send_queue_bytes,
            compress_min_bytes=settings.compress_min_bytes,
            workers=settings.workers,
            coalesce_ms=settings.coalesce_ms,
            ping_interval=settings.ping_interval,
            pong_timeout=settings.pong_timeout,
            tls_cert=settings.tls_cert,
            tls_key=settings.tls_key,
            app_url=app_url,
            probe_url=probe_url,
            sync=True,
            take_over=take_over,
            nats_url=settings.nats_url,
            nats_credentials=settings.nats_credentials,
            nats_ca=settings.nats_ca,
        )
    except ValueError as error:
        raise ConfigurationError(f"JASAWEB_RT_{_upper_name(str(error))}") from None


def _forwarding(settings: Settings, own_socket: Path | None) -> tuple[str | None, str | None]:
    """Where what is not `/ws` goes, and where probes go if not there, too."""
    if own_socket is None:
        return None, None
    own_url = f"unix:{own_socket}"
    return (settings.app_address, own_url) if settings.role == "gateway" else (own_url, None)


def _upper_name(text: str) -> str:
    """`port: must be …` as `PORT: must be …`."""
    name, _, rest = text.partition(":")
    return f"{name.upper()}:{rest}"
