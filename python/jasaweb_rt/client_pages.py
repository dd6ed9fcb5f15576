"""Catching up by pages: what a client missed comes from the inbox, and what comes meanwhile is held back."""

import asyncio
import logging
from collections import deque
from typing import Any

from jasaweb_rt.client_inbox import Page, PageFetcher
from jasaweb_rt.client_rules import backoff
from jasaweb_rt.exceptions import DatabaseUnavailableError

__all__ = ["MAX_HELD", "RETRIED", "CatchUp", "Frame", "NoProgressError", "Pager"]

logger = logging.getLogger(__name__)

Frame = dict[str, Any]
"""A frame as it came."""

MAX_HELD = 256
"""Live frames that are held back at most; more of them are read by a further page instead."""

RETRIED = (OSError, DatabaseUnavailableError)
"""What a token provider or a page fetcher may raise to be asked again."""

_PAGE_ITEMS = 200
_PAGE_SECONDS = 30.0


class NoProgressError(Exception):
    """The inbox ends before a `seq` that the server has told of: it is not the same feed any more."""


class CatchUp:
    """How far a client has come that reads by pages what a socket did not replay. No I/O."""

    def __init__(self, after: int, goal: int) -> None:
        """Begins.

        Args:
            after: `seq` up to which the client has everything.
            goal: `seq` up to which the pages are to be read; what lies beyond comes by the socket.
        """
        self.after = after
        self.goal = goal
        self._held: list[Frame] = []
        self._looked = False

    @property
    def done(self) -> bool:
        """Whether the pages have reached the goal. The first one is always read, for its counts."""
        return self._looked and self.after >= self.goal

    def hold(self, frame: Frame) -> None:
        """Keeps a live frame until the pages are read, or has the pages go on past it."""
        self._held.append(frame)
        if len(self._held) > MAX_HELD:
            self.extend(frame["seq"])

    def extend(self, goal: int) -> None:
        """The pages are to be read up to `goal`, too."""
        self.goal = max(self.goal, goal)
        self._held = [frame for frame in self._held if frame["seq"] > self.goal]

    def take(self, page: Page) -> list[Frame]:
        """The frames of the page after `after`, which moves on.

        Raises:
            NoProgressError: there is nothing after `after`, though there should be.
        """
        frames = [_frame_of(item, page) for item in page["items"] if item["seq"] > self.after]
        # Where nothing is left, the rest was deleted.
        reached = frames[-1]["seq"] if frames else page["headSeq"]
        if reached <= self.after < self.goal:
            raise NoProgressError(f"the inbox ends at {reached}, and {self.goal} was told")
        self._looked = True
        self.after = max(self.after, reached)
        return frames

    def release(self) -> list[Frame]:
        """What was held back, in order."""
        held, self._held = self._held, []
        return held


class Pager:
    """A client's catch-up, from a `resync` to the last page: one page at a time, and the next when it is handed out.

    It begins, takes in and gives out at once; what takes time is a task that the client waits for beside its socket.
    """

    def __init__(self, fetch_page: PageFetcher) -> None:
        self._fetch_page = fetch_page
        self._catch_up: CatchUp | None = None
        self._ready: deque[Frame] = deque()
        self._task: asyncio.Task[Page] | None = None
        self._failures = 0

    def begin(self, after: int, goal: int) -> None:
        """Reads from `after` to `goal`; what was read before and not given out is forgotten."""
        self.stop()
        self._catch_up = CatchUp(after, goal)

    def stop(self) -> None:
        """Forgets everything."""
        self._catch_up = None
        self._ready.clear()
        self._failures = 0
        if self._task is not None:
            drop(self._task)
            self._task = None

    def extend(self, goal: int) -> bool:
        """Goes on up to `goal`; false where nothing is being read."""
        if self._catch_up is None:
            return False
        self._catch_up.extend(goal)
        return True

    def hold(self, frame: Frame) -> bool:
        """Holds a live frame back; false where nothing is being read."""
        if self._catch_up is None:
            return False
        self._catch_up.hold(frame)
        return True

    def next_frame(self) -> Frame | None:
        """The next frame of the pages that are here."""
        return self._ready.popleft() if self._ready else None

    def finish(self) -> tuple[int, list[Frame]] | None:
        """Once everything is given out: how far the pages reached, and what was held back. None before that."""
        catch_up = self._catch_up
        if catch_up is None or self._ready or not catch_up.done:
            return None
        self._catch_up = None
        return catch_up.after, catch_up.release()

    def under_way(self) -> asyncio.Task[Page] | None:
        """The next page, which it begins to fetch where it has not; None where nothing is being read."""
        if self._catch_up is not None and self._task is None:
            delay = backoff(self._failures - 1) if self._failures else 0
            self._task = asyncio.create_task(self._fetch(self._catch_up.after, delay))
        return self._task

    def take(self, task: asyncio.Task[Page]) -> Page | None:
        """Takes in the page that was under way; None where it is to be fetched again, or is of no use any more.

        Raises:
            NoProgressError: as `CatchUp.take`.
            Exception: what the page fetcher raised, but for `RETRIED`.
        """
        if task is not self._task or self._catch_up is None:
            return None
        self._task = None
        try:
            page = task.result()
        except RETRIED as error:
            logger.info("no page of the inbox: %s", error)
            self._failures += 1
            return None
        self._failures = 0
        self._ready.extend(self._catch_up.take(page))
        return page

    async def _fetch(self, after: int, delay: float) -> Page:
        await asyncio.sleep(delay)
        async with asyncio.timeout(_PAGE_SECONDS):
            return await self._fetch_page(after, _PAGE_ITEMS)


def drop(task: asyncio.Task[Any]) -> None:
    """Ends a task of which nobody will ask how it ended."""
    task.cancel()
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())


def _frame_of(item: dict[str, Any], page: Page) -> Frame:
    """An item as the frame that the socket would have brought, and `readAt`; its counts are the page's."""
    data = {} if item["data"] is None else item["data"]
    return {
        "type": item["type"],
        "data": {"title": item["title"], "message": item["message"], **data}
        if isinstance(data, dict)
        else {"truncated": True},
        "timestamp": item["createdAt"],
        "id": item["id"],
        "seq": item["seq"],
        "unread": page["unread"],
        "rev": page["rev"],
        "readAt": item["readAt"],
    }
