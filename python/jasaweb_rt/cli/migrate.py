"""`jasaweb-rt migrate`."""

import asyncio

import rich_click as click

from jasaweb_rt.cli.common import log_to_stderr, reachable_database
from jasaweb_rt.config import load_settings
from jasaweb_rt.database import migrations

__all__ = ["migrate"]


@click.command("migrate")
@click.option("--check", is_flag=True, help="Change nothing; say what is missing, and exit with 1 if anything is.")
@click.pass_context
def migrate(context: click.Context, check: bool) -> None:
    """Brings the database to the version that this program needs."""
    log_to_stderr(context)
    with reachable_database(load_settings()) as url:
        if check:
            missing = asyncio.run(migrations.pending(url))
            for name in missing:
                click.echo(f"missing {name}")
            if missing:
                context.exit(1)
            click.echo("Nothing is missing.")
        else:
            applied = asyncio.run(migrations.migrate(url))
            for name in applied:
                click.echo(f"applied {name}")
            if not applied:
                click.echo("Nothing was missing.")
