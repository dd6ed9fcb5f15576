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


class Checks(msgspec.Struct, frozen=True):
    """What readiness is made of."""

    database: Condition
    relay: Condition
    draining: bool

    @property
    def ready(self) -> bool:
        """Whether all of it is as it should be."""
        return self.database == "ok" and self.relay == "ok" and not self.draining


class HealthBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of both probes; `checks` for the metrics networks only."""

    success: bool
    error: str | None = None
    checks: Checks | None = None


class HealthController(Controller):
    """For supervisors and load balancers."""

    tags = ["health"]  # noqa: RUF012  # Litestar's own way
    opt = {"any_query": True, "exclude_from_auth": True, "exclude_from_csrf": True}  # noqa: RUF012  # Litestar's own way

    @get("/healthz")
    async def live(self) -> HealthBody:
        """Says that this process answers."""
        return HealthBody(success=True)

    @get("/readyz", responses=documented(503))
    async def ready(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> Response[HealthBody]:
        """Says whether this server can serve: database, relay, not draining."""
        checks = Checks(
            database="ok" if await _database_answers(services) else "failed",
            relay="ok" if services.gateway.is_relay_ready else "failed",
            draining=services.gateway.is_draining,
        )
        details = checks if is_from_metrics_network(request, services.settings) else None
        if checks.ready:
            return Response(HealthBody(success=True, checks=details))
        return Response(HealthBody(success=False, error="Not ready", checks=details), status_code=503)


async def _database_answers(services: Services) -> bool:
    try:
        async with asyncio.timeout(_DATABASE_SECONDS), services.connection() as connection:
            await connection.fetchval("SELECT 1")
    except (DatabaseUnavailableError, TimeoutError):
        return False
    return True
