"""Log-in and log-out for use without the JasaWeb site."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.datastructures import CacheControlHeader, Cookie
from litestar.di import NamedDependency
from litestar.params import JSONBody

from jasaweb_rt.api.addresses import is_own_origin, is_secure
from jasaweb_rt.api.errors import EMPTY, SIGNED_IN, documented
from jasaweb_rt.auth import session_jwt
from jasaweb_rt.auth.guards import must_be_signed_in
from jasaweb_rt.auth.session_jwt import SessionClaims
from jasaweb_rt.database import sessions, users
from jasaweb_rt.database.users import User
from jasaweb_rt.exceptions import ForbiddenError, UnauthenticatedError
from jasaweb_rt.services import Services

__all__ = ["AuthController"]


class LogIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who wants to sign in."""

    email: Annotated[str, msgspec.Meta(min_length=1, max_length=320, pattern=r"^[^\x00]+$")]
    password: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class UserBody(msgspec.Struct, frozen=True):
    """A user, as shown to themselves."""

    id: str
    email: str
    name: str
    role: str

    @classmethod
    def of(cls, user: User) -> "UserBody":
        """As it goes out."""
        return cls(id=user.id, email=user.email, name=user.name, role=user.role)


class AuthController(Controller):
    """Begins and ends sessions."""

    path = "/api/auth"
    tags = ["session"]  # noqa: RUF012  # Litestar's own way
    cache_control = CacheControlHeader(no_store=True)

    @post(
        "/login",
        status_code=200,
        exclude_from_auth=True,
        exclude_from_csrf=True,
        responses=documented(400, 401, 403, 413, 415),
    )
    async def log_in(
        self, request: Request[Any, Any, Any], data: JSONBody[LogIn], services: NamedDependency[Services]
    ) -> Response[UserBody]:
        """Signs a user in by e-mail and password.

        It has no CSRF token yet, so it demands what a foreign page cannot send: JSON, and an `Origin` that is ours.
        """
        settings = services.settings
        if not is_own_origin(request, settings):
            raise ForbiddenError("Log-in needs an Origin header that names this server")
        user = await self._user_of(data, services, "" if request.client is None else request.client.host)
        if user is None:
            raise UnauthenticatedError("E-mail or password is wrong")
        services.login_limits.begin_session(user.id)
        token = session_jwt.issue(
            user_id=user.id, email=user.email, name=user.name, role=user.role, secret=services.keys.current.jwt_secret
        )
        return Response(
            UserBody.of(user),
            cookies=[self._cookie(request, services, token, session_jwt.SESSION_SECONDS)],
        )

    @get("/me", guards=[must_be_signed_in], security=SIGNED_IN, responses=documented(400, 401))
    async def me(self, request: Request[User, Any, Any]) -> UserBody:
        """Says who the caller is."""
        return UserBody.of(request.user)

    @post("/logout", status_code=204, responses=documented(400, 403) | EMPTY)
    async def log_out(
        self, request: Request[User | None, SessionClaims, Any], services: NamedDependency[Services]
    ) -> Response[None]:
        """Ends the session: its JWT is worth nothing from now on, its sockets are closed with 4001.

        Other sessions of the user stay.
        """
        if request.user is not None:
            ended = request.auth
            async with services.connection() as connection:
                await sessions.end(connection, ended.id, ended.session_id, ended.exp)
        # A page of another origin cannot send the cookie, and shall not be able to have it removed either.
        has_cookie = services.settings.session_cookie in request.cookies
        return Response(None, status_code=204, cookies=[self._cookie(request, services, "", 0)] if has_cookie else [])

    @staticmethod
    async def _user_of(log_in: LogIn, services: Services, address: str) -> User | None:
        """Whose e-mail and password these are. It takes as long whether there is such a user or not."""
        services.login_limits.begin(address, log_in.email)
        is_wrong = False
        try:
            async with services.connection() as connection:
                found = await users.find_credentials(connection, log_in.email)
            is_wrong = not await services.passwords.matches(log_in.password, found.password_hash, found.another_hash)
            return None if is_wrong else found.user
        finally:
            if not is_wrong:
                services.login_limits.give_back(address, log_in.email)

    @staticmethod
    def _cookie(request: Request[Any, Any, Any], services: Services, value: str, max_age: int) -> Cookie:
        return Cookie(
            key=services.settings.session_cookie,
            value=value,
            max_age=max_age,
            path="/",
            httponly=True,
            samesite="lax",
            secure=is_secure(request, services.settings),
        )
