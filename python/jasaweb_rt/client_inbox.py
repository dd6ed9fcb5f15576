"""Pages of the inbox, for a client to whom the server does not replay what it missed."""

import asyncio
import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from jasaweb_rt.client_rules import RealtimeClientError, after_refusal

__all__ = ["InboxPages", "Page", "PageFetcher"]

Page = dict[str, Any]
"""The answer of `GET /api/notifications`: `items`, `headSeq`, `unread`, `rev`."""

PageFetcher = Callable[[int, int], Awaitable[Page]]
"""Fetches the page of the inbox after a `seq`, with at most so many items: `await fetch_page(after, limit)`. What it
raises ends the iteration, but for `OSError` (time-outs are one) and `DatabaseUnavailableError`, after which it is asked
again."""

_TIMEOUT_SECONDS = 10.0
_BODY_SECONDS = 30.0
_SCHEMES = {"ws": "http", "wss": "https", "http": "http", "https": "https"}


class InboxPages:
    """A `PageFetcher` over HTTP, by a session of the site; the requests run on threads."""

    def __init__(
        self, url: str, session: str | Callable[[], Awaitable[str]], *, tls: ssl.SSLContext | None = None
    ) -> None:
        """Sets up without a request.

        Args:
            url: the `connectionUrl` of the token route, or `http:` or `https:` and what stands before `/api`.
            session: a session JWT, or a function that is asked for one before each request.
            tls: for `wss:` and `https:`, whom to trust; None: the authorities of the system.

        Raises:
            ValueError: `url` is not such a URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise ValueError(f"{url!r} is not a ws:, wss:, http: or https: URL")
        path = parts.path.rstrip("/").removesuffix("/ws") + "/api/notifications"
        self.url = urlunsplit((_SCHEMES[parts.scheme], parts.netloc, path, "", ""))
        """Address of the route, without a query."""
        self._session = session
        # A redirect would take the session along to wherever it leads.
        self._opener = urllib.request.build_opener(_NoRedirects, urllib.request.HTTPSHandler(context=tls))

    async def __call__(self, after: int, limit: int) -> Page:
        """The page after the `seq` `after`, of at most `limit` items.

        Raises:
            OSError: no answer, or one that another try may better.
            RealtimeClientError: the session is refused (401), or there is no such route.
        """
        session = self._session if isinstance(self._session, str) else await self._session()
        return await asyncio.to_thread(self._get, f"{self.url}?{urlencode({'after': after, 'limit': limit})}", session)

    def _get(self, url: str, session: str) -> Page:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {session}"})  # noqa: S310  # checked
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                body = _read_in_time(answer)
        except urllib.error.HTTPError as refused:
            refused.close()
            if after_refusal(refused.code, None).do == "stop":
                raise RealtimeClientError(
                    f"The inbox cannot be read ({refused.code} {refused.reason}).", refused.code, refused.reason
                ) from None
            raise
        except http.client.HTTPException as broken:
            raise ConnectionError(f"the answer of {url} is not whole: {broken}") from broken
        try:
            page = json.loads(body)
        except ValueError:
            page = None
        if not isinstance(page, dict) or "items" not in page:
            # Something before the server has answered, a proxy or the log-in of a network.
            raise ConnectionError(f"what answered {url} is not the inbox, or not all of it")
        return page


def _read_in_time(answer: http.client.HTTPResponse) -> bytes:
    """The body, which may take no longer than 30 s: the socket's time-out alone would let it trickle for ever."""
    end = time.monotonic() + _BODY_SECONDS
    pieces = []
    while piece := answer.read1():
        pieces.append(piece)
        if time.monotonic() > end:
            raise TimeoutError(f"the inbox took more than {_BODY_SECONDS:.0f} s to arrive")
    return b"".join(pieces)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None
