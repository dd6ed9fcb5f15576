"""The NATS servers of a cluster: whether each takes us, lets us through, takes what we send, and knows the others."""

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from jasaweb_rt._core import ClusterClient
from jasaweb_rt.config import PREFIX, Settings
from jasaweb_rt.doctor.configuration import is_loopback
from jasaweb_rt.doctor.findings import Finding, Verdict

__all__ = ["look"]

_PORT: Final = 4222
_SECONDS: Final = 5.0
_GREETING_BYTES: Final = 65_536
_DURABLE_BYTES: Final = 64 * 1024 + 2048
"""The largest durable frame, with what stands before it and its user's id."""
_USUAL_PAYLOAD: Final = 1024 * 1024


def look(settings: Settings) -> Iterator[Finding]:
    """Connects to each server of `settings` by itself; says nothing where there are none."""
    greetings = {}
    for url in settings.nats_url:
        parts = urlsplit(url)
        where = f"{parts.hostname}:{parts.port or _PORT}"
        try:
            greetings[where] = _greeting(parts.hostname or "", parts.port or _PORT)
        except (OSError, ValueError) as error:
            yield _finding(
                "wrong", f"{where} is no NATS server that answers ({error or 'no greeting'}); see {PREFIX}NATS_URL"
            )
            continue
        yield from _server(settings, url, where, greetings[where])
    yield from _together(greetings)


def _greeting(host: str, port: int) -> dict[str, Any]:
    """What a server says of itself to whoever connects, before TLS. OSError, ValueError: it does not."""
    with socket.create_connection((host, port), timeout=_SECONDS) as connection, connection.makefile("rb") as lines:
        first = lines.readline(_GREETING_BYTES)
    if not first.startswith(b"INFO "):
        raise ValueError("something else answers")
    said: dict[str, Any] = json.loads(first.removeprefix(b"INFO "))
    return said


def _server(settings: Settings, url: str, where: str, greeting: dict[str, Any]) -> Iterator[Finding]:
    with contextlib.ExitStack() as stack:
        try:
            client = ClusterClient([url], settings.nats_credentials, settings.nats_ca)
            stack.callback(client.close)
            client.connect(_SECONDS)
        except (ConnectionError, ValueError) as error:
            # The core names its arguments, and an operator knows variables.
            text = re.sub(r"\bnats_[a-z]+", lambda name: PREFIX + name[0].upper(), str(error))
            yield _finding("wrong", f"{where}: {text}")
            return
        if not client.fence(_SECONDS):
            yield _finding(
                "wrong",
                f"{where} takes us, and does not send back what we say to ourselves; let this user publish and "
                "subscribe to jasaweb_rt.>",
            )
            return
    yield _finding("ok", f"{where} takes us and echoes, version {greeting.get('version')}")
    if not greeting.get("tls_required") and not is_loopback(urlsplit(url).hostname or ""):
        yield _finding(
            "advice", f"what is sent to {where} can be read on the way; have NATS speak TLS, or keep that network apart"
        )
    most = int(greeting.get("max_payload", 0))
    if most < _DURABLE_BYTES:
        yield _finding(
            "wrong",
            f"{where} takes messages of {most:,} bytes, and a frame may have {_DURABLE_BYTES:,}; raise max_payload",
        )
    elif most < _USUAL_PAYLOAD:
        yield _finding(
            "advice",
            f"{where} takes messages of {most:,} bytes, and larger frames that are sent directly stay on one server; "
            f"raise max_payload to {_USUAL_PAYLOAD}",
        )


def _together(greetings: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    """What servers say that have to be one."""
    if len(greetings) < 2:
        return
    clusters = {where: greeting.get("cluster") for where, greeting in greetings.items()}
    each = ", ".join(f"{where} {name or 'none'}" for where, name in clusters.items())
    if None in clusters.values():
        yield _finding("wrong", f"not all belong to a cluster ({each}); give them one name and routes to each other")
    elif len(set(clusters.values())) > 1:
        yield _finding(
            "advice",
            f"they belong to different clusters ({each}); unless gateways of NATS join these, give them one name",
        )
    versions = sorted({str(greeting.get("version")) for greeting in greetings.values()})
    if len(versions) > 1:
        yield _finding("advice", f"they are of different versions ({', '.join(versions)}); bring them to one")


def _finding(verdict: Verdict, text: str) -> Finding:
    return Finding(verdict, "nats", text)
