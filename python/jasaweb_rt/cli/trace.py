"""`jasaweb-rt trace`."""

import asyncio
from collections.abc import Iterator

import msgspec
import rich_click as click

from jasaweb_rt.cli.common import database_in_use, plain
from jasaweb_rt.config import Settings, load_settings
from jasaweb_rt.database import pool
from jasaweb_rt.domain import traces
from jasaweb_rt.domain.traces import TraceBody, TracedConnection

__all__ = ["trace"]

_NO_COMMIT_TIMES = "when is not known, PostgreSQL has track_commit_timestamp off or had it off then"


@click.command("trace")
@click.argument("notification_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print what the HTTP route answers.")
def trace(notification_id: str, as_json: bool) -> None:
    """Says where a notification is: committed, relayed, sent to which connections, arrived there, read.

    Times are in UTC. The id is what `jasaweb-rt notify` prints, and the `id` of the frame.
    """
    settings = load_settings()
    found = asyncio.run(_find(database_in_use(settings), notification_id, settings))
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    for what, words in _story(found):
        click.echo(f"{what:<14}{plain(words)}")


async def _find(url: str, notification_id: str, settings: Settings) -> TraceBody:
    connection = await pool.connect(url)
    try:
        return await traces.trace(connection, notification_id, settings)
    finally:
        await connection.close(timeout=5)


def _story(found: TraceBody) -> Iterator[tuple[str, str]]:
    """Line by line, each with what it is about."""
    one = found.notification
    yield "notification", f'{one.id}, {one.type} "{one.title}" for the user {one.user_id}'
    yield "created", one.created_at
    if found.numbered == "on_insert":
        yield "committed", f"{found.committed_at or f'yes; {_NO_COMMIT_TIMES}'}, as number {found.seq} of this user"
    elif found.numbered == "by_migration":
        yield "committed", f"yes, before this database numbered notifications; number {found.seq} of this user since"
    else:
        yield "committed", "yes, without a number: it was written past the triggers"
    yield "relayed", _relayed(found)
    yield "sent", _sent(found)
    for connection in found.connections.items:
        yield "", _connection(connection)
    hidden = found.connections.total - len(found.connections.items)
    if hidden:
        yield "", f"and {hidden} more"
    yield "read", found.read_at or "not yet"


def _relayed(found: TraceBody) -> str:
    if found.relayed:
        return "yes"
    if found.waiting is None:
        if found.seq is None:
            return "no, and it will not be, but by `jasaweb-rt check --mend`"
        return "no; clients find it in the inbox, or when they resume"
    since = f" since {found.waiting.since}" if found.waiting.since else ""
    if not found.waiting.relay_runs:
        return f"no, it waits{since}: no server relays; start `jasaweb-rt serve` on this database"
    return f"no, it waits{since}; {found.waiting.ahead or 'none'} to be relayed before it"


def _sent(found: TraceBody) -> str:
    connections = found.connections
    if connections.total:
        plural = "" if connections.total == 1 else "s"
        return f"to {connections.total} connection{plural}, known to have arrived on {connections.delivered}"
    if found.message_log == "off":
        return "not known: JASAWEB_RT_MESSAGE_LOG is off"
    if found.waiting is not None:
        return "not yet"
    kept = f"; it is kept for {found.retention_days} days" if found.retention_days else ""
    return f"to no connection, by a log that is some two seconds behind{kept}"


def _connection(connection: TracedConnection) -> str:
    if not connection.delivered:
        arrived = "not known to have arrived"
    elif connection.delivered_before is None:
        arrived = "arrived"
    else:
        arrived = f"arrived by {connection.delivered_before}"
    where = f"{connection.connection_id} from {connection.client_ip or 'an unknown address'}"
    agent = f", {connection.user_agent}" if connection.user_agent else ""
    return f"{connection.sent_at} to {where} ({connection.status}, since {connection.connected_at}{agent}): {arrived}"
