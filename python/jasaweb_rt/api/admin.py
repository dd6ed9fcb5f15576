"""For administrators: how the server does, who is connected, and a word to many."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter, QueryParameter

from jasaweb_rt.api.errors import SIGNED_IN, documented
from jasaweb_rt.auth.guards import must_be_admin
from jasaweb_rt.database.users import User
from jasaweb_rt.domain.broadcasts import Broadcast
from jasaweb_rt.exceptions import NotFoundError
from jasaweb_rt.messages import Audience, Identifier, NotificationType, Text, Title, timestamp
from jasaweb_rt.overview import ConnectionQuery, ConnectionView, NodeStatus
from jasaweb_rt.services import Services

__all__ = ["AdminController"]

MAX_PAGE = 500
_DISCONNECTED_BY_AN_ADMINISTRATOR = 4500

ConnectionId = Annotated[str, PathParameter(max_length=200)]


class ConnectionBody(msgspec.Struct, frozen=True, rename="camel"):
    """One open connection."""

    connection_id: str
    user_id: str
    role: str
    name: str
    client_address: str
    user_agent: str | None
    connected_at: str
    last_activity: str
    last_seq: int | None
    """Null, as the next, where the application runs apart from its gateways: the database does not know."""
    queued_bytes: int | None

    @classmethod
    def of(cls, connection: ConnectionView) -> "ConnectionBody":
        """As it goes out."""
        return cls(
            connection_id=connection.connection_id,
            user_id=connection.user_id,
            role=connection.role,
            name=connection.name,
            client_address=connection.client_address,
            user_agent=connection.user_agent,
            connected_at=_moment(connection.connected_at),
            last_activity=_moment(connection.last_activity),
            last_seq=connection.last_seq,
            queued_bytes=connection.queued_bytes,
        )


class ConnectionList(msgspec.Struct, frozen=True):
    """A page of the connections, the oldest first."""

    items: list[ConnectionBody]
    total: int
    """How many match in all, on this page and off it."""


class Users(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An audience of named users."""

    users: Annotated[list[Identifier], msgspec.Meta(min_length=1, max_length=1000)]


class BroadcastBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be said, and to whom."""

    audience: Audience | Users
    type: NotificationType
    title: Title
    message: Text
    data: dict[str, Any] | None = None
    durable: bool = True
    """Whether it is stored, also for those who are away; if not, it reaches whoever is connected now."""

    def broadcast(self) -> Broadcast:
        """As the domain knows it."""
        audience = self.audience.users if isinstance(self.audience, Users) else self.audience
        return Broadcast(audience=audience, type=self.type, title=self.title, message=self.message, data=self.data)


class BroadcastResult(msgspec.Struct, frozen=True):
    """What became of a broadcast."""

    durable: bool
    count: int
    """Users it was stored for where it is durable, else connections it was sent to."""


class AdminController(Controller):
    """Status, connections, broadcasts."""

    path = "/api/admin/websocket"
    tags = ["admin"]  # noqa: RUF012  # Litestar's own way
    guards = [must_be_admin]  # noqa: RUF012  # Litestar's own way
    security = SIGNED_IN

    @get("/status", responses=documented(400, 401, 403))
    async def status(self, services: NamedDependency[Services]) -> NodeStatus:
        """Says how many are connected and what the server has done, in all and a second.

        Where the application runs apart from its gateways it says how many are connected to them all; the rest is null.
        """
        return await services.overview.status()

    @get("/connections", responses=documented(400, 401, 403))
    async def list_connections(
        self,
        services: NamedDependency[Services],
        user_id: Annotated[str | None, QueryParameter(name="userId")] = None,
        role: Annotated[Literal["admin", "client"] | None, QueryParameter()] = None,
        search: Annotated[
            str, QueryParameter(max_length=200, description="what name, user id or address holds, in any case")
        ] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="items at most")] = 100,
        offset: Annotated[int, QueryParameter(ge=0, le=2**31 - 1, description="items to pass over")] = 0,
    ) -> ConnectionList:
        """Lists who is connected; of one user or role, or by a part of the name, where that is asked for."""
        page, total = await services.overview.connections(
            ConnectionQuery(user_id=user_id, role=role, search=search, limit=limit, offset=offset)
        )
        return ConnectionList(items=[ConnectionBody.of(connection) for connection in page], total=total)

    @delete("/connections/{connection_id:str}", status_code=204, responses=documented(400, 401, 403, 404))
    async def close_connection(self, connection_id: ConnectionId, services: NamedDependency[Services]) -> None:
        """Closes a connection with 4500, on which its client stays away."""
        if not await services.overview.disconnect(connection_id, _DISCONNECTED_BY_AN_ADMINISTRATOR):
            raise NotFoundError("There is no such connection")

    @post("/broadcast", status_code=200, responses=documented(400, 401, 403, 404, 409, 413, 415))
    async def broadcast(
        self, request: Request[User, Any, Any], data: JSONBody[BroadcastBody], services: NamedDependency[Services]
    ) -> BroadcastResult:
        """Tells an audience something: durably, or only those who are connected now."""
        broadcast, actor = data.broadcast(), request.user
        if data.durable:
            count = await services.broadcasts.store(broadcast, actor)
        else:
            count = services.broadcasts.send(broadcast, actor)
        return BroadcastResult(durable=data.durable, count=count)


def _moment(seconds: float) -> str:
    return timestamp(datetime.fromtimestamp(seconds, UTC))
