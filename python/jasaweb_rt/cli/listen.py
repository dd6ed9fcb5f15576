"""`jasaweb-rt listen`."""

import asyncio
import signal
from contextlib import suppress

import msgspec
import rich_click as click

from jasaweb_rt.api.notifications import Inbox
from jasaweb_rt.cli.common import database_in_use, log_to_stderr
from jasaweb_rt.cli.token import find_user, issue_for
from jasaweb_rt.client import Page, PageFetcher, RealtimeClient, TokenProvider
from jasaweb_rt.config import Settings, load_settings
from jasaweb_rt.database import notifications, pool
from jasaweb_rt.database.errors import database_errors

__all__ = ["listen"]

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where a server listens, not where we do


@click.command("listen")
@click.option("--user", "user_id", help="Listen as this user; tokens are made as needed.")
@click.option("--token", help="Listen with this connection token, as long as it serves.")
@click.option("--url", help="The WebSocket; by default that of the server that these settings describe.")
@click.pass_context
def listen(context: click.Context, user_id: str | None, token: str | None, url: str | None) -> None:
    """Prints frames as they come, one a line, until Ctrl-C; reconnects and resumes.

    What a long break made too much to be replayed is read from the database; with --token it is not.
    """
    if (user_id is None) == (token is None):
        raise click.UsageError("Name either --user or --token.")
    log_to_stderr(context)
    settings = load_settings()
    source: str | TokenProvider = token or _tokens_for(settings, user_id or "")
    pages = _pages_for(settings, user_id) if user_id else None
    asyncio.run(_print_frames(url or _socket_url(settings), source, pages))


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
    return f"ws://{f'[{host}]' if ':' in host else host}:{settings.port}/ws"


async def _print_frames(url: str, token: str | TokenProvider, fetch_page: PageFetcher | None) -> None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # we run in one
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        async with RealtimeClient(url, token, fetch_page=fetch_page) as client:
            async for frame in client:
                click.echo(msgspec.json.encode(frame))
