"""Liveness and readiness."""

from typing import Any

import msgspec
from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency

from jasaweb_rt.api.addresses import is_from_metrics_network
from jasaweb_rt.api.errors import documented
from jasaweb_rt.vitals import Checks, Vitals

__all__ = ["HealthController"]


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
    async def ready(self, request: Request[Any, Any, Any], vitals: NamedDependency[Vitals]) -> Response[HealthBody]:
        """Says whether this server can serve: database, relay, listener, disk, NATS, not draining."""
        checks = await vitals.checks()
        details = checks if is_from_metrics_network(request, vitals.settings) else None
        if checks.ready:
            return Response(HealthBody(success=True, checks=details))
        return Response(HealthBody(success=False, error="Not ready", checks=details), status_code=503)
