"""For administrators: where a notification is."""

from typing import Annotated

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import PathParameter

from jasaweb_rt.api.errors import SIGNED_IN, documented
from jasaweb_rt.auth.guards import must_be_admin
from jasaweb_rt.domain import traces
from jasaweb_rt.domain.traces import TraceBody
from jasaweb_rt.services import Services

__all__ = ["TracesController"]

# PostgreSQL keeps no NUL, so no notification has one in its id.
NotificationId = Annotated[str, PathParameter(max_length=200, pattern=r"^[^\x00]+$")]


class TracesController(Controller):
    """The trace of a notification."""

    path = "/api/admin/notifications"
    tags = ["admin"]  # noqa: RUF012  # Litestar's own way
    guards = [must_be_admin]  # noqa: RUF012  # Litestar's own way
    security = SIGNED_IN

    @get("/{notification_id:str}/trace", responses=documented(400, 401, 403, 404))
    async def trace(self, notification_id: NotificationId, services: NamedDependency[Services]) -> TraceBody:
        """Says how far a notification has come: relayed, sent to which connections, arrived on which, read."""
        async with services.connection() as connection:
            return await traces.trace(connection, notification_id, services.settings)
