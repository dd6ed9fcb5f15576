"""Client frames: taken in turn, checked, and carried out or refused by an `error` frame; the socket stays open."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from jasaweb_rt._core import ClientFrame, FanoutServer
from jasaweb_rt.database.errors import is_timeout, is_unavailable
from jasaweb_rt.exceptions import (
    ConflictError,
    ForbiddenError,
    InvalidFrameError,
    InvalidInputError,
    NotFoundError,
    RealtimeError,
    ServerStoppedError,
)
from jasaweb_rt.hooks import FrameCarriedOut
from jasaweb_rt.messages import ClientMessage, decode_client_frame, error_frame
from jasaweb_rt.sparing_log import SparingLog

__all__ = ["WORKERS", "Dispatch", "Handlers"]

logger = logging.getLogger(__name__)

WORKERS = 4
"""How many frames are carried out at once, each of another user."""

_MAX_WAITING = 10_000
_HANDLING_SECONDS = 5.0


class Handlers(Protocol):
    """What frames do."""

    async def carry_out(self, frame: ClientFrame, message: ClientMessage, ref: str | None) -> None:
        """Does what `message`, which is the checked content of `frame`, asks for; or raises, and nothing was done."""


class Dispatch:
    """Hands frames to their handlers: a user's one after another, and users in turn, so that nobody waits for another.

    A handler that fails, or takes longer than 5 s, is done with; the sender is told. Everything here belongs to one
    event loop.
    """

    def __init__(
        self, server: FanoutServer, handlers: Handlers, emit: Callable[[FrameCarriedOut[ClientMessage]], None]
    ) -> None:
        """`emit` is told of each frame that was carried out; it neither waits nor fails."""
        self._emit = emit
        self._server = server
        self._handlers = handlers
        # A user is in `_turns`, once, or has a frame being carried out, for as long as they have an entry here.
        self._waiting: dict[str, deque[ClientFrame]] = {}
        self._turns: asyncio.Queue[str] = asyncio.Queue()
        self._count = 0
        self._log = SparingLog(logger)
        self.refused = 0
        """Frames that found too many waiting; their senders were told."""

    def put(self, frame: ClientFrame) -> None:
        """Queues a frame; where too many wait, its sender is told to try again."""
        if self._count >= _MAX_WAITING:
            self.refused += 1
            self._tell(frame, error_frame("overloaded", "The server is busy; try again later"))
            return
        self._count += 1
        if frame.user_id in self._waiting:
            self._waiting[frame.user_id].append(frame)
        else:
            self._waiting[frame.user_id] = deque([frame])
            self._turns.put_nowait(frame.user_id)

    async def run(self) -> None:
        """Carries out frames until it is cancelled; as many calls at once as there are `WORKERS`."""
        while True:
            user_id = await self._turns.get()
            frames = self._waiting[user_id]
            try:
                await self._handle(frames[0])
            finally:
                frames.popleft()
                self._count -= 1
                if frames:
                    self._turns.put_nowait(user_id)
                else:
                    del self._waiting[user_id]

    async def _handle(self, frame: ClientFrame) -> None:
        kind, ref = "client", None
        try:
            kind, message, ref = decode_client_frame(frame.frame)
            async with asyncio.timeout(_HANDLING_SECONDS):
                await self._handlers.carry_out(frame, message, ref)
            self._emit(
                FrameCarriedOut(connection_id=frame.connection_id, user_id=frame.user_id, message=message, ref=ref)
            )
        except InvalidFrameError as error:
            self._refuse(frame, error_frame(error.code, error.message, error.ref or ref))
        except InvalidInputError as error:
            self._refuse(frame, error_frame("invalid_data", str(error), ref))
        except ForbiddenError as error:
            self._refuse(frame, error_frame("forbidden", str(error), ref))
        except NotFoundError as error:
            self._refuse(frame, error_frame("not_found", str(error), ref))
        except ServerStoppedError:
            raise
        except ConflictError as error:
            self._tell(frame, error_frame("conflict", str(error), ref))
        except Exception as error:
            # Not the client's fault, so it is told and not counted against it.
            if _passes(error):
                self._log.log(
                    logging.WARNING, f"a {kind} frame could not be carried out: {error or type(error).__name__}"
                )
                self._tell(frame, error_frame("unavailable", "Try again later", ref))
            else:
                logger.exception("a %s frame could not be carried out", kind)
                self._tell(frame, error_frame("internal", "Internal server error", ref))

    def _refuse(self, frame: ClientFrame, answer: bytes) -> None:
        with contextlib.suppress(RealtimeError):
            self._server.refuse(frame.connection_id, answer)

    def _tell(self, frame: ClientFrame, answer: bytes) -> None:
        # Where not even this can be sent, the frames that wait are none the worse.
        with contextlib.suppress(RealtimeError):
            self._server.send(frame.connection_id, answer)


def _passes(error: Exception) -> bool:
    """Whether the same frame may do better later."""
    return isinstance(error, RealtimeError | TimeoutError) or is_timeout(error) or is_unavailable(error)
