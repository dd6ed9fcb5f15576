"""Liveness and readiness."""

import asyncio
from typing import Any, Literal

import msgspec
from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency

from jasaweb_rt.api.addresses import is_from_metrics_network
from jasaweb_rt.api.errors import documented
from jasaweb_rt.exceptions import DatabaseUnavailableError
from jasaweb_rt.services import Services

__all__ = ["HealthController"]

_DATABASE_SECONDS = 2.0

Condition = Literal["ok", "failed"]


class Checks(msgspec.Struct, frozen=True, omit_defaults=True):
    """What readiness is made of."""

    database: Condition
    """It answers, within 2 s."""
    relay: Condition
    """A commit would be noticed."""
    listener: Condition
    """New connections are let in: there are file descriptors for them."""
    disk: Condition
    """PostgreSQL has room to write."""
    draining: bool
    """The server is stopping."""
    nats: Condition | None = None
    """Frames of other nodes come in, as an echo has shown. Only where there is a cluster."""

    @property
    def ready(self) -> bool:
        """Whether all of it is as it should be."""
        return not self.draining and all(
            condition in ("ok", None) for condition in (self.database, self.relay, self.listener, self.disk, self.nats)
        )


class HealthBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of both probes; `checks` for the metrics networks only."""

    success: bool
    error: str | None = None
    checks: Checks | None = None


class HealthController(Controller):
    """For supervisors and load balancers."""

    tags = ["health"]  # noqa: RUF012  # Litestar's own way
    opt = {"any_query": True, "exclude_from_auth": True, "exclude_from_csrf": True}  # noqa: RUF012  # Litestar's own way

    @get("/healthz", responses=documented())
    async def live(self) -> HealthBody:
        """Says that this process answers."""
        return HealthBody(success=True)

    @get("/readyz", responses=documented())
    async def ready(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> Response[HealthBody]:
        """Says whether this server can serve: database, relay, listener, disk, NATS, not draining."""
        gateway = services.gateway
        gateway.probes.asked()
        checks = Checks(
            database=_condition(await _database_answers(services)),
            relay=_condition(gateway.is_relay_ready),
            listener=_condition(gateway.is_accepting),
            disk=_condition(not gateway.disk.is_full),
            draining=gateway.is_draining,
            nats=_condition(gateway.link.is_up) if gateway.link.is_configured else None,
        )
        details = checks if is_from_metrics_network(request, services.settings) else None
        if checks.ready:
            return Response(HealthBody(success=True, checks=details))
        return Response(HealthBody(success=False, error="Not ready", checks=details), status_code=503)


def _condition(is_well: bool) -> Condition:
    return "ok" if is_well else "failed"


async def _database_answers(services: Services) -> bool:
    try:
        async with asyncio.timeout(_DATABASE_SECONDS), services.connection() as connection:
            await connection.fetchval("SELECT 1")
    except (DatabaseUnavailableError, TimeoutError):
        return False
    return True
