"""Client frames: checked, and carried out or refused by an `error` frame; the socket stays open."""

import asyncio
import contextlib
import logging
import time

import asyncpg

from jasaweb_rt._core import ClientFrame, FanoutServer, verify_token
from jasaweb_rt.database import notifications
from jasaweb_rt.database.pool import Connect
from jasaweb_rt.exceptions import InvalidFrameError, RealtimeError
from jasaweb_rt.messages import Ack, ClientMessage, Read, Refresh, decode_client_frame, error_frame

__all__ = ["Dispatch"]

logger = logging.getLogger(__name__)

_MAX_WAITING = 10_000


class Dispatch:
    """Carries out client frames, one after another. `put` and `run` belong to one event loop."""

    def __init__(
        self, connect: Connect, server: FanoutServer, token_secret: str, token_secret_previous: str | None
    ) -> None:
        self._connect = connect
        self._server = server
        self._secret = token_secret
        self._previous_secret = token_secret_previous
        self._waiting: asyncio.Queue[ClientFrame] = asyncio.Queue(_MAX_WAITING)

    def put(self, frame: ClientFrame) -> None:
        """Queues a frame; where too many wait, its sender is told to try again."""
        try:
            self._waiting.put_nowait(frame)
        except asyncio.QueueFull:
            self._tell(frame.connection_id, error_frame("overloaded", "The server is busy; try again later"))

    async def run(self) -> None:
        """Carries out frames until it is cancelled."""
        while True:
            frame = await self._waiting.get()
            try:
                await self._handle(frame)
            except InvalidFrameError as error:
                self._server.refuse(frame.connection_id, error_frame(error.code, error.message, error.ref))

    async def _handle(self, frame: ClientFrame) -> None:
        kind, message, ref = decode_client_frame(frame.frame)
        try:
            await self._carry_out(frame, kind, message, ref)
        except InvalidFrameError:
            raise
        except (RealtimeError, asyncpg.PostgresError) as error:
            # Not the client's fault, so it is told and not counted against it.
            self._tell(frame.connection_id, error_frame("unavailable", "Try again later", ref))
            logger.warning("a %s frame could not be carried out: %s", kind, error)

    def _tell(self, connection_id: str, frame: bytes) -> None:
        # Where not even this can be sent, nothing else of the frames that wait may suffer.
        with contextlib.suppress(RealtimeError):
            self._server.send(connection_id, frame)

    async def _carry_out(self, frame: ClientFrame, kind: str, message: ClientMessage, ref: str | None) -> None:
        match message:
            case Read():
                await self._mark_read(frame.user_id, message)
            case Refresh():
                self._refresh(frame, message, ref)
            case Ack():
                # A hint for the message log, which this version does not keep; the pong barrier needs no help.
                pass
            case _:
                raise InvalidFrameError("not_supported", f"This server does not take frames of type {kind}", ref)

    async def _mark_read(self, user_id: str, message: Read) -> None:
        async with self._connect() as connection:
            if isinstance(message.ids, list):
                await notifications.mark_read_ids(connection, user_id, message.ids)
            elif isinstance(message.up_to, int):
                await notifications.mark_read_up_to(connection, user_id, message.up_to)

    def _refresh(self, frame: ClientFrame, message: Refresh, ref: str | None) -> None:
        try:
            user_id, _, _, session_end = verify_token(
                message.token, self._secret, previous=self._previous_secret, now=time.time()
            )
        except ValueError:
            raise InvalidFrameError("invalid_token", "The token is not valid", ref) from None
        if user_id != frame.user_id:
            raise InvalidFrameError("invalid_token", "The token is another user's", ref)
        self._server.extend_session(frame.connection_id, session_end)
