"""The whole web application, as one Litestar object."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from typing import Any

from litestar import Litestar, Request, Response, Router
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from jasaweb_rt.api.admin import AdminController
from jasaweb_rt.api.auth import AuthController
from jasaweb_rt.api.errors import exception_handlers
from jasaweb_rt.api.health import HealthController
from jasaweb_rt.api.invoices import InvoicesController
from jasaweb_rt.api.metrics import MetricsController
from jasaweb_rt.api.notifications import NotificationsController
from jasaweb_rt.api.pages import PagesController, StaticController
from jasaweb_rt.api.payments import PaymentsController
from jasaweb_rt.api.projects import ProjectsController
from jasaweb_rt.api.schema import viewer
from jasaweb_rt.api.schemas import StrictBodySchemas
from jasaweb_rt.api.strictness import StrictRequest, must_ask_what_is_known
from jasaweb_rt.api.traces import TracesController
from jasaweb_rt.api.user_messages import UserMessagesController
from jasaweb_rt.api.web_files import WebFiles
from jasaweb_rt.api.websocket import WebSocketController
from jasaweb_rt.auth.authentication import SessionAuthentication
from jasaweb_rt.auth.cookies import PlainCookies
from jasaweb_rt.auth.csrf import CookieCSRF
from jasaweb_rt.auth.keys import KeyRing
from jasaweb_rt.auth.session_jwt import SessionClaims
from jasaweb_rt.config import Settings
from jasaweb_rt.database import sessions
from jasaweb_rt.database.users import User
from jasaweb_rt.hooks import Hooks
from jasaweb_rt.services import Services, open_services
from jasaweb_rt.vitals import Vitals

__all__ = ["create_app"]

_MAX_BODY_BYTES = 1_000_000


def create_app(settings: Settings, *, services: Services | None = None, hooks: Hooks | None = None) -> Litestar:
    """Builds the application.

    Args:
        settings: what it is configured by; every key and limit is taken from here.
        services: what was started already and is stopped by the caller; without it the application opens its own at
            startup, against `settings.database_url`, and stops it at shutdown.
        hooks: who is told of what happens, on the application's event loop; not together with `services`, whose
            node has its own.

    Raises:
        ValueError: both `services` and `hooks` are given.
    """
    if services is not None and hooks is not None:
        raise ValueError("give the hooks to the node of the services, or let the application open its own")
    web_files = WebFiles()
    return Litestar(
        route_handlers=[
            AdminController,
            AuthController,
            HealthController,
            InvoicesController,
            MetricsController,
            NotificationsController,
            PagesController,
            PaymentsController,
            ProjectsController,
            StaticController,
            TracesController,
            UserMessagesController,
            WebSocketController,
        ],
        guards=[must_ask_what_is_known],
        request_class=StrictRequest,
        middleware=[
            PlainCookies(),
            SessionAuthentication(settings.session_cookie, _find_keys, _find_user),
            # As the session's cookie: see `is_secure`.
            CookieCSRF(_find_keys, always_secure=(settings.public_url or "").startswith("https://")),
        ],
        dependencies={
            "services": Provide(_services, sync_to_thread=False),
            "vitals": Provide(_vitals, sync_to_thread=False),
            "web_files": Provide(lambda: web_files, sync_to_thread=False),
        },
        exception_handlers=exception_handlers,
        lifespan=[] if services else [_own_services(settings, hooks)],
        state=State({"services": services}),
        plugins=[StrictBodySchemas()],
        openapi_config=_openapi(settings, web_files),
        request_max_body_size=_MAX_BODY_BYTES,
        logging_config=None,
        debug=False,
        pdb_on_exception=False,
    )


def _own_services(settings: Settings, hooks: Hooks | None) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with open_services(settings, hooks) as services:
            app.state.services = services
            yield

    return lifespan


def _services(request: Request[Any, Any, Any]) -> Services:
    services: Services = request.app.state.services
    return services


def _vitals(request: Request[Any, Any, Any]) -> Vitals:
    return _services(request).vitals


def _find_keys(connection: ASGIConnection[Any, Any, Any, Any]) -> KeyRing:
    services: Services = connection.app.state.services
    return services.keys


async def _find_user(connection: ASGIConnection[Any, Any, Any, Any], claims: SessionClaims) -> User | None:
    services: Services = connection.app.state.services
    async with services.connection() as database:
        return await sessions.find_user(database, claims.id, claims.session_id)


def _openapi(settings: Settings, web_files: WebFiles) -> OpenAPIConfig:
    return OpenAPIConfig(
        title="JasaWeb real-time notifications",
        version=version("jasaweb-rt"),
        render_plugins=[JsonRenderPlugin()],
        use_handler_docstrings=True,
        # The viewer is ours: those that Litestar brings have inline scripts, and load others from a foreign host.
        openapi_router=Router(
            "/schema",
            route_handlers=[],
            include_in_schema=False,
            opt={"any_query": True, "exclude_from_auth": True, "exclude_from_csrf": True},
            before_request=viewer(web_files),
            after_request=_not_found_in_our_shape,
        ),
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT"),
                "cookie": SecurityScheme(type="apiKey", name=settings.session_cookie, security_scheme_in="cookie"),
            }
        ),
    )


async def _not_found_in_our_shape(response: Response[Any]) -> Response[Any]:
    # Litestar answers an unknown path below /schema by a page of its own.
    if response.status_code == 404:
        raise NotFoundException
    response.set_header("Vary", "Accept")
    return response
