"""Measures for Prometheus."""

from typing import Any

from litestar import Controller, MediaType, Request, Response, get
from litestar.di import NamedDependency

from jasaweb_rt.api.addresses import is_from_metrics_network
from jasaweb_rt.api.errors import documented
from jasaweb_rt.exceptions import ForbiddenError
from jasaweb_rt.vitals import Vitals

__all__ = ["MetricsController"]


class MetricsController(Controller):
    """For those who watch the server, from where they are allowed to."""

    tags = ["health"]  # noqa: RUF012  # Litestar's own way
    opt = {"any_query": True, "exclude_from_auth": True, "exclude_from_csrf": True}  # noqa: RUF012  # Litestar's own way

    @get("/metrics", media_type=MediaType.TEXT, responses=documented(403))
    async def metrics(self, request: Request[Any, Any, Any], vitals: NamedDependency[Vitals]) -> Response[bytes]:
        """Tells the counters in Prometheus' text format, or OpenMetrics where that is asked for."""
        if not is_from_metrics_network(request, vitals.settings):
            raise ForbiddenError(
                "This address may not read the metrics; JASAWEB_RT_METRICS_NETWORKS names those that may"
            )
        content, media_type = vitals.metrics.encode(request.headers.get("accept", ""))
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-store"})
