"""The pages, and the files that they name."""

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlencode

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect

from jasaweb_rt.api.addresses import connection_url
from jasaweb_rt.api.web_files import COMMON_HEADERS, WebFile, WebFiles
from jasaweb_rt.database.users import User
from jasaweb_rt.services import Services

__all__ = ["PagesController", "StaticController"]


class StaticController(Controller):
    """Scripts, styles and images."""

    path = "/static"
    include_in_schema = False
    opt = {"any_query": True, "exclude_from_auth": True, "exclude_from_csrf": True}  # noqa: RUF012  # Litestar's own way

    @get("/{file_path:path}")
    async def static_file(
        self, request: Request[Any, Any, Any], file_path: FromPath[PurePosixPath], web_files: NamedDependency[WebFiles]
    ) -> Response[bytes]:
        """Serves a file, or 304 where the client has it already."""
        file = web_files.find(f"static/{file_path.as_posix().lstrip('/')}")
        # Asked for each time, answered by 304 mostly: a new version is never mixed with an old one.
        content, etag, coding = file.for_request(request)
        headers = {**COMMON_HEADERS, **coding, "ETag": etag, "Cache-Control": "no-cache"}
        if _names(request.headers.get("if-none-match", ""), etag):
            headers.pop("Content-Encoding", None)  # of the content, which is not here
            return Response(b"", status_code=304, headers=headers, media_type=file.media_type)
        return Response(content, headers=headers, media_type=file.media_type)


class PagesController(Controller):
    """Log-in page, client dashboard and the page for administrators."""

    include_in_schema = False
    opt = {"any_query": True}  # noqa: RUF012  # Litestar's own way

    @get("/")
    async def index(self) -> Redirect:
        """Sends to the dashboard."""
        return Redirect("/client/dashboard", status_code=302)

    @get("/login")
    async def login(
        self,
        request: Request[User | None, Any, Any],
        services: NamedDependency[Services],
        web_files: NamedDependency[WebFiles],
    ) -> Response[bytes] | Redirect:
        """Shows the log-in page, or sends those on who are signed in."""
        if request.user is not None:
            return Redirect("/client/dashboard", status_code=302)
        file = web_files.find("templates/login.html")
        if services.demo:
            file = WebFile.of(file.content.replace(b'data-demo="false"', b'data-demo="true"'), file.media_type)
        return _page(request, services, file)

    @get("/client/dashboard")
    async def dashboard(
        self,
        request: Request[User | None, Any, Any],
        services: NamedDependency[Services],
        web_files: NamedDependency[WebFiles],
    ) -> Response[bytes] | Redirect:
        """Shows the client dashboard, or sends those away first who are not signed in."""
        if request.user is None:
            return Redirect(f"/login?{urlencode({'next': '/client/dashboard'})}", status_code=302)
        return _page(request, services, web_files.find("templates/dashboard.html"))

    @get("/admin/realtime")
    async def admin(
        self,
        request: Request[User | None, Any, Any],
        services: NamedDependency[Services],
        web_files: NamedDependency[WebFiles],
    ) -> Response[bytes] | Redirect:
        """Shows the page for administrators; sends clients to their dashboard, and nobody to the log-in first."""
        if request.user is None:
            return Redirect(f"/login?{urlencode({'next': '/admin/realtime'})}", status_code=302)
        if request.user.role != "admin":
            return Redirect("/client/dashboard", status_code=302)
        return _page(request, services, web_files.find("templates/admin.html"))


def _page(request: Request[Any, Any, Any], services: Services, file: WebFile) -> Response[bytes]:
    socket = connection_url(request, services.settings).removesuffix("/ws")
    policy = (
        f"default-src 'self'; connect-src 'self' {socket}/; object-src 'none'; base-uri 'none'; form-action 'self';"
        " frame-ancestors 'none'"
    )
    content, _, coding = file.for_request(request)
    headers = {**COMMON_HEADERS, **coding, "Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return Response(content, headers=headers, media_type=file.media_type)


def _names(if_none_match: str, etag: str) -> bool:
    # RFC 9110 section 13.1.2: a list of tags, compared weakly, or "*".
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]
