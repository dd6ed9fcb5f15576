"""What others may import. A change here is a change of the contract or of docs/embedding.md."""

import importlib
import inspect
import subprocess
import sys

import msgspec
import pytest

from jasaweb_rt import hooks
from jasaweb_rt.domain import events
from jasaweb_rt.messages import ClientMessage

DOMAIN_EVENTS = {
    "AdminsAlerted",
    "AnnouncementMade",
    "BroadcastMade",
    "InvoiceStatusChanged",
    "NotificationsRead",
    "ProjectStatusChanged",
    "UserMessageSent",
}
CLIENT_MESSAGES = {
    "Ack",
    "AdminAlertRequest",
    "AnnouncementRequest",
    "ProjectUpdateRequest",
    "Read",
    "Refresh",
    "UserMessageRequest",
}
SURFACE = {
    "jasaweb_rt": {"FanoutServer", "Hooks", "Realtime", "RealtimePlugin", "create_app"},
    "jasaweb_rt.hooks": {"ConnectionClosed", "ConnectionOpened", "DomainEvent", "Event", "FrameCarriedOut", "Hooks"}
    | DOMAIN_EVENTS,
    "jasaweb_rt.plugin": {"Identify", "Identity", "RealtimePlugin"},
    "jasaweb_rt.realtime": {"Frame", "NewNotification", "NotificationType", "Realtime", "Role"},
    "jasaweb_rt.client": {
        "FilePosition",
        "Frame",
        "InboxPages",
        "Page",
        "PageFetcher",
        "Position",
        "PositionStore",
        "RealtimeClient",
        "RealtimeClientError",
        "TokenProvider",
    },
}


@pytest.mark.parametrize("module", SURFACE)
def test_what_a_module_offers(module: str) -> None:
    imported = importlib.import_module(module)
    assert set(imported.__all__) == SURFACE[module]
    for name in imported.__all__:
        assert getattr(imported, name) is not None
    with pytest.raises(AttributeError):
        _ = imported.nothing_of_this_name


def test_every_event_is_public_frozen_and_explained() -> None:
    assert {event.__name__ for event in events.DomainEvent.__subclasses__()} == DOMAIN_EVENTS
    assert {message.__name__ for message in ClientMessage.__subclasses__()} == CLIENT_MESSAGES
    connection_events: list[type[msgspec.Struct]] = [
        hooks.ConnectionOpened,
        hooks.ConnectionClosed,
        hooks.FrameCarriedOut,
    ]
    for struct in [*connection_events, *events.DomainEvent.__subclasses__()]:
        assert struct.__struct_config__.frozen
        assert getattr(hooks, struct.__name__) is struct
        assert inspect.getdoc(struct)


def test_the_core_alone_loads_no_web_framework() -> None:
    names = "litestar", "asyncpg", "uvicorn"
    script = f"import sys, jasaweb_rt; jasaweb_rt.FanoutServer; print([n for n in {names} if n in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert ended.stdout == "[]\n"
