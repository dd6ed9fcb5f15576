"""The way to a socket: a connection token for a session. The socket itself is the core's."""

from typing import Any

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency

from jasaweb_rt.api.addresses import connection_url
from jasaweb_rt.api.errors import SIGNED_IN, ErrorBody, documented
from jasaweb_rt.auth import connection_token
from jasaweb_rt.auth.guards import must_be_signed_in
from jasaweb_rt.auth.session_jwt import SessionClaims
from jasaweb_rt.database.users import User
from jasaweb_rt.messages import timestamp
from jasaweb_rt.services import Services

__all__ = ["WebSocketController"]


class TokenBody(msgspec.Struct, frozen=True, rename="camel"):
    """What a client needs to connect."""

    token: str
    expires_at: str
    connection_url: str

    @classmethod
    def issue(
        cls, user: User, *, secret: str, session_exp: int | None, session_id: str | None = None, url: str
    ) -> "TokenBody":
        """A new token of `user`, to be brought to `url`, for a session that ends at `session_exp` (Unix time)."""
        issued = connection_token.issue(
            user_id=user.id,
            role=user.role,
            name=user.name,
            secret=secret,
            session_exp=session_exp,
            session_id=session_id,
        )
        return cls(token=issued.token, expires_at=timestamp(issued.expires_at), connection_url=url)


class WebSocketController(Controller):
    """Token and upgrade."""

    tags = ["websocket"]  # noqa: RUF012  # Litestar's own way

    @post(
        "/api/websocket/token",
        status_code=200,
        guards=[must_be_signed_in],
        security=SIGNED_IN,
        # The guide's clients send no CSRF header here, and a foreign page cannot read the answer.
        exclude_from_csrf=True,
        cache_control=CacheControlHeader(no_store=True),
        responses=documented(400, 401),
    )
    async def issue_token(
        self, request: Request[User, SessionClaims, Any], services: NamedDependency[Services]
    ) -> TokenBody:
        """Issues a connection token for the caller, who has `users`' word for role and existence."""
        settings = services.settings
        return TokenBody.issue(
            request.user,
            secret=services.keys.current.token_secret,
            session_exp=request.auth.exp,
            session_id=request.auth.session_id,
            url=connection_url(request, settings),
        )

    @get(
        "/ws",
        exclude_from_auth=True,
        exclude_from_csrf=True,
        any_query=True,
        status_code=426,
        responses=documented(426),
    )
    async def upgrade_required(self) -> Response[ErrorBody]:
        """Answers what is not an upgrade; upgrades never come this far."""
        headers = {"Upgrade": "websocket", "Connection": "Upgrade"}  # RFC 9110 section 15.5.22
        return Response(ErrorBody(error="Upgrade required"), status_code=426, headers=headers)
