"""Messages between people: whom the caller may write to, and writing."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from jasaweb_rt.api.errors import SIGNED_IN, documented
from jasaweb_rt.auth.guards import must_be_signed_in
from jasaweb_rt.database.users import Role, User
from jasaweb_rt.messages import UserMessageRequest
from jasaweb_rt.services import Services

__all__ = ["UserMessagesController"]

MAX_PAGE = 500


class ContactBody(msgspec.Struct, frozen=True):
    """Somebody who may be written to."""

    id: str
    name: str
    role: Role
    email: str | msgspec.UnsetType = msgspec.UNSET
    """Shown to administrators only."""


class ContactList(msgspec.Struct, frozen=True):
    """A page of contacts, by name."""

    items: list[ContactBody]
    total: int
    """How many match in all, on this page and off it."""


class Sent(msgspec.Struct, frozen=True):
    """The message is stored, and on its way."""

    success: Literal[True] = True


class UserMessagesController(Controller):
    """Contacts, and messages to them."""

    path = "/api"
    tags = ["messages"]  # noqa: RUF012  # Litestar's own way
    guards = [must_be_signed_in]  # noqa: RUF012  # Litestar's own way
    security = SIGNED_IN

    @get("/users", responses=documented(400, 401, 403))
    async def contacts(
        self,
        request: Request[User, Any, Any],
        services: NamedDependency[Services],
        search: Annotated[
            str, QueryParameter(max_length=200, pattern=r"^[^\x00]*$", description="what a name holds, in any case")
        ] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="items at most")] = 100,
        offset: Annotated[int, QueryParameter(ge=0, le=2**31 - 1, description="items to pass over")] = 0,
    ) -> ContactList:
        """Lists whom the caller may write to: a client the administrators, an administrator everyone else."""
        found, total = await services.user_messages.contacts(request.user, search, limit, offset)
        shows_email = request.user.role == "admin"
        return ContactList(
            items=[
                ContactBody(user.id, user.name, user.role, user.email if shows_email else msgspec.UNSET)
                for user in found
            ],
            total=total,
        )

    @post("/messages", responses=documented(400, 401, 403, 404, 409, 413, 415))
    async def send(
        self, request: Request[User, Any, Any], data: JSONBody[UserMessageRequest], services: NamedDependency[Services]
    ) -> Sent:
        """Writes to a user, as the `user_message` frame does."""
        await services.user_messages.send(request.user, data.to_user_id, data.subject, data.content)
        return Sent()
