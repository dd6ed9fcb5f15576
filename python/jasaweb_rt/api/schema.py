"""The viewer of the OpenAPI schema, for those who ask for a page; programs get the schema itself."""

from collections.abc import Callable
from typing import Any

from litestar import Request, Response

from jasaweb_rt.api.web_files import COMMON_HEADERS, WebFiles

__all__ = ["viewer"]

_JSON = ("application/json", "application/vnd.oai.openapi+json")
_HTML = "text/html"
# The viewer's style sheet holds its pictures; styles that its script sets on elements need no permission.
_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)


def viewer(web_files: WebFiles) -> Callable[[Request[Any, Any, Any]], Response[bytes] | None]:
    """What answers `/schema` before the schema does (`before_request`): the page, where that is preferred to JSON."""

    def answer(request: Request[Any, Any, Any]) -> Response[bytes] | None:
        if request.scope["path"].rstrip("/") != "/schema" or request.accept.best_match([*_JSON, _HTML]) != _HTML:
            return None
        file = web_files.find("templates/schema.html")
        headers = {**COMMON_HEADERS, "Content-Security-Policy": _POLICY, "Cache-Control": "no-store", "Vary": "Accept"}
        return Response(file.content, headers=headers, media_type=file.media_type)

    return answer
