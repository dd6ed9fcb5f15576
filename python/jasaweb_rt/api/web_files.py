"""The files that pages are made of, as they go out: gzipped where the browser takes that.

All are read into memory and compressed once, so that no path can lead out of the folder and no request has to wait.
"""

import functools
import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from litestar import Request
from litestar.exceptions import NotFoundException

__all__ = ["COMMON_HEADERS", "Representation", "WebFile", "WebFiles", "accepts_gzip"]

_MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
_COMPRESSED_ALREADY = {"image/png", "image/webp", "font/woff2"}
_WEB = Path(__file__).parent.parent / "web"
COMMON_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
"""Of every page and file."""


class Representation(NamedTuple):
    """One form of a file (RFC 9110 section 3.2)."""

    content: bytes
    etag: str
    """Strong validator (RFC 9110 section 8.8.3): no two forms share it."""
    headers: dict[str, str]
    """How it is coded, and that this depended on the request."""


class WebFile(msgspec.Struct, frozen=True):
    """A file as it is served."""

    content: bytes
    media_type: str
    etag: str
    """That of the plain form."""
    gzipped: bytes | None
    """None where it saves nothing."""

    @classmethod
    def of(cls, content: bytes, media_type: str) -> "WebFile":
        """Works out what goes with the content."""
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        gzipped = None if media_type in _COMPRESSED_ALREADY else gzip.compress(content, 9, mtime=0)
        return cls(content, media_type, etag, gzipped if gzipped and len(gzipped) < len(content) else None)

    def for_request(self, request: Request[Any, Any, Any]) -> Representation:
        """The form that the client takes."""
        if self.gzipped is None:
            return Representation(self.content, self.etag, {})
        vary = {"Vary": "Accept-Encoding"}
        if accepts_gzip(", ".join(request.headers.getall("accept-encoding", []))):
            etag = f'{self.etag.removesuffix(chr(34))}-gzip"'
            return Representation(self.gzipped, etag, {**vary, "Content-Encoding": "gzip"})
        return Representation(self.content, self.etag, vary)


class WebFiles:
    """What lies below a folder, by path relative to it, with `/`."""

    def __init__(self, folder: Path = _WEB) -> None:
        self._files = _read(folder)

    def find(self, name: str) -> WebFile:
        """The file of that name.

        Raises:
            NotFoundException: there is none.
        """
        if (file := self._files.get(name)) is None:
            raise NotFoundException
        return file


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether this `Accept-Encoding` takes gzip (RFC 9110 section 12.5.3): by name or by `*`, and not with weight 0."""
    weights: dict[str, float] = {}
    for item in accept_encoding.lower().split(","):
        coding, _, parameter = item.partition(";")
        weights[coding.strip()] = _weight(parameter.strip())
    return weights.get("gzip", weights.get("*", 0)) > 0


def _weight(parameter: str) -> float:
    if not parameter:
        return 1
    name, _, value = parameter.partition("=")
    try:
        return float(value) if name.strip() == "q" else 0
    except ValueError:
        return 0  # not understood: the plain form is always right


@functools.cache
def _read(folder: Path) -> Mapping[str, WebFile]:
    return {
        path.relative_to(folder).as_posix(): WebFile.of(path.read_bytes(), media_type)
        for path in sorted(folder.rglob("*"))
        if (media_type := _MEDIA_TYPES.get(path.suffix)) and path.is_file()
    }
