"""`jasaweb-rt migrate`."""

import asyncio

import rich_click as click

from jasaweb_rt.cli.common import log_to_stderr, reachable_database
from jasaweb_rt.config import load_settings
from jasaweb_rt.database import migrations

__all__ = ["migrate"]


@click.command("migrate")
@click.option("--check", is_flag=True, help="Change nothing; say what, or which right, is missing, and exit with 1.")
@click.option("--grant-to", metavar="ROLE", help="Give this role what a server needs to run, and no more.")
@click.pass_context
def migrate(context: click.Context, check: bool, grant_to: str | None) -> None:
    """Brings the database to the version that this program needs."""
    if check and grant_to is not None:
        raise click.UsageError("--check changes nothing, so it cannot go with --grant-to.")
    log_to_stderr(context)
    settings = load_settings()
    with reachable_database(settings) as url:
        if check:
            missing = asyncio.run(migrations.pending(url))
            for name in missing:
                click.echo(f"missing {name}")
            if missing:
                context.exit(1)
            if settings.database_url is not None:
                asyncio.run(migrations.check_rights(settings.database_url))
            click.echo("Nothing is missing.")
        else:
            if grant_to is None and settings.database_url is not None:
                applied = asyncio.run(migrations.migrate_for(settings.database_url, settings.migrate_url))
            else:
                applied = asyncio.run(migrations.migrate(url, grant_to=grant_to))
            for name in applied:
                click.echo(f"applied {name}")
            if not applied:
                click.echo("Nothing was missing.")
