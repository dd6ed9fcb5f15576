"""Self-hosted real-time notifications: any committed INSERT is a push.

- `FanoutServer`: the core alone, with no web app and no database;
- `Realtime`: what services call, for durable and direct sends;
- `RealtimePlugin`: the server inside a Litestar application of yours;
- `create_app`: the whole web application;
- `Hooks`: functions of yours that are called when something has happened.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jasaweb_rt._core import FanoutServer
    from jasaweb_rt.app import create_app
    from jasaweb_rt.hooks import Hooks
    from jasaweb_rt.plugin import RealtimePlugin
    from jasaweb_rt.realtime import Realtime

__all__ = ["FanoutServer", "Hooks", "Realtime", "RealtimePlugin", "create_app"]

_HOMES = {
    "FanoutServer": "jasaweb_rt._core",
    "Hooks": "jasaweb_rt.hooks",
    "Realtime": "jasaweb_rt.realtime",
    "RealtimePlugin": "jasaweb_rt.plugin",
    "create_app": "jasaweb_rt.app",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  # what it is depends on the name
    # Imported on first use: who wants the core alone need not load a web framework.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
