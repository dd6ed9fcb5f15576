"""What a client does after `resync`: it reads what lies between two numbers by the inbox's pages."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx

from tests.simulator.truth import Seen, frame_data

_PAGE = 200
_PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Page:
    """A page of an inbox."""

    items: list[Seen]
    unread: int
    rev: int


async def inbox_pages(http: httpx.AsyncClient, after: int, through: int) -> AsyncIterator[Page]:
    """The caller's notifications with `after` < seq <= `through`, page by page; a page that fails is asked for again.

    It goes on until it is through: who calls it bounds the time.
    """
    while after < through:
        try:
            answer = await http.get("/api/notifications", params={"after": after, "limit": _PAGE})
        except httpx.HTTPError:
            await asyncio.sleep(_PAUSE_SECONDS)
            continue
        if answer.status_code >= 500:
            await asyncio.sleep(_PAUSE_SECONDS)
            continue
        page = answer.raise_for_status().json()
        items = [
            Seen(item["seq"], item["id"], item["type"], frame_data(item["title"], item["message"], item["data"]))
            for item in page["items"]
            if item["seq"] <= through
        ]
        yield Page(items, page["unread"], page["rev"])
        if len(page["items"]) < _PAGE:
            return
        after = page["items"][-1]["seq"]
