"""Keys that are replaced while the server runs: read anew, checked, and put to use together, or all stays as it was."""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from jasaweb_rt.auth.connection_token import LIFETIME_SECONDS
from jasaweb_rt.config import Keys
from jasaweb_rt.exceptions import ConfigurationError
from jasaweb_rt.node import Node

__all__ = ["KeyRotation"]

logger = logging.getLogger(__name__)

_ACCEPTED_SECONDS = LIFETIME_SECONDS
"""How long a derived key is accepted behind the next one: then no token is left that it signed."""


class KeyRotation:
    """Replaces the keys of a running node, which a web application asks for them. Belongs to one event loop."""

    def __init__(self, load: Callable[[], Keys], node: Node) -> None:
        """`load` reads and checks the keys; it may block, and raises `ConfigurationError` where one is of no use."""
        self._load = load
        self._node = node
        self._loaded = node.keys.current
        self._forgetting: asyncio.TimerHandle | None = None

    async def run(self, wanted: asyncio.Event) -> None:
        """Reads the keys again whenever `wanted` is set, until it is cancelled."""
        try:
            while True:
                await wanted.wait()
                wanted.clear()
                await self.read_again()
        finally:
            if self._forgetting is not None:
                self._forgetting.cancel()

    async def read_again(self) -> None:
        """Reads the keys and puts them to use. Where that fails it is logged, and the present ones stay."""
        try:
            keys = await asyncio.to_thread(self._load)
        except ConfigurationError as error:
            logger.error("the keys stay as they are: %s", error)
            return
        changed = [
            name.upper() for name in Keys.__struct_fields__ if getattr(keys, name) != getattr(self._loaded, name)
        ]
        if not changed:
            logger.info("the keys were read again; they are the same")
            return
        before, self._loaded = self._loaded, keys
        if self._forgetting is not None:
            self._forgetting.cancel()
            self._forgetting = None
        # Nobody can configure the one before a derived key, so it is remembered for as long as its tokens live.
        if (
            keys.token_secret_previous is None
            and before.derives_token_secret
            and before.token_secret != keys.token_secret
        ):
            both = msgspec.structs.replace(keys, token_secret_previous=before.token_secret)
            self._node.replace_keys(both)
            self._forgetting = asyncio.get_running_loop().call_later(_ACCEPTED_SECONDS, self._node.replace_keys, keys)
        else:
            self._node.replace_keys(keys)
        logger.warning("the keys were read again; replaced: %s", ", ".join(changed))
