"""`jasaweb-rt database-url`."""

import rich_click as click

from jasaweb_rt.cli.common import database_in_use
from jasaweb_rt.config import load_settings

__all__ = ["database_url"]


@click.command("database-url")
def database_url() -> None:
    """Prints the URL of the database in use, the embedded one too while it runs.

    For psql and other programs: psql "$(jasaweb-rt database-url)"
    """
    click.echo(database_in_use(load_settings()))
