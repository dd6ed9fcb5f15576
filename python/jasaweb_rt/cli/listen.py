"""`jasaweb-rt listen`."""

import asyncio
import re
import signal
import ssl
from contextlib import suppress
from pathlib import Path

import msgspec
import rich_click as click

from jasaweb_rt.api.notifications import Inbox
from jasaweb_rt.cli.common import database_in_use, log_to_stderr
from jasaweb_rt.cli.token import find_user, issue_for
from jasaweb_rt.client import Page, PageFetcher, RealtimeClient, TokenProvider
from jasaweb_rt.config import Settings, load_settings
from jasaweb_rt.database import notifications, pool
from jasaweb_rt.database.errors import database_errors
from jasaweb_rt.exceptions import ConfigurationError

__all__ = ["listen"]

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where a server listens, not where we do

_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@click.command("listen")
@click.option("--user", "user_id", help="Listen as this user; tokens are made as needed.")
@click.option("--token", help="Listen with this connection token, as long as it serves.")
@click.option("--url", help="The WebSocket; by default that of the server that these settings describe.")
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file of the authorities to trust, for wss:; by default those of the system.",
)
@click.pass_context
def listen(context: click.Context, user_id: str | None, token: str | None, url: str | None, ca: Path | None) -> None:
    """Prints frames as they come, one a line, until Ctrl-C; reconnects and resumes.

    What a long break made too much to be replayed is read from the database; with --token it is not.
    """
    if (user_id is None) == (token is None):
        raise click.UsageError("Name either --user or --token.")
    log_to_stderr(context)
    settings = load_settings()
    source: str | TokenProvider = token or _tokens_for(settings, user_id or "")
    pages = _pages_for(settings, user_id) if user_id else None
    tls = _trust(settings, ca, is_own=url is None)
    asyncio.run(_print_frames(url or _socket_url(settings), source, pages, tls))


def _tokens_for(settings: Settings, user_id: str) -> TokenProvider:
    async def issue() -> str:
        user = await find_user(database_in_use(settings), user_id)
        return issue_for(settings, user.id, user.role, user.name)

    return issue


def _pages_for(settings: Settings, user_id: str) -> PageFetcher:
    async def fetch(after: int, limit: int) -> Page:
        connection = await pool.connect(database_in_use(settings))
        try:
            with database_errors(connection=connection):
                page = await notifications.inbox(connection, user_id, after, limit)
        finally:
            await connection.close(timeout=5)
        return msgspec.json.decode(msgspec.json.encode(Inbox.of(page)), type=Page)

    return fetch


def _socket_url(settings: Settings) -> str:
    if settings.public_url:
        return f"{settings.public_url.replace('http', 'ws', 1)}/ws"
    host = _ANY.get(settings.host, settings.host)
    return f"{'wss' if settings.tls_cert else 'ws'}://{f'[{host}]' if ':' in host else host}:{settings.port}/ws"


def _trust(settings: Settings, authorities: Path | None, *, is_own: bool) -> ssl.SSLContext | None:
    """Whom to believe that it is the server; None: whom the system trusts.

    The server of these settings is known by its certificate itself, whatever name that is for.
    """
    try:
        if authorities is not None:
            return ssl.create_default_context(cafile=authorities)
        if not is_own or settings.public_url or settings.tls_cert is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        # Its own alone: another of the chain would vouch for whatever it has signed.
        context.load_verify_locations(cadata=_first_certificate(Path(settings.tls_cert)))
    except OSError as error:
        raise ConfigurationError(f"{authorities or settings.tls_cert} has no certificate to trust: {error}.") from None
    return context


def _first_certificate(file: Path) -> str:
    """The server's own of a chain in PEM; it comes first, RFC 8446 section 4.4.2. OSError: the file has none."""
    if found := _CERTIFICATE.search(file.read_text("ascii", errors="ignore")):
        return found[0]
    raise OSError("no certificate in PEM")


async def _print_frames(
    url: str, token: str | TokenProvider, fetch_page: PageFetcher | None, tls: ssl.SSLContext | None
) -> None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # we run in one
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        async with RealtimeClient(url, token, fetch_page=fetch_page, tls=tls) as client:
            async for frame in client:
                click.echo(msgspec.json.encode(frame))
