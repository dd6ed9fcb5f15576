"""`jasaweb-rt notify`."""

import asyncio
from typing import Any, get_args

import msgspec
import rich_click as click

from jasaweb_rt.cli.common import database_in_use
from jasaweb_rt.config import load_settings
from jasaweb_rt.database import notifications, pool, users
from jasaweb_rt.database.notifications import NewNotification
from jasaweb_rt.exceptions import NotFoundError
from jasaweb_rt.messages import NotificationType

__all__ = ["notify"]


def _object(_: click.Context, __: click.Parameter, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise click.BadParameter(f"not a JSON object ({error})") from None


@click.command("notify")
@click.argument("user_id")
@click.option("--type", "kind", type=click.Choice(get_args(NotificationType)), required=True, help="What it is about.")
@click.option("--title", required=True)
@click.option("--message", required=True)
@click.option("--data", callback=_object, help='More fields of the frame\'s data, as JSON: \'{"priority": "high"}\'')
def notify(user_id: str, kind: NotificationType, title: str, message: str, data: dict[str, Any] | None) -> None:
    """Stores a notification for a user and prints its id.

    It is pushed by whichever server runs on the database.
    """
    url = database_in_use(load_settings())
    item = NewNotification(user_id=user_id, type=kind, title=title, message=message, data=data)
    click.echo(asyncio.run(_store(url, item)))


async def _store(url: str, item: NewNotification) -> str:
    connection = await pool.connect(url)
    try:
        if await users.find_by_id(connection, item.user_id) is None:
            raise NotFoundError(f"There is no user with the id {item.user_id!r}; see the table users")
        return (await notifications.insert_many(connection, [item]))[0]
    finally:
        await connection.close(timeout=5)
