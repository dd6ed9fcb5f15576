"""What hooks are told, on its way from a gateway to an application that runs apart: encoded, published, and read.

At most once, as hooks are told anyway, and to one of the applications that listen. A secret has no business in NATS: of
a `refresh` the token is withheld.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from jasaweb_rt.domain.events import DomainEvent
from jasaweb_rt.exceptions import RealtimeError
from jasaweb_rt.hooks import ConnectionClosed, ConnectionOpened, Event, FrameCarriedOut
from jasaweb_rt.messages import ClientMessage, Refresh

__all__ = ["WITHHELD", "EventPublisher", "decode", "encode"]

WITHHELD = "withheld"
"""Stands for the token of a `Refresh`."""


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


_TYPES: dict[str, Any] = {kind.__name__: kind for kind in (ConnectionOpened, ConnectionClosed)}
_TYPES |= {kind.__name__: kind for kind in _subclasses(DomainEvent)}
_TYPES |= {kind.__name__: FrameCarriedOut[kind] for kind in _subclasses(ClientMessage)}  # type: ignore[valid-type]  # each by itself


def encode(event: Event) -> bytes:
    """An event as bytes: JSON of the name of its class, or of its frame's, and the event."""
    if isinstance(event, FrameCarriedOut):
        if isinstance(event.message, Refresh):
            event = msgspec.structs.replace(event, message=Refresh(token=WITHHELD))
        return msgspec.json.encode((type(event.message).__name__, event))
    return msgspec.json.encode((type(event).__name__, event))


def decode(data: bytes) -> Event:
    """The event that `encode` made `data` of. ValueError: another version did, and it cannot be read."""
    kind, raw = msgspec.json.decode(data, type=tuple[str, msgspec.Raw])
    if kind not in _TYPES:
        raise ValueError(f"there is no event {kind!r}")
    event: Event = msgspec.json.decode(raw, type=_TYPES[kind])
    return event


class EventPublisher:
    """Hands events to NATS. `emit` may be called from any thread; it neither waits nor raises."""

    def __init__(self, publish: Callable[[bytes], bool]) -> None:
        """`publish` is `FanoutServer.publish_event`."""
        self._publish = publish
        self.dropped = 0
        """Events that could not be handed on: there was no link, or too much waited to leave."""

    def emit(self, event: Event) -> None:
        """Publishes an event, or counts it as dropped."""
        try:
            is_sent = self._publish(encode(event))
        except RealtimeError:
            is_sent = False
        if not is_sent:
            self.dropped += 1
