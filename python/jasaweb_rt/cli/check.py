"""`jasaweb-rt check`."""

import asyncio
from typing import Final

import asyncpg
import rich_click as click

from jasaweb_rt.cli.common import EXIT_CODE_OF_ERRORS, database_in_use, log_to_stderr, plain
from jasaweb_rt.config import load_settings
from jasaweb_rt.database import migrations, pool
from jasaweb_rt.domain import ledger
from jasaweb_rt.domain.ledger import Kind, Mended, Report
from jasaweb_rt.exceptions import ConfigurationError, ConflictError, MigrationError

__all__ = ["check"]

# A database of any size is read in that time. Below PostgreSQL's `deadlock_timeout`, so that no writer is the victim.
_STATEMENT_SECONDS = 3600.0
_LOCK_SECONDS = 0.5

_WORDS: Final[dict[Kind, tuple[str, str]]] = {
    "no_counter": ("user without a counter", "users without a counter"),
    "head_behind": ("counter behind its feed", "counters behind their feed"),
    "wrong_unread": ("wrong unread count", "wrong unread counts"),
    "unnumbered": ("notification without a number", "notifications without a number"),
    "stray_place": ("place in the feed that must not be", "places in the feed that must not be"),
    "dangling": ("row of the outbox with a number that was never given", "rows of the outbox with such a number"),
}


@click.command("check")
@click.option("--mend", is_flag=True, help="Mend what is wrong, also while programs write, and check again.")
@click.pass_context
def check(context: click.Context, mend: bool) -> None:
    """Proves counters, feed and outbox against the notifications themselves.

    Exits with 0 where all is right (with --mend: in the end), with 1 where something is wrong, with 2 where it could
    not find out.
    """
    context.meta[EXIT_CODE_OF_ERRORS] = 2
    log_to_stderr(context)
    settings = load_settings()
    report = asyncio.run(_check(settings.migrate_url or database_in_use(settings), mend=mend))
    if report.findings:
        context.exit(1)


async def _check(url: str, *, mend: bool) -> Report:
    """Says what it finds; returns what was found last."""
    missing = await migrations.pending(url)
    if missing:
        raise MigrationError(f"The database lacks {', '.join(missing)}; run `jasaweb-rt migrate` first")
    connection = await pool.connect(
        url,
        application_name="jasaweb-rt check",
        statement_timeout=_STATEMENT_SECONDS,
        lock_timeout=_LOCK_SECONDS,
        server_settings={"default_transaction_isolation": "read committed"},
    )
    try:
        report = await ledger.check(connection)
        _tell(report)
        if mend and report.findings:
            _tell_mended(await ledger.mend(connection, report))
            report = await ledger.check(connection)
            _tell(report)
        return report
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigurationError(
            f"{error.message}; check as the role that migrates (JASAWEB_RT_MIGRATE_URL)"
        ) from error
    except asyncpg.LockNotAvailableError as error:
        raise ConflictError(f"{error.message}; end what holds the table, then try again") from error
    finally:
        await connection.close(timeout=5)


def _tell(report: Report) -> None:
    for finding in report.findings:
        click.echo(f"{finding.count:,} {_WORDS[finding.kind][finding.count != 1]}")
        for example in finding.examples:
            click.echo(f"    {plain(example)}")
    if not report.findings:
        click.echo(f"Nothing is wrong: {report.size.notifications:,} notifications, {report.size.counters:,} counters.")


def _tell_mended(mended: Mended) -> None:
    click.echo(
        f"Mended: {mended.counters:,} counters corrected or made, {mended.places:,} places removed, "
        f"{mended.numbered:,} notifications numbered and pushed, {mended.outbox_rows:,} rows of the outbox removed."
    )
