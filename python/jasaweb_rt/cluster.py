"""A node's link to the others: what is asked of it before one reads, and what is looked at when it was broken.

NATS forgets what nobody hears, so a frame of another node may be lost wherever a link breaks, and PostgreSQL is the log
from which it is made good. While the link is down that is looked at every second.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from jasaweb_rt._core import ClusterEvent, FanoutServer
from jasaweb_rt.exceptions import ServerStoppedError

__all__ = ["ClusterLink", "Told"]

logger = logging.getLogger(__name__)

_FENCE_SECONDS = 2.0
_COMPARE_WHILE_DOWN = 1.0
# Of the time that a comparison took: where there are very many to compare, most of the time is kept for the rest.
_COMPARE_PAUSE = 4.0
# NATS servers learn of a subscription from each other, within milliseconds where they are well.
_SETTLE_SECONDS = 1.0


class Told(NamedTuple):
    """What a session was told when it was answered."""

    head_seq: int
    rev: int


class ClusterLink:
    """The link of one node. Everything here belongs to one event loop."""

    def __init__(self, server: FanoutServer, *, is_configured: bool) -> None:
        """Without a cluster (`is_configured` false) there is no link, nothing to wait for, and nothing to make good."""
        self._server = server
        self.is_configured = is_configured
        self._is_up = asyncio.Event()
        if not is_configured:
            self._is_up.set()
        self._compare_wanted = asyncio.Event()
        self._newcomers: dict[str, Told] = {}
        self._newcomers_wanted = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """Whether frames of other nodes come in, as far as is known. Always so without a cluster."""
        return self._is_up.is_set()

    async def fence(self) -> bool:
        """Waits until NATS has what was subscribed and published before; False where it did not say so in 2 s."""
        if not self.is_configured:
            return True
        try:
            # It blocks, so not on this loop.
            return self.is_up and await asyncio.to_thread(self._server.fence, _FENCE_SECONDS)
        except ServerStoppedError:
            return False

    def take(self, event: ClusterEvent) -> None:
        """The core tells that the link was lost, or is there again, or that something may have been missed."""
        if event.connected != self.is_up:
            level = logging.INFO if event.connected else logging.WARNING
            logger.log(
                level, "the cluster %s: %s", "is in reach" if event.connected else "is out of reach", event.reason
            )
        if event.connected:
            self._is_up.set()
        else:
            self._is_up.clear()
        self._compare_wanted.set()

    async def up_within(self, seconds: float) -> bool:
        """Waits until there is a link, so long at most; whether there is one."""
        try:
            async with asyncio.timeout(None if self.is_up else seconds):
                await self._is_up.wait()
        except TimeoutError:
            pass
        return self.is_up

    def compare_soon(self) -> None:
        """Another node says that something may have been missed."""
        self._compare_wanted.set()

    def joined(self, user_id: str, told: Told) -> None:
        """A session was told this; what came to other NATS servers meanwhile may have passed it by."""
        if self.is_configured:
            self._note(user_id, told)
            self._newcomers_wanted.set()

    def _note(self, user_id: str, told: Told) -> None:
        """Of several sessions of a user, the one that was told least may lack most."""
        before = self._newcomers.get(user_id, told)
        self._newcomers[user_id] = Told(min(before.head_seq, told.head_seq), min(before.rev, told.rev))

    async def run(self, compare: Callable[[], Awaitable[None]]) -> None:
        """Has everything compared after each trouble, and every second while the link is down; until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(None if self.is_up else _COMPARE_WHILE_DOWN):
                    await self._compare_wanted.wait()
            except TimeoutError:
                pass
            self._compare_wanted.clear()
            began = loop.time()
            try:
                await self.fence()
                began = loop.time()
                await compare()
            except BaseException:
                self._compare_wanted.set()
                raise
            await asyncio.sleep(_COMPARE_PAUSE * (loop.time() - began))

    async def run_newcomers(self, compare: Callable[[Mapping[str, Told]], Awaitable[None]]) -> None:
        """Has users compared once more, a second after their first session was answered; until cancelled."""
        while True:
            await self._newcomers_wanted.wait()
            self._newcomers_wanted.clear()
            told, self._newcomers = self._newcomers, {}
            try:
                await asyncio.sleep(_SETTLE_SECONDS)
                await compare(told)
            except BaseException:
                for user_id, least in told.items():
                    self._note(user_id, least)
                self._newcomers_wanted.set()
                raise
