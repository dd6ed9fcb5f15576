"""`jasaweb-rt doctor`."""

import asyncio

import rich_click as click

from jasaweb_rt.cli.common import plain
from jasaweb_rt.doctor.findings import Finding

__all__ = ["doctor"]


@click.command("doctor")
@click.pass_context
def doctor(context: click.Context) -> None:
    """Says what of settings, database, NATS, limits and port is fit for service.

    A line a finding: ok, advice (it works, and could be better or should be intended), or wrong. It changes nothing.
    Run it where the server runs: as its user, with its environment, under its limits. Exits with 1 where anything is
    wrong.
    """
    if asyncio.run(_examine()):
        context.exit(1)


async def _examine() -> int:
    """Says what it finds, as it comes; returns how much is wrong."""
    # Here and not above: a program that only asks for its version need not load the gateway.
    from jasaweb_rt.doctor import certificate, configuration, database, limits, nats, port

    wrong = 0

    def tell(finding: Finding) -> None:
        nonlocal wrong
        wrong += finding.verdict == "wrong"
        click.echo(plain(str(finding)))

    configured = configuration.look()
    for finding in configured.findings:
        tell(finding)
    settings = configured.settings
    if settings is None:
        return wrong
    has_front_door = settings.role != "app"
    for finding in certificate.look(settings) if has_front_door else ():
        tell(finding)
    if not {"DATABASE_URL", "JASAWEB_RT_MIGRATE_URL"} & configured.refused:
        async for finding in database.look(settings):
            tell(finding)
    for finding in nats.look(settings):
        tell(finding)
    for finding in (*limits.look(settings), *port.look(settings)) if has_front_door else ():
        tell(finding)
    return wrong
